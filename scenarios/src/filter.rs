//! Which cells a `--filter` keeps.

use crate::plan::{Cell, Plan};

impl Plan {
    /// The plan with only those cells and experiments whose label contains `pattern`, where `*` stands for any text. Cells'
    /// ids are renumbered; there may be none left.
    #[must_use]
    pub fn filter(&self, pattern: &str) -> Self {
        let cells = self
            .cells
            .iter()
            .filter(|cell| contains(&cell.label, pattern))
            .zip(0..)
            .map(|(cell, id)| Cell { id, ..cell.clone() })
            .collect();
        let experiments = self.experiments.iter();
        let experiments = experiments.filter(|it| contains(&it.label, pattern));
        Self {
            cells,
            experiments: experiments.cloned().collect(),
            filter: Some(pattern.to_owned()),
            ..self.clone()
        }
    }
}

/// Whether the parts between the stars occur in `text` one after the other.
fn contains(text: &str, pattern: &str) -> bool {
    pattern
        .split('*')
        .try_fold(text, |rest, part| {
            rest.find(part).map(|at| &rest[at + part.len()..])
        })
        .is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_must_follow_one_another() {
        let label = "mem-latency size=1MiB / guest.backing=2M";
        for pattern in ["", "latency", "mem*2M", "*", "size=1MiB*backing"] {
            assert!(contains(label, pattern), "{pattern}");
        }
        for pattern in ["cpu", "2M*mem", "size=1MiB*size"] {
            assert!(!contains(label, pattern), "{pattern}");
        }
    }
}
