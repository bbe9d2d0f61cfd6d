//! What became of a command.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use serde_json::Value;

/// What a finished command left: its exit and what it said.
#[derive(Clone, Debug)]
pub struct Outcome {
    status: ExitStatus,
    /// Everything on stdout.
    pub stdout: String,
    /// Everything on stderr.
    pub stderr: String,
}

impl Outcome {
    /// No command of vtax may ever panic, whatever it was asked.
    pub(crate) fn new(status: ExitStatus, stdout: String, stderr: String) -> Self {
        let outcome = Self {
            status,
            stdout,
            stderr,
        };
        assert!(
            !outcome.stderr.contains("panicked at"),
            "vtax panicked: {outcome:#?}"
        );
        outcome
    }

    /// The exit code; a command that a signal killed has none.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that killed it.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// It ended with this exit code.
    ///
    /// # Panics
    /// With all that it said, where it did not.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code(), Some(code), "{self:#?}");
        self
    }

    /// Each of `texts` is somewhere on stderr.
    ///
    /// # Panics
    /// With all that it said, where one is not.
    #[track_caller]
    pub fn complains(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(
                self.stderr.contains(text),
                "stderr lacks {text:?}: {self:#?}"
            );
        }
        self
    }

    /// It printed nothing on stdout.
    ///
    /// # Panics
    /// With all that it said, where it did.
    #[track_caller]
    pub fn prints_nothing(&self) -> &Self {
        assert_eq!(self.stdout, "", "{self:#?}");
        self
    }

    /// stdout as one JSON value, with nothing around it.
    ///
    /// # Panics
    /// Where it is anything else.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is not one JSON value, {error}: {self:#?}"))
    }
}
