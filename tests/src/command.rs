//! A command line of vtax, waiting to be run.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Outcome, binary};

/// No command of a test may take longer: the longest measures for a few seconds, or waits ten for a guest that hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a running command is looked at.
const PERIOD: Duration = Duration::from_millis(10);

/// A command, in the folder and with the environment of its stage.
#[derive(Debug)]
pub struct Vtax {
    command: Command,
    /// Where stdout and stderr go. Files, so that no full pipe can block the command.
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Vtax {
    /// `wrapper` runs vtax, such as `["setpriv", "--reuid=65534"]`; empty: directly.
    pub(crate) fn new(
        program: Option<&Path>,
        folder: &Path,
        number: usize,
        wrapper: &[&str],
    ) -> Self {
        let program = program.unwrap_or_else(|| binary::vtax()).as_os_str();
        let mut words = wrapper.iter().map(OsStr::new).chain([program]);
        let mut command = Command::new(words.next().expect("there is a program at least"));
        command
            .args(words)
            .current_dir(folder)
            .env_clear()
            .env("HOME", folder)
            .stdin(Stdio::null());
        Self {
            command,
            stdout: folder.join(format!(".stdout-{number}")),
            stderr: folder.join(format!(".stderr-{number}")),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable. A command has none but HOME, which is its stage.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// Where it cannot be started or takes longer than two minutes.
    #[must_use]
    #[track_caller]
    pub fn run(self) -> Outcome {
        self.start().wait()
    }

    /// Starts it and lets it run.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn start(mut self) -> Running {
        let create = |path: &Path| File::create(path).expect("the stage takes files");
        let child = self
            .command
            .stdout(create(&self.stdout))
            .stderr(create(&self.stderr))
            .spawn()
            .unwrap_or_else(|error| panic!("{:?} cannot be started: {error}", self.command));
        Running {
            child,
            deadline: Instant::now() + PATIENCE,
            stdout: self.stdout,
            stderr: self.stderr,
        }
    }
}

/// A command that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    deadline: Instant,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Waits until `done` holds, looking a hundred times a second.
    ///
    /// # Panics
    /// Where the command ends first, or two minutes go by.
    #[track_caller]
    pub fn wait_until(&mut self, done: impl Fn() -> bool) -> &mut Self {
        while !done() {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                panic!("ended too early, {status}: {}", read(&self.stderr));
            }
            self.pause();
        }
        self
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// Where it is gone already.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) -> &mut Self {
        let id = i32::try_from(self.child.id()).expect("process ids fit");
        let pid = Pid::from_raw(id).expect("process ids are positive");
        kill_process(pid, signal).expect("the command still runs");
        self
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// Where that takes longer than two minutes from its start.
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return Outcome::new(status, read(&self.stdout), read(&self.stderr));
            }
            self.pause();
        }
    }

    #[track_caller]
    fn pause(&self) {
        assert!(
            Instant::now() < self.deadline,
            "still running after {PATIENCE:?}: {}",
            read(&self.stderr)
        );
        std::thread::sleep(PERIOD);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended and was waited for, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8(fs::read(path).expect("it was created at the start"))
        .expect("vtax prints UTF-8")
}
