//! What vtax has changed on a host and must put back, on disk before it is done.
//!
//! ```text
//! begun     who, and in which boot of the host
//! changing  a part of a knob: what it held, and what it will hold; written and synced first, done afterwards
//! restored  no longer to be put back
//! ```
//!
//! The file exists only while there is something to put back. Each line is synced, and the directory with the first one,
//! so that after SIGKILL or a power cut the next vtax finds what to do. A torn last line stands for nothing: what it
//! announced was not done yet.
//!
//! What vtax makes needs no journal: network links lie in namespaces that end with the process, scratch files have no
//! name, neighbours die with the thread that started them, and control groups are named after their maker
//! ([`super::cgroups::Cgroups::sweep`]).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vtax_reports::store::whole_lines;
use vtax_scenarios::plan::Knob;

use super::knobs::Part;
use super::process::Started;
use super::root::{HostRoot, ReadError};

/// Version of the file's format.
const VERSION: u32 = 1;

/// Where the journal of root lies, so that all users see what it left.
const SYSTEM: &str = "/var/lib/vtax/host";

/// Why there is no journal, and so nothing may be changed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error(
        "cannot {action} {path}: {source}; without its journal vtax changes nothing on the host"
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It holds something that vtax never wrote.
    #[error(
        "{path}:{line} is damaged: {what}; put back what the lines above it name, and remove the file"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// There is no place for it.
    #[error(
        "neither XDG_STATE_HOME nor HOME is set, so there is no place for the journal of what vtax changes on the host"
    )]
    NoPlace,
    /// The host's boot or this process cannot be told from others.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Who writes a journal: a run, which puts everything back at its end, or `vtax host apply`, which leaves it in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `vtax run` and the like.
    Run,
    /// `vtax host apply`.
    Applied,
}

impl Origin {
    /// Both, in the order in which they are put back: a run changes what was applied before it.
    pub const BOTH: [Self; 2] = [Self::Run, Self::Applied];

    const fn file(self) -> &'static str {
        match self {
            Self::Run => "run.journal",
            Self::Applied => "applied.journal",
        }
    }
}

/// The journal's first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    version: u32,
    /// The host's boot: settings do not outlive it.
    boot_id: String,
    /// The process that wrote it.
    pub process: Started,
    /// Its user.
    pub uid: u32,
    /// Its command line.
    pub command: String,
    /// When, RFC 3339.
    pub time: String,
}

/// A part of a knob that is not as vtax found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The knob.
    pub knob: Knob,
    /// Where.
    pub part: Part,
    /// What it held.
    pub from: String,
    /// All that vtax has set it to.
    pub to: Vec<String>,
    /// Whether the kernel sets it anew of itself, so that any value is vtax's doing.
    pub any: bool,
}

impl Change {
    /// Whether the part may hold this by vtax's doing.
    #[must_use]
    pub fn explains(&self, present: &str) -> bool {
        self.any
            || self.from == present
            || self.to.iter().any(|set| set == present)
            || (self.part.is_reached_in_steps() && self.is_on_the_way(present))
    }

    /// Whether a number lies among what the part held and what vtax has set it to.
    fn is_on_the_way(&self, present: &str) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        let known = || [&self.from].into_iter().chain(&self.to);
        let (least, most) = (
            known().filter_map(|text| number(text)).min(),
            known().filter_map(|text| number(text)).max(),
        );
        number(present).is_some_and(|present| least <= Some(present) && Some(present) <= most)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begun(Begun),
    Changing {
        knob: Knob,
        part: Part,
        from: String,
        /// `None`: the kernel chooses.
        to: Option<String>,
    },
    Restored(Part),
}

/// The journal of one origin.
#[derive(Debug)]
pub struct Journal {
    /// `None`: there is no place for it.
    directory: Option<PathBuf>,
    path: PathBuf,
    host: HostRoot,
    file: Option<File>,
    begun: Option<Begun>,
    changes: Vec<Change>,
}

impl Journal {
    /// The journal of this user, with what an earlier vtax left in it.
    ///
    /// # Errors
    /// It cannot be read, or is damaged. That there is no place for it is told with the first change.
    pub fn own(host: &HostRoot, origin: Origin) -> Result<Self, JournalError> {
        match own_directory() {
            Some(directory) => Self::at(host, &directory, origin),
            None => Ok(Self::empty(host, None, origin)),
        }
    }

    fn empty(host: &HostRoot, directory: Option<PathBuf>, origin: Origin) -> Self {
        Self {
            path: directory.clone().unwrap_or_default().join(origin.file()),
            directory,
            host: host.clone(),
            file: None,
            begun: None,
            changes: Vec::new(),
        }
    }

