//! Processes that are told apart from later ones with the same number.

use procfs::process::Stat;
use serde::{Deserialize, Serialize};

use super::root::{HostRoot, ReadError};

/// A process, with the time at which it started: a number alone is given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since the host booted (field 22 of proc_pid_stat(5)).
    pub start_ticks: u64,
}

impl Started {
    /// The calling process.
    ///
    /// # Errors
    /// /proc does not show it.
    pub fn this() -> Result<Self, ReadError> {
        Self::of(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// The process that has this number now.
    ///
    /// # Errors
    /// There is none, or /proc does not show it.
    pub fn of(pid: i32) -> Result<Self, ReadError> {
        let stat: Stat = HostRoot::default().parsed(&format!("proc/{pid}/stat"), "a process")?;
        Ok(Self {
            pid,
            start_ticks: stat.starttime,
        })
    }

    /// Whether it still runs. One that has ended and was not waited for does not.
    #[must_use]
    pub fn runs(&self) -> bool {
        running(&HostRoot::default(), self.pid)
            .is_some_and(|stat| stat.starttime == self.start_ticks)
    }
}

/// What the kernel says of the process that has this number, if one runs. One that has ended and was not waited for does
/// not: its entry in /proc stays for as long as its parent likes.
#[must_use]
pub fn running(host: &HostRoot, pid: i32) -> Option<Stat> {
    let stat: Stat = host.parsed(&format!("proc/{pid}/stat"), "a process").ok()?;
    (!matches!(stat.state, 'Z' | 'X')).then_some(stat)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_number_that_was_given_again_is_another_process() {
        let this = Started::this().unwrap();
        assert!(this.runs());
        let later = Started {
            start_ticks: this.start_ticks + 1,
            ..this
        };
        assert!(!later.runs());
    }

    #[test]
    fn one_that_has_ended_does_not_run() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let started = Started::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(started.runs());
        child.kill().unwrap();
        while started.runs() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!started.runs());
    }
}
