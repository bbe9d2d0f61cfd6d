//! What the user sees while a run goes on: a bar on stderr.
//!
//! It is drawn between boots only, by the thread that is waiting anyway: a ticking thread would disturb the blocks.

use std::fmt::Display;
use std::io::Write as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// Nothing but errors.
    Quiet,
    /// A bar where stderr is a terminal.
    Bar,
    /// A line for every boot.
    Verbose,
}

/// The progress of one run.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    talk: Talk,
}

impl Progress {
    /// Nothing is drawn before [`Progress::start`].
    #[must_use]
    pub fn new(talk: Talk) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(
            ProgressStyle::with_template(
                "{elapsed_precise} {wide_bar} {pos}/{len} boots, {eta} left  {msg}",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self { bar, talk }
    }

    /// What events cost on this host is being measured.
    pub fn calibrating(&self) {
        const WHAT: &str = "measuring what exits, faults and switches cost on this host (1 s)";
        match self.talk {
            Talk::Quiet => {}
            Talk::Bar => {
                self.bar.set_draw_target(ProgressDrawTarget::stderr());
                self.bar.set_message(WHAT);
                self.bar.tick();
            }
            Talk::Verbose => line(WHAT),
        }
    }

    /// The run begins, with this many boots in its pilot.
    pub fn start(&self, boots: u64) {
        if self.talk == Talk::Bar {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.reset();
        self.bar.set_length(boots);
    }

    /// A boot begins; `left` are still to come, itself included.
    pub fn boot(&self, label: &str, left: u64) {
        self.bar.set_length(self.bar.position() + left);
        self.bar.set_message(label.to_owned());
        if self.talk == Talk::Verbose {
            line(&format!(
                "boot {}/{}: {label}",
                self.bar.position() + 1,
                self.bar.position() + left
            ));
        }
        self.bar.inc(1);
    }

    /// A cell or an experiment failed and is over.
    pub fn failed(&self, label: &str, error: &dyn Display) {
        self.bar.suspend(|| line(&format!("{label}: {error}")));
    }

    /// Something that the user must know.
    pub fn say(&self, what: &str) {
        self.bar.suspend(|| line(&format!("vtax: {what}")));
    }

    /// The run is over.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A line on stderr. A terminal that has gone takes none, and the run goes on, or to its end, all the same.
fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
