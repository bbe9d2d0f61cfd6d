//! How long a boot waits for KSM to merge what its cell offers (Linux, admin-guide/mm/ksm.rst).

use crate::plan::{Cell, Knob, Neighbour};
use crate::units::parse_duration;

/// A page is merged at the third pass at the latest: the first notes its checksum, the second puts it up, the third finds
/// it.
pub const SCANS: u64 = 3;

/// Bytes of a page of which KSM merges copies.
const PAGE_BYTES: u64 = 4096;

/// What Linux does where nobody says otherwise: pages that KSM looks at before it sleeps, and for how long it does.
const PAGES_TO_SCAN: u64 = 100;
const SLEEP_NANOS: u64 = 20_000_000;

impl Cell {
    /// Nanoseconds that each boot waits for KSM at least: its sleep during [`SCANS`] passes through what the cell offers, and
    /// one that is under way before. Looking at the pages comes on top.
    ///
    /// 0 where nothing is offered, the scenario does not set `ksm = "on"` (whether it runs is then the host's affair), or
    /// leaves the pace to the kernel (`ksm-advisor`). A pace that it does not set is taken for Linux's default.
    #[must_use]
    pub fn ksm_wait_nanos(&self) -> u64 {
        let knob = |knob| self.host.get(&knob).map(String::as_str);
        let on = knob(Knob::Ksm) == Some("on");
        let advised = knob(Knob::KsmAdvisor).is_some_and(|advisor| advisor != "none");
        if !on || advised {
            return 0;
        }
        let at_once = knob(Knob::KsmPagesToScan).and_then(|text| text.parse().ok());
        let sleep = knob(Knob::KsmSleep).and_then(|text| parse_duration(text).ok());
        let pages = self.offered_bytes() / PAGE_BYTES;
        let sleeps = pages / at_once.unwrap_or(PAGES_TO_SCAN).max(1);
        sleeps
            .saturating_mul(sleep.unwrap_or(SLEEP_NANOS))
            .saturating_mul(1 + SCANS)
    }

    /// Bytes that guest and neighbours offer to KSM.
    fn offered_bytes(&self) -> u64 {
        let guest = if self.guest.mergeable {
            self.guest.memory
        } else {
            0
        };
        let neighbours = self.neighbours.iter().filter(|it| it.offers_memory());
        let of = |it: &Neighbour| u64::from(it.count).saturating_mul(it.memory);
        neighbours.map(of).fold(guest, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Overrides, parse};

    const SECOND: u64 = 1_000_000_000;

    /// What boots of the cell wait for, in seconds.
    fn waits(guest: &str, host: &str) -> f64 {
        let text = format!(
            "schema = 1\nname = \"s\"\n[guest]\nmemory = \"256MiB\"\n{guest}\n[host]\n{host}\n[[neighbour]]\nwork = \"idle\"\n\
             count = 2\nmemory = \"128MiB\"\nmergeable = true\n[[workload]]\nname = \"cpu-hash\""
        );
        let plan = parse("s.toml", &text, &Overrides::default()).unwrap().plan;
        plan.cells[0].ksm_wait_nanos() as f64 / SECOND as f64
    }

    #[test]
    fn a_boot_waits_for_four_passes_through_what_is_offered() {
        // 65,536 pages of neighbours, 100 every 20 ms: 655 sleeps a pass.
        assert_eq!(waits("", "ksm = \"on\""), 52.4);
        assert_eq!(waits("mergeable = true", "ksm = \"on\""), 104.8);
        let brisk = "ksm = \"on\"\nksm-pages-to-scan = 20000\nksm-sleep = \"10ms\"";
        assert_eq!(waits("", brisk), 0.12);
    }

    #[test]
    fn where_the_scenario_does_not_say_that_ksm_runs_nothing_is_reckoned() {
        assert_eq!(waits("mergeable = true", "ksm = \"off\""), 0.0);
        assert_eq!(waits("mergeable = true", "thp = \"never\""), 0.0);
        assert_eq!(waits("", "ksm = \"on\"\nksm-advisor = \"scan-time\""), 0.0);
    }
}
