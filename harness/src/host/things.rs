//! What vtax makes on a host and must not outlive it. (Network links lie in namespaces that end with the process, scratch
//! files have no name: for those there is nothing to do.)

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::process::Started;
use super::root::HostRoot;

/// A control group is busy until the last process in it is gone for good.
const PATIENCE: Duration = Duration::from_secs(5);
const PERIOD: Duration = Duration::from_millis(10);

/// All control groups of vtax are called so; nothing else is removed.
pub const CGROUP_PREFIX: &str = "vtax-";

/// Something with a name that stays when vtax is killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    /// A control group: its directory, relative to the root of the file system. Its name starts with [`CGROUP_PREFIX`].
    Cgroup(String),
    /// A process.
    Process(Started),
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cgroup(path) => write!(f, "control group /{path}"),
            Self::Process(started) => write!(f, "process {}", started.pid),
        }
    }
}

impl Thing {
    /// Removes it. That it is not there any more is as well.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&self, host: &HostRoot) -> io::Result<()> {
        match self {
            Self::Cgroup(path) => remove_cgroup(host, path),
            Self::Process(started) => end(*started),
        }
    }
}

fn remove_cgroup(host: &HostRoot, path: &str) -> io::Result<()> {
    let ours = path
        .rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with(CGROUP_PREFIX));
    if !ours || path.split('/').any(|step| step == "..") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is none of vtax's",
        ));
    }
    remove_tree(&host.path(path), Instant::now() + PATIENCE)
}

/// Removes a directory of a cgroup file system and those below it; its files are the kernel's.
fn remove_tree(directory: &Path, deadline: Instant) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path(), deadline)?;
        }
    }
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.kind() != io::ErrorKind::ResourceBusy || Instant::now() > deadline =>
            {
                return Err(error);
            }
            Err(_) => std::thread::sleep(PERIOD),
        }
    }
}

/// Kills the process, and waits until it is gone. A later one with the same number is left alone.
fn end(started: Started) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(started.pid) else {
        return Ok(());
    };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Looked at only now: what the descriptor stands for cannot change any more.
    if !started.runs() {
        return Ok(());
    }
    match pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    let patience = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
    match poll(&mut ended, Some(&patience))? {
        0 => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not end")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::host::fake::Tree;

    #[test]
    fn the_process_is_ended_and_none_that_took_its_number() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let started = Started::of(i32::try_from(child.id()).unwrap()).unwrap();
        let other = Started {
            start_ticks: started.start_ticks + 1,
            ..started
        };
        let host = HostRoot::default();
        Thing::Process(other).remove(&host).unwrap();
        assert!(started.runs());
        Thing::Process(started).remove(&host).unwrap();
        assert!(!child.wait().unwrap().success());
        Thing::Process(started).remove(&host).unwrap();
    }

    #[test]
    fn only_groups_of_vtax_are_removed() {
        let tree = Tree::new(&[
            ("sys/fs/cgroup/cpu/vtax-7/below/", ""),
            ("sys/fs/cgroup/cpu/system.slice/", ""),
        ]);
        let host = tree.root();
        let remove = |path: &str| Thing::Cgroup(path.to_owned()).remove(&host);
        remove("sys/fs/cgroup/cpu/vtax-7").unwrap();
        assert!(!host.exists("sys/fs/cgroup/cpu/vtax-7"));
        remove("sys/fs/cgroup/cpu/vtax-7").unwrap();
        assert!(remove("sys/fs/cgroup/cpu/system.slice").is_err());
        assert!(remove("sys/fs/cgroup/vtax-7/../cpu/vtax-8").is_err());
        assert!(host.exists("sys/fs/cgroup/cpu/system.slice"));
    }
}
