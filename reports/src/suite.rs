//! A suite of claims, told anew from the directories of its runs.
//!
//! ```text
//! claims.json + the run directory of each claim ──► SuiteRuns ──► the first page, the report of each run
//! ```

use std::path::{Component, Path, PathBuf};

use crate::claims::{ClaimResult, Suite};
use crate::estimate::whole;
use crate::result::Results;
use crate::store::{CLAIMS_FILE, RECORD_FILE, Run, StoreError, read as read_run, versioned};

/// A suite of claims with its runs, as their directories tell them.
#[derive(Clone, Debug)]
pub struct SuiteRuns {
    /// The suite.
    pub suite: Suite,
    /// Each run's directory, the run, and what it came to.
    pub runs: Vec<(PathBuf, Run, Results)>,
    /// What was amiss, in sentences.
    pub notes: Vec<String>,
}

/// Whether `dir` is the directory of a suite of claims: it holds `claims.json`, and no run of its own.
#[must_use]
pub fn is_in(dir: &Path) -> bool {
    dir.join(CLAIMS_FILE).exists() && !dir.join(RECORD_FILE).exists()
}

/// Reads the suite of claims in `dir`, each claim as its run now says: with what this version makes of the samples. Where a
/// run cannot be read the claim stays as the suite has it, and a note says so. With the suite come the runs that were read,
/// each with its directory and its results.
///
/// # Errors
/// When `claims.json` cannot be read, was written by a newer vtax, or is damaged.
pub fn read(dir: &Path) -> Result<SuiteRuns, StoreError> {
    let mut suite: Suite = versioned(&dir.join(CLAIMS_FILE))?;
    let (mut runs, mut notes) = (Vec::new(), Vec::new());
    for claim in &mut suite.claims {
        let Some(folder) = claim.evidence.clone() else {
            continue;
        };
        match evidence(dir, &folder) {
            Ok((path, run)) => {
                let results = whole(&run);
                let plan = &run.record.plan;
                *claim = ClaimResult::measured(plan, &results, &folder, claim.seconds);
                notes.extend(run.notes.iter().map(|note| format!("{folder}: {note}")));
                runs.push((path, run, results));
            }
            Err(why) => notes.push(format!(
                "{why}; what {CLAIMS_FILE} says of {} stays as it is",
                claim.id
            )),
        }
    }
    Ok(SuiteRuns { suite, runs, notes })
}

/// The run in a folder of the suite in `dir`.
fn evidence(dir: &Path, folder: &str) -> Result<(PathBuf, Run), String> {
    // Reports are written beside what is read: a name from a file leads nowhere but into the suite.
    let mut parts = Path::new(folder).components();
    let (Some(Component::Normal(_)), None) = (parts.next(), parts.next()) else {
        return Err(format!("{folder:?} is no folder of this suite"));
    };
    let path = dir.join(folder);
    match read_run(&path) {
        Ok(run) => Ok((path, run)),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_lies_in_the_suite_s_own_folders() {
        let suite = Path::new("/nowhere");
        for folder in ["..", ".", "/etc", "a/b", "../other", ""] {
            let why = evidence(suite, folder).unwrap_err();
            assert!(why.contains("no folder of this suite"), "{folder}: {why}");
        }
        let why = evidence(suite, "idle-cost").unwrap_err();
        assert!(why.contains("no run.json"), "{why}");
    }
}
