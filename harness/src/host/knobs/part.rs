//! One place on the host that a knob is made of.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vtax_scenarios::plan::Obstacle;

use super::super::root::{HostRoot, ReadError};
use super::{AS_ROOT, paging};

/// The kernel may take a moment to free pages of a guest that has just ended: for so long, and so long apart, a value that
/// did not come out as written is written again. A write that takes longer is not: the kernel has looked everywhere.
const PATIENCE: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(40);

/// Why a part does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The kernel refused the value.
    #[error("writing {text:?} to {part}: {source}")]
    Write {
        /// Where.
        part: Part,
        /// What.
        text: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel took the value and made another of it.
    #[error("{part} was set to {asked:?} and is {got:?}; {remedy}")]
    Adjusted {
        /// Where.
        part: Part,
        /// What was written.
        asked: String,
        /// What it holds now.
        got: String,
        /// What may help.
        remedy: &'static str,
    },
    /// A module could not be loaded anew.
    #[error("loading the module {module} anew: {what}")]
    Module {
        /// Its name.
        module: String,
        /// What went wrong, with what modprobe said.
        what: String,
    },
    /// A journal names something that is no part of a knob.
    #[error("{:?} is nothing that vtax would have set", .0.0)]
    Unknown(Part),
}

/// A file under /sys or /proc, relative to the root; or what a module takes only when it is loaded: a parameter
/// (`module:kvm_intel:ept`), or all of them (`module:kvm_intel`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Part(String);

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.module() {
            Some((module, Some(name))) => write!(f, "parameter {name} of the module {module}"),
            Some((module, None)) => write!(f, "parameters of the module {module}"),
            None => write!(f, "/{}", self.0),
        }
    }
}

impl Part {
    /// The file at `path`, relative to the root.
    pub(crate) fn file(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// A parameter that a module takes only when it is loaded.
    pub(super) fn parameter(module: &str, name: &str) -> Self {
        Self(format!("module:{module}:{name}"))
    }

    /// All parameters that a module takes only when it is loaded.
    pub(super) fn parameters(module: &str) -> Self {
        Self(format!("module:{module}"))
    }

    /// The module, and the parameter unless it stands for all of them.
    pub(super) fn module(&self) -> Option<(&str, Option<&str>)> {
        let module = self.0.strip_prefix("module:")?;
        let one = module
            .split_once(':')
            .map(|(module, name)| (module, Some(name)));
        Some(one.unwrap_or((module, None)))
    }

    /// The file's path, relative to the root.
    pub(super) fn path(&self) -> &str {
        &self.0
    }

    /// Whether it can be a file of a knob at all: what a damaged journal names must not be written to.
    fn known(&self) -> bool {
        let file = ["sys/", "proc/"]
            .iter()
            .any(|root| self.0.starts_with(root));
        file && !self.0.split('/').any(|step| step == "..")
    }

    /// Whether the kernel goes towards a new number one by one, for as long as that takes, and may stay on the way: it
    /// allocates huge pages until it finds no more memory for one (Documentation/admin-guide/mm/hugetlbpage.rst).
    #[must_use]
    pub fn is_reached_in_steps(&self) -> bool {
        self.0.ends_with("/nr_hugepages")
    }

    /// Whether it is still there: interrupts and CPUs come and go. A module that is not loaded can be loaded again.
    #[must_use]
    pub fn exists(&self, host: &HostRoot) -> bool {
        self.module().is_some() || host.exists(&self.0)
    }

    /// What it holds: of a choice such as `always [madvise] never`, the word in brackets.
    ///
    /// # Errors
    /// It is not there, or may not be read.
    pub fn read(&self, host: &HostRoot) -> Result<String, ReadError> {
        if let Some((module, name)) = self.module() {
            return paging::read(host, module, name);
        }
        let text = host.text(&self.0)?;
        if text.contains('[') {
            host.selected(&self.0)
        } else {
            Ok(text)
        }
    }

    /// Makes a file hold `text`, and makes sure that it does.
    ///
    /// # Errors
    /// [`PartError`].
    pub fn write(&self, host: &HostRoot, text: &str) -> Result<(), PartError> {
        if !self.known() {
            return Err(PartError::Unknown(self.clone()));
        }
        let start = Instant::now();
        let got = loop {
            self.write_once(host, text)
                .map_err(|source| PartError::Write {
                    part: self.clone(),
                    text: text.to_owned(),
                    source,
                })?;
            let got = self.read(host)?;
            if got == text {
                return Ok(());
            }
            if start.elapsed() >= PATIENCE {
                break got;
            }
            std::thread::sleep(PAUSE);
        };
        Err(PartError::Adjusted {
            part: self.clone(),
            asked: text.to_owned(),
            got,
            remedy: if self.is_reached_in_steps() {
                "fewer: memory is in use or in pieces, so free some, compact it (echo 1 > /proc/sys/vm/compact_memory) or \
                 reserve pages at boot; more: the pages are in use"
            } else {
                "the kernel takes no such value here"
            },
        })
    }

    /// One write, as the kernel wants it: no file is made, and a fake one shrinks to what is written.
    fn write_once(&self, host: &HostRoot, text: &str) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(host.path(&self.0))?;
        io::Write::write_all(&mut &file, format!("{text}\n").as_bytes())
    }

    /// Why this user cannot change it, if so; `elsewise` is how else it can be set.
    pub(crate) fn obstacle(&self, host: &HostRoot, elsewise: &str) -> Option<Obstacle> {
        if let Some((module, _)) = self.module() {
            return paging::obstacle(host, module);
        }
        let fixed = || Obstacle {
            reason: format!("{self} cannot be changed while this kernel runs"),
            remedy: elsewise.to_owned(),
        };
        let path = host.path(&self.0);
        // Root may open what is read-only for all, and is refused at the write.
        let writable = fs::metadata(&path).is_ok_and(|of| of.permissions().mode() & 0o222 != 0);
        if !writable {
            return Some(fixed());
        }
        match OpenOptions::new().write(true).open(&path) {
            Ok(_) => None,
            Err(_) if !rustix::process::geteuid().is_root() => Some(Obstacle {
                reason: format!("{self} may not be changed by this user"),
                remedy: AS_ROOT.to_owned(),
            }),
            Err(_) => Some(fixed()),
        }
    }
}