    /// The journal in this directory. Nothing is written before the first change.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn at(host: &HostRoot, directory: &Path, origin: Origin) -> Result<Self, JournalError> {
        let mut journal = Self::empty(host, Some(directory.to_owned()), origin);
        match fs::read(&journal.path) {
            Ok(bytes) => journal.read(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(journal.io("read", source)),
        }
        Ok(journal)
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        let (whole, _torn) = whole_lines(bytes);
        for (number, line) in (1..).zip(whole.split_inclusive(|&byte| byte == b'\n')) {
            let line = serde_json::from_slice(line).map_err(|error| self.damaged(number, error))?;
            if let Line::Begun(begun) = &line
                && begun.version > VERSION
            {
                return Err(self.damaged(
                    number,
                    format!(
                        "it is of version {}, and this vtax knows {VERSION}",
                        begun.version
                    ),
                ));
            }
            self.take(line);
        }
        Ok(())
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Begun(begun) => self.begun = Some(begun),
            Line::Changing {
                knob,
                part,
                from,
                to,
            } => {
                let known = self.changes.iter().position(|change| change.part == part);
                let at = known.unwrap_or_else(|| {
                    self.changes.push(Change {
                        knob,
                        part,
                        from,
                        to: Vec::new(),
                        any: false,
                    });
                    self.changes.len() - 1
                });
                let change = &mut self.changes[at];
                change.any |= to.is_none();
                change.to.extend(to);
            }
            Line::Restored(part) => self.changes.retain(|change| change.part != part),
        }
    }

    /// Where the file is, or will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who began it, where it is on disk.
    #[must_use]
    pub fn begun(&self) -> Option<&Begun> {
        self.begun.as_ref()
    }

    /// What is not as vtax found it, in the order in which it was first changed.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether there is a file: also one that was begun and says nothing yet.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.directory.is_some() && self.path.exists()
    }

    /// Whether there is nothing to put back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether it is of an earlier boot of the host: then nothing of what it names is left.
    ///
    /// # Errors
    /// The kernel does not tell the present boot.
    pub fn is_of_earlier_boot(&self) -> Result<bool, ReadError> {
        let now = boot_id(&self.host)?;
        Ok(self
            .begun
            .as_ref()
            .is_some_and(|begun| begun.boot_id != now))
    }

    /// What is known of a part that vtax has changed.
    #[must_use]
    pub fn change(&self, part: &Part) -> Option<&Change> {
        self.changes.iter().find(|change| change.part == *part)
    }

    /// `part` holds `from` and is about to be set to `to`, or by the kernel to whatever it likes (`None`).
    ///
    /// # Errors
    /// It is not on disk, so it must not be done.
    pub fn changing(
        &mut self,
        knob: Knob,
        part: &Part,
        from: &str,
        to: Option<&str>,
    ) -> Result<(), JournalError> {
        self.write(Line::Changing {
            knob,
            part: part.clone(),
            from: from.to_owned(),
            to: to.map(str::to_owned),
        })
    }

    /// `part` is again as vtax found it, or is no longer vtax's affair.
    ///
    /// # Errors
    /// It is not on disk.
    pub fn restored(&mut self, part: &Part) -> Result<(), JournalError> {
        self.write(Line::Restored(part.clone()))
    }

    /// Removes the file, and directories that hold nothing else.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn close(&mut self) -> Result<(), JournalError> {
        self.file = None;
        self.begun = None;
        self.changes.clear();
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(self.io("remove", source)),
        }
        self.directory
            .as_deref()
            .map_or(Ok(()), sync_directory)
            .map_err(|source| self.io("sync the directory of", source))?;
        for directory in self.path.ancestors().skip(1).take(2) {
            // It stays where the audit log or other journals are.
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, line: Line) -> Result<(), JournalError> {
        if self.file.is_none() {
            self.begin()?;
        }
        self.append(&line)?;
        self.take(line);
        Ok(())
    }

    /// Opens the file, made anew or cut to its whole lines, and says who goes on with it.
    fn begin(&mut self) -> Result<(), JournalError> {
        let begun = Begun {
            version: VERSION,
            boot_id: boot_id(&self.host)?,
            process: Started::this()?,
            uid: rustix::process::getuid().as_raw(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            time: jiff::Timestamp::now().to_string(),
        };
        let directory = self.directory.clone().ok_or(JournalError::NoPlace)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&directory)
            .map_err(|source| self.io("make the directory of", source))?;
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(self.io("read", source)),
        };
        let (whole, _torn) = whole_lines(&bytes);
        let open = || -> io::Result<File> {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o644)
                .open(&self.path)?;
            file.set_len(whole.len() as u64)?;
            Ok(file)
        };
        let file = open().map_err(|source| self.io("open", source))?;
        self.file = Some(file);
        let line = Line::Begun(begun);
        self.append(&line)?;
        self.take(line);
        // The file's name must last as well as what is in it.
        directory
            .ancestors()
            .take(3)
            .try_for_each(sync_directory)
            .map_err(|source| self.io("sync the directory of", source))
    }

    fn append(&mut self, line: &Line) -> Result<(), JournalError> {
        let write = |file: &mut File| -> io::Result<()> {
            let mut text = serde_json::to_vec(line)?;
            text.push(b'\n');
            file.write_all(&text)?;
            file.sync_all()
        };
        let done = self.file.as_mut().map_or(Ok(()), write);
        done.map_err(|source| self.io("write", source))
    }

    /// The directory that it lies in; `None`: there is no place for it.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    fn io(&self, action: &'static str, source: io::Error) -> JournalError {
        JournalError::Io {
            action,
            path: self.path.clone(),
            source,
        }
    }

    fn damaged(&self, line: usize, what: impl ToString) -> JournalError {
        JournalError::Damaged {
            path: self.path.clone(),
            line,
            what: what.to_string(),
        }
    }
}

/// Where vtax keeps what belongs to this user (XDG Base Directory Specification); `None`: the environment does not say.
#[must_use]
pub fn state_directory() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))?;
    Some(state.join("vtax"))
}

/// Where this user's journals lie: root's in /var/lib/vtax/host, another's under its XDG state directory.
#[must_use]
pub fn own_directory() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from(SYSTEM));
    }
    Some(state_directory()?.join("host"))
}

/// Where journals may lie that concern this user: its own, and root's.
#[must_use]
pub fn directories() -> Vec<PathBuf> {
    let system = PathBuf::from(SYSTEM);
    own_directory()
        .into_iter()
        .filter(|own| *own != system)
        .chain([system.clone()])
        .collect()
}

fn boot_id(host: &HostRoot) -> Result<String, ReadError> {
    host.text("proc/sys/kernel/random/boot_id")
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
