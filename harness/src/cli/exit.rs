//! Exit codes, and how a failure is told.

use std::process::ExitCode;

use vtax_reports::result::{Results, Verdict};
use vtax_scenarios::ScenarioError;

use crate::run::RunError;
use crate::say::say;

/// For `vtax --help`.
pub const HELP: &str = "Exit codes: 0 ok, 1 failed, 2 usage or scenario error, 3 a claim is refuted, 4 undecided, \
     5 this host cannot do it, 130 interrupted";

/// Failed.
pub const FAILED: u8 = 1;
/// Usage or scenario error.
pub const USAGE: u8 = 2;
/// A claim is refuted.
const REFUTED: u8 = 3;
/// A claim is undecided.
const UNDECIDED: u8 = 4;
/// The host cannot do this.
pub const HOST: u8 = 5;
/// Interrupted by the user, after everything is in order.
pub const INTERRUPTED: u8 = 130;

/// Why a command ended without success.
#[derive(Debug)]
pub enum Failure {
    /// A message and the code that goes with it.
    Message(anyhow::Error, u8),
    /// Text that is already laid out (a scenario's errors with their places).
    Rendered(String, u8),
    /// The reader of stdout has gone away; nobody is left to tell.
    BrokenPipe,
}

impl Failure {
    /// Tells it on stderr.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Message(error, code) => {
                say!("vtax: {}", told(&error));
                ExitCode::from(code)
            }
            Self::Rendered(text, code) => {
                say!("{}", text.trim_end());
                ExitCode::from(code)
            }
            Self::BrokenPipe => ExitCode::SUCCESS,
        }
    }

    /// A mistake of the user's.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Message(error.into(), USAGE)
    }
}

/// The error and its causes, each once: many errors name their cause themselves.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let broken = error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
            .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe);
        if broken {
            Self::BrokenPipe
        } else {
            Self::Message(error, FAILED)
        }
    }
}

impl From<ScenarioError> for Failure {
    fn from(error: ScenarioError) -> Self {
        // stderr's own stream strips the colours where they are not wanted.
        Self::Rendered(error.render(true), USAGE)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let code = match error {
            RunError::Rig(_) => HOST,
            RunError::Directory(_) => USAGE,
            RunError::Resume(ref error) if error.is_of_host() => HOST,
            RunError::Resume(_) => USAGE,
            RunError::Store(_) | RunError::Journal(_) | RunError::Html(_) => FAILED,
        };
        Self::Message(error.into(), code)
    }
}

/// The exit code that stands for a run's results.
#[must_use]
pub fn of(results: &Results) -> u8 {
    if results.interrupted {
        INTERRUPTED
    } else if results.cells.iter().any(|cell| cell.failed)
        || results.experiments.iter().any(|it| it.failed)
    {
        FAILED
    } else {
        of_verdict(results.headline.verdict)
    }
}

/// The worse of two runs' codes: that for both.
#[must_use]
pub fn worse(one: u8, other: u8) -> u8 {
    let badness = |code: &u8| {
        let known = [0, HOST, UNDECIDED, REFUTED, FAILED];
        known.iter().position(|it| it == code).unwrap_or(usize::MAX)
    };
    std::cmp::max_by_key(one, other, badness)
}

/// The exit code that stands for a verdict.
#[must_use]
pub fn of_verdict(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Holds | Verdict::Cost => 0,
        Verdict::Refuted => REFUTED,
        Verdict::Undecided => UNDECIDED,
        Verdict::NotTestable => HOST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_runs_counts_wherever_it_stands() {
        let ordered = [0, HOST, UNDECIDED, REFUTED, FAILED, INTERRUPTED];
        for (place, &worst) in ordered.iter().enumerate() {
            for &other in &ordered[..=place] {
                assert_eq!(worse(worst, other), worst);
                assert_eq!(worse(other, worst), worst);
            }
        }
    }
}
