//! Where a test takes place.

use std::cell::Cell;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::{RunDir, Vtax, binary, skip};

/// Tests that measure take turns, those of other checkouts on this machine included: vtax itself would refuse to measure
/// beside another. The turn is a lock on the directory of temporary files.
fn turn() -> File {
    let turn = File::open(std::env::temp_dir()).expect("there is a directory of temporary files");
    turn.lock().expect("a directory can be locked");
    turn
}

/// An empty folder that is the home and the working directory of a user who has never used vtax.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
    commands: Cell<usize>,
    _turn: Option<File>,
}

impl Stage {
    /// A stage for commands that need no KVM.
    ///
    /// # Panics
    /// Where there is no room for temporary files.
    #[must_use]
    pub fn new() -> Self {
        Self {
            folder: TempDir::new().expect("a temporary folder"),
            commands: Cell::new(0),
            _turn: None,
        }
    }

    /// A stage whose commands may measure, one stage at a time. `None`, said on stderr, where there is no KVM.
    ///
    /// # Panics
    /// Where there should be KVM and is not; see [the rules](crate).
    #[must_use]
    pub fn with_kvm() -> Option<Self> {
        skip::has_kvm().then(|| Self {
            _turn: Some(turn()),
            ..Self::new()
        })
    }

    /// A stage on which root shows vtax another machine or user. `None`, said on stderr, without root.
    #[must_use]
    pub fn as_root() -> Option<Self> {
        skip::is_root().then(|| Self {
            _turn: Some(turn()),
            ..Self::new()
        })
    }

    /// The same, whose commands may measure.
    ///
    /// # Panics
    /// As [`Stage::with_kvm`].
    #[must_use]
    pub fn as_root_with_kvm() -> Option<Self> {
        skip::is_root().then(Self::with_kvm)?
    }

    /// Whether the host has all of these files; says so where not.
    #[must_use]
    pub fn has_files(&self, files: &[&str]) -> bool {
        files.iter().all(|file| skip::has_file(file))
    }

    /// Writes a file.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> &Self {
        fs::write(self.path(name), text).expect("the stage takes files");
        self
    }

    /// Where a file of this name is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The run directory of this name.
    #[must_use]
    pub fn run_dir(&self, name: &str) -> RunDir {
        RunDir::at(self.path(name))
    }

    /// `vtax` with these arguments, separated by single spaces.
    #[must_use]
    pub fn vtax(&self, line: &str) -> Vtax {
        Vtax::new(None, self.folder.path(), self.next(), &[]).args(line.split(' '))
    }

    /// The same, run by a wrapper such as `setpriv --reuid=65534`. Any user can run that copy of vtax and write here.
    ///
    /// # Panics
    /// Where the copy cannot be made.
    #[must_use]
    pub fn vtax_under(&self, wrapper: &[&str], line: &str) -> Vtax {
        let copy = self.path("vtax");
        if !copy.exists() {
            fs::copy(binary::vtax(), &copy).expect("the stage takes files");
            let open = Permissions::from_mode(0o777);
            fs::set_permissions(self.folder.path(), open).expect("the stage is ours");
        }
        Vtax::new(Some(&copy), self.folder.path(), self.next(), wrapper).args(line.split(' '))
    }

    /// The same where SIGHUP is not ignored, as it is under nohup, which tests may be run by.
    #[must_use]
    pub fn vtax_with_hangups(&self, line: &str) -> Vtax {
        let wrapper = ["env", "--default-signal=HUP"];
        Vtax::new(None, self.folder.path(), self.next(), &wrapper).args(line.split(' '))
    }

    fn next(&self) -> usize {
        self.commands.replace(self.commands.get() + 1)
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}
