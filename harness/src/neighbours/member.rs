//! One neighbour as its parent sees it: a process, its control group, its page of counts.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use vtax_scenarios::plan::Neighbour;

use super::page::{Page, Word};
use super::process::{COMMAND, LACKING, READY};
use super::{Around, CrowdError, Orders, Progress};
use crate::host::cgroups::{Cgroups, Group, Limits};
use crate::host::cpu_time::process_cpu_nanos;
use crate::host::io_weight::IoWeight;
use crate::host::root::HostRoot;

/// How long a neighbour may take to be at work: filling many GiB takes seconds, on a crowded host longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers the control groups of this process.
static GROUPS: AtomicU32 = AtomicU32::new(0);

/// A neighbour.
#[derive(Debug)]
pub struct Member {
    plan: Neighbour,
    copy: u32,
    cpu: Option<u32>,
    child: Child,
    /// What it says: that it is ready, and why it ends.
    voice: BufReader<ChildStderr>,
    page: Page,
    /// Whether this side has killed it.
    killed: bool,
    /// Removed after the process: dropped last.
    group: Option<Group>,
}

impl Member {
    /// Starts the process and gives it its orders; it is not ready yet.
    pub(super) fn spawn(
        plan: &Neighbour,
        copy: u32,
        own_seed: u64,
        around: &Around<'_>,
    ) -> Result<Self, CrowdError> {
        let io_weight = plan
            .io_weight
            .map(|weight| IoWeight::under(&HostRoot::default(), around.scratch, weight));
        let limits = Limits {
            cpu_weight: plan.cpu_weight,
            cpu_quota: plan.cpu_quota,
            cpus: plan.cpuset.clone(),
            memory: plan.memory_limit,
            io_weight: io_weight.transpose().map_err(|error| CrowdError::Lacking {
                name: plan.name.clone(),
                reason: error.to_string(),
            })?,
        };
        let name = Cgroups::name(GROUPS.fetch_add(1, Ordering::Relaxed));
        let group = around.cgroups.make(&name, &limits)?;
        let cpu = plan.cpu_of(copy, around.guest_cpus);
        let orders = Orders {
            plan: Neighbour {
                count: 1,
                ..plan.clone()
            },
            cpu,
            entrances: group.as_ref().map(Group::entrances).unwrap_or_default(),
            scratch: around.scratch.to_path_buf(),
            common_seed: around.seed,
            own_seed,
            parent: std::process::id(),
        };
        let begin = || -> io::Result<_> {
            let (page, file) = Page::new()?;
            let mut child = Command::new(around.program)
                .arg0("vtax")
                .arg(COMMAND)
                // Its own process group: a terminal's Ctrl-C is for the run, which ends its neighbours itself.
                .process_group(0)
                .stdin(Stdio::piped())
                .stdout(file)
                .stderr(Stdio::piped())
                .spawn()?;
            let voice = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
            let member = Self {
                plan: plan.clone(),
                copy,
                cpu,
                child,
                voice: BufReader::new(voice),
                page,
                killed: false,
                group,
            };
            Ok(member)
        };
        let process = |source| CrowdError::Process {
            name: plan.name.clone(),
            source,
        };
        let mut member = begin().map_err(process)?;
        let text = serde_json::to_string(&orders).map_err(|error| process(error.into()))?;
        if let Some(mut stdin) = member.child.stdin.take() {
            // One that has ended already says why on its stderr.
            let _ = writeln!(stdin, "{text}");
        }
        Ok(member)
    }

    /// Waits until it is at work.
    pub(super) fn await_ready(&mut self) -> Result<(), CrowdError> {
        let deadline = Instant::now() + PATIENCE;
        let voice = self.voice.get_ref();
        let mut heard = false;
        while !heard && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| self.silent())?;
            let mut listening = [PollFd::new(voice, PollFlags::IN)];
            match poll(&mut listening, Some(&left)) {
                Ok(ready) => heard = ready > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    return Err(CrowdError::Process {
                        name: self.plan.name.clone(),
                        source: error.into(),
                    });
                }
            }
        }
        if !heard {
            return Err(self.silent());
        }
        let mut line = String::new();
        let read = self.voice.read_line(&mut line);
        if read.is_ok() && line.trim_end() == READY {
            return Ok(());
        }
        let status = self.child.wait();
        Err(self.ended(&line, status))
    }

    fn silent(&self) -> CrowdError {
        CrowdError::Silent {
            name: self.plan.name.clone(),
            process: self.process(),
            seconds: PATIENCE.as_secs(),
        }
    }

    /// What has become of it, in its own words where it had any.
    fn ended(&mut self, line: &str, status: io::Result<ExitStatus>) -> CrowdError {
        let mut words = line.to_owned();
        // What is not text is no reason.
        let _ = self.voice.read_to_string(&mut words);
        let words = words.trim().to_owned();
        let name = self.plan.name.clone();
        let status = match status {
            Ok(status) => status,
            Err(source) => return CrowdError::Process { name, source },
        };
        if status.code() == Some(LACKING) {
            return CrowdError::Lacking {
                name,
                reason: words,
            };
        }
        let reason = match status.signal() {
            Some(signal) => format!("killed by signal {signal} {words}")
                .trim_end()
                .to_owned(),
            None if words.is_empty() => status.to_string(),
            None => words,
        };
        CrowdError::Ended {
            name,
            process: self.process(),
            reason,
        }
    }

    /// Its plan.
    #[must_use]
    pub fn plan(&self) -> &Neighbour {
        &self.plan
    }

    /// Which of the plan's copies it is, from 0.
    #[must_use]
    pub fn copy(&self) -> u32 {
        self.copy
    }

    /// The CPU that it is bound to.
    #[must_use]
    pub fn cpu(&self) -> Option<u32> {
        self.cpu
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Its control group, a path for each hierarchy; none where it has no group of its own.
    #[must_use]
    pub fn cgroups(&self) -> Vec<PathBuf> {
        self.group.as_ref().map(Group::paths).unwrap_or_default()
    }

    /// What it has done so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            units: self.page.get(Word::Units),
            cpu_nanos: process_cpu_nanos(self.process())
                .map(|own| own + self.page.get(Word::CpuNanos)),
            faults: self.page.get(Word::Faults),
            starts: self.page.get(Word::Starts),
            escapes: self.page.get(Word::Escapes),
        }
    }

    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.killed = true;
        self.child.wait().map(drop)
    }

    /// Stops its process where it is, until [`Member::go_on`].
    ///
    /// # Errors
    /// It is gone.
    pub fn hold(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets its process go on.
    ///
    /// # Errors
    /// It is gone.
    pub fn go_on(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        // Not waited for yet, so the number is still its own.
        let process = Pid::from_child(&self.child);
        Ok(kill_process(process, signal)?)
    }

    /// Kills it and does not wait.
    pub(super) fn strike(&mut self) {
        // Fails where it has ended already.
        let _ = self.child.kill();
    }

    pub(super) fn check(&mut self) -> Result<(), CrowdError> {
        if self.killed {
            return Ok(());
        }
        match self.child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => return Err(self.ended("", Ok(status))),
            Err(error) => return Err(self.ended("", Err(error))),
        }
        let escapes = self.page.get(Word::Escapes);
        if escapes > 0 {
            return Err(CrowdError::Ended {
                name: self.plan.name.clone(),
                process: self.process(),
                reason: format!("its guest reached memory beyond its own {escapes} times"),
            });
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.strike();
        // Its group can be removed once it is gone.
        let _ = self.child.wait();
    }
}
