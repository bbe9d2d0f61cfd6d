//! What the user sees while a run goes on: a bar on stderr where that is a terminal, else a line now and then.
//!
//! It is drawn between boots only, by the thread that is waiting anyway: a ticking thread would disturb the blocks.

use std::cell::Cell;
use std::fmt::Display;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use crate::say::{self, say};

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// Nothing but errors.
    Quiet,
    /// A bar where stderr is a terminal, else a line every [`PERIOD`].
    Bar,
    /// A line for every boot.
    Verbose,
}

/// How often a log is told how far a run is.
pub const PERIOD: Duration = Duration::from_secs(10);

/// The progress of one run.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    talk: Talk,
    /// When the log was last told something, where there is no bar.
    told: Cell<Instant>,
}

impl Progress {
    /// Nothing is drawn yet.
    #[must_use]
    pub fn new(talk: Talk) -> Self {
        let target = match talk {
            // Hidden by itself where stderr is no terminal.
            Talk::Bar => ProgressDrawTarget::stderr(),
            Talk::Quiet | Talk::Verbose => ProgressDrawTarget::hidden(),
        };
        // However a run ends, no line of a bar is left behind.
        let bar = ProgressBar::with_draw_target(None, target).with_finish(ProgressFinish::AndClear);
        Self {
            bar,
            talk,
            told: Cell::new(Instant::now()),
        }
    }

    /// What events cost on this host is being measured.
    pub fn calibrating(&self) {
        const WHAT: &str = "measuring what exits, faults and switches cost on this host (1 s)";
        self.bar.set_style(style("{msg}"));
        self.bar.set_message(WHAT);
        self.bar.tick();
        if self.talk == Talk::Verbose {
            say!("{WHAT}");
        }
    }

    /// The run begins, with this many boots in its pilot. Where there are none, nothing is shown.
    pub fn start(&self, boots: u64) {
        if boots == 0 {
            self.bar.finish_and_clear();
            return;
        }
        self.bar.reset();
        self.bar.set_style(style(
            "{elapsed_precise} {wide_bar} {pos}/{len} boots, {eta} left  {msg}",
        ));
        self.bar.set_message("");
        self.bar.set_length(boots);
    }

    /// A boot begins; `left` are still to come, itself included.
    pub fn boot(&self, label: &str, left: u64) {
        let (number, all) = (self.bar.position() + 1, self.bar.position() + left);
        self.bar.set_length(all);
        self.bar.set_message(label.to_owned());
        let log = self.talk == Talk::Bar && !std::io::stderr().is_terminal();
        if self.talk == Talk::Verbose {
            say!("boot {number}/{all}: {label}");
        } else if log && self.told.get().elapsed() >= PERIOD {
            self.told.set(Instant::now());
            say!("vtax: boot {number} of {all}: {label}");
        }
        self.bar.inc(1);
    }

    /// A cell or an experiment failed and is over.
    pub fn failed(&self, label: &str, error: &dyn Display) {
        self.bar.suspend(|| say!("{label}: {error}"));
    }

    /// Something that the user must know.
    pub fn say(&self, what: &str) {
        self.bar.suspend(|| say!("vtax: {what}"));
    }

    /// The run is over.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    if say::is_ascii() {
        style.progress_chars("#> ")
    } else {
        style
    }
}
