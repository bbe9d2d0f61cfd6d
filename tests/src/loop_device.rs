//! A block device of a test's own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::skip;

/// A loop device on a file that nobody sees. Dropped, it is detached.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _folder: TempDir,
}

impl LoopDevice {
    /// A device of so many bytes, made by losetup with these options. `None`, said on stderr, where it cannot be had.
    ///
    /// # Panics
    /// Where there is no room for its file.
    #[must_use]
    pub fn attach(bytes: u64, options: &[&str]) -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("disk.img");
        let created = File::create(&file).expect("the folder takes files");
        created.set_len(bytes).expect("the file may be sparse");
        let attached = run("losetup", &[&["--find", "--show"], options].concat(), &file);
        let Some(path) = attached else {
            skip::skip("it needs losetup, root and loop devices");
            return None;
        };
        Some(Self {
            path: path.into(),
            _folder: folder,
        })
    }

    /// The same, with an ext4 file system on it.
    ///
    /// # Panics
    /// As [`LoopDevice::attach`].
    #[must_use]
    pub fn formatted(bytes: u64) -> Option<Self> {
        let device = Self::attach(bytes, &[])?;
        let formatted = run("mkfs.ext4", &["-q"], &device.path).is_some();
        (formatted || skip::skip("it needs mkfs.ext4")).then_some(device)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let detached = run("losetup", &["--detach"], &self.path);
        assert!(detached.is_some() || std::thread::panicking());
    }
}

/// What a program printed, if it went well.
fn run(program: &str, options: &[&str], path: &Path) -> Option<String> {
    let mut command = Command::new(program);
    command.args(options).arg(path).stderr(Stdio::null());
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
