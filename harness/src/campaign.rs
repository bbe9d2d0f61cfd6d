//! How many boots each cell gets: a pilot for all, then as many more as its variance asks for and the budget allows.
//!
//! Stein's two-stage rule: what sizes the run is the pilot's variance and the pilot's time, never how the result looks
//! so far. See `reports/STATISTICS.md`.

use std::collections::BTreeMap;

use vtax_reports::estimate::{Boot, BootValue, Question};
use vtax_reports::record::{NotMeasured, Sample};
use vtax_reports::stats::series::Series;
use vtax_reports::stats::stein::log_half_width;
use vtax_scenarios::plan::{Cell, Plan};

use crate::measure::boot::Known;
use crate::whole::whole;

/// The state of all cells of a run.
#[derive(Debug)]
pub struct Campaign<'a> {
    plan: &'a Plan,
    cells: Vec<CellState>,
    /// Cells that are not begun, by id.
    hopeless: Vec<u32>,
    sized: bool,
}

/// The state of one cell.
#[derive(Debug, Default)]
struct CellState {
    /// What each boot said so far, in order.
    boots: Vec<Option<BootValue>>,
    /// What they took, in nanoseconds.
    nanos: u64,
    /// After the pilot: how many boots shall count.
    wanted: Option<u32>,
    /// What the first boot found out.
    known: Option<Known>,
    /// No further boots: it failed, the host lacks something, or the budget has no room for two.
    out: bool,
}

impl<'a> Campaign<'a> {
    /// All cells of the plan, but for those that are not to be measured.
    #[must_use]
    pub fn new(plan: &'a Plan, not_measured: &BTreeMap<u32, NotMeasured>) -> Self {
        let mut cells: Vec<CellState> = plan
            .cells
            .iter()
            .map(|cell| CellState {
                out: not_measured.contains_key(&cell.id),
                ..CellState::default()
            })
            .collect();
        let hopeless = hopeless(plan, |cell| cells[cell.id as usize].out);
        for &cell in &hopeless {
            cells[cell as usize].out = true;
        }
        Self {
            plan,
            cells,
            hopeless,
            sized: false,
        }
    }

    /// The cells that are not begun, since each of their boots waits for KSM and the budget has no room for two.
    pub fn hopeless(&self) -> impl Iterator<Item = &'a Cell> {
        let plan = self.plan;
        let cells = self.hopeless.iter();
        cells.filter_map(|&id| plan.cells.get(id as usize))
    }

    /// The cells to boot in sweep number `sweep`, in order. Empty: the run is complete. A cell that has had its boot of a
    /// sweep that was cut short is not in it again.
    #[must_use]
    pub fn sweep(&self, sweep: u32) -> Vec<&'a Cell> {
        self.plan
            .sweep(sweep)
            .into_iter()
            .filter_map(|id| {
                let place = id as usize;
                let (cell, state) = (self.plan.cells.get(place)?, self.cells.get(place)?);
                (state.boots_left(cell) > 0 && state.boots_done() <= sweep).then_some(cell)
            })
            .collect()
    }

    /// The sweep to begin with: 0, or that in which a run was cut short, so that drift of the host goes on reaching all
    /// cells alike.
    #[must_use]
    pub fn first_sweep(&self) -> u32 {
        let done = self.cells.iter().map(CellState::boots_done);
        let most = done.max().unwrap_or(0);
        let behind = (self.plan.cells.iter().zip(&self.cells))
            .any(|(cell, state)| state.boots_left(cell) > 0 && state.boots_done() < most);
        most - u32::from(behind)
    }

    /// How many boots are still to come, as far as is known.
    #[must_use]
    pub fn boots_left(&self) -> u64 {
        self.plan
            .cells
            .iter()
            .zip(&self.cells)
            .map(|(cell, state)| u64::from(state.boots_left(cell)))
            .sum()
    }

    /// The number of the cell's next boot and what is known of it.
    #[must_use]
    pub fn next(&self, cell: &Cell) -> (u32, Option<Known>) {
        let state = &self.cells[cell.id as usize];
        (state.boots_done(), state.known)
    }

    /// Takes the boot of a cell in.
    pub fn add(&mut self, cell: &Cell, samples: &[Sample], known: Known, nanos: u64) {
        let state = &mut self.cells[cell.id as usize];
        let question = Question::of(&cell.workload.name);
        state.boots.push(Boot::new(samples, question).value);
        state.nanos += nanos;
        state.known = Some(known);
    }

    /// The cell's boots so far, as the report will see them.
    #[must_use]
    pub fn series(&self, cell: &Cell) -> Series {
        self.cells
            .get(cell.id as usize)
            .map_or_else(Series::default, |state| state.series(cell))
    }

    /// Gives a cell up.
    pub fn give_up(&mut self, cell: &Cell) {
        self.cells[cell.id as usize].out = true;
    }

    /// Whether every pilot is complete and the second stage has not been sized yet.
    #[must_use]
    pub fn pilots_complete(&self) -> bool {
        !self.sized
            && self
                .plan
                .cells
                .iter()
                .zip(&self.cells)
                .all(|(cell, state)| state.out || state.boots_done() >= cell.measure.pilot_boots)
    }

    /// Sizes the second stage by the pilots. Where `nanos_left` do not suffice for what all cells ask for, each gets the
    /// same share of what it asks for.
    pub fn size(&mut self, nanos_left: u64) {
        self.sized = true;
        let mut asked = 0.0;
        for (cell, state) in self.plan.cells.iter().zip(&mut self.cells) {
            if state.out {
                continue;
            }
            let measure = &cell.measure;
            let wanted = if self.plan.sized_by_precision() {
                state
                    .series(cell)
                    .size(log_half_width(measure.precision), measure.confidence)
                    .min(measure.max_boots)
            } else {
                measure.max_boots
            };
            state.wanted = Some(wanted);
            asked += f64::from(wanted.saturating_sub(state.counted())) * state.nanos_per_boot();
        }
        let share = (nanos_left as f64 / asked).min(1.0);
        for state in &mut self.cells {
            let counted = state.counted();
            if let Some(wanted) = &mut state.wanted {
                let granted = whole(f64::from(wanted.saturating_sub(counted)) * share);
                *wanted = counted.saturating_add(u32::try_from(granted).unwrap_or(u32::MAX));
            }
        }
    }
}

/// The cells that wait for KSM and for whose first two boots the budget has no room, beside the first two of all others: with
/// one boot there is no interval, and what it waited would be lost to those that can have two. Those that wait the least come
/// first.
fn hopeless(plan: &Plan, out: impl Fn(&Cell) -> bool) -> Vec<u32> {
    let two_boots = |cell: &Cell| cell.boot_nanos().saturating_mul(2);
    let (mut waiting, others): (Vec<&Cell>, Vec<&Cell>) = plan
        .cells
        .iter()
        .filter(|cell| !out(cell))
        .partition(|cell| cell.ksm_wait_nanos() > 0);
    waiting.sort_by_key(|cell| cell.boot_nanos());
    let taken = others
        .into_iter()
        .map(two_boots)
        .fold(0, u64::saturating_add);
    let mut left = plan.cells_nanos().saturating_sub(taken);
    let mut hopeless = Vec::new();
    for cell in waiting {
        match left.checked_sub(two_boots(cell)) {
            Some(rest) => left = rest,
            None => hopeless.push(cell.id),
        }
    }
    hopeless
}

impl CellState {
    fn boots_done(&self) -> u32 {
        u32::try_from(self.boots.len()).unwrap_or(u32::MAX)
    }

    fn boots_left(&self, cell: &Cell) -> u32 {
        if self.out {
            return 0;
        }
        let most = cell.measure.max_boots.saturating_sub(self.boots_done());
        match self.wanted {
            None => cell.measure.pilot_boots.saturating_sub(self.boots_done()),
            Some(wanted) => wanted.saturating_sub(self.counted()).min(most),
        }
    }

    /// The boots so far as the estimate will see them.
    fn series(&self, cell: &Cell) -> Series {
        Series::new(self.boots.iter().cloned(), cell.measure.pilot_boots)
    }

    /// Boots that count so far.
    fn counted(&self) -> u32 {
        u32::try_from(self.boots.iter().flatten().count()).unwrap_or(u32::MAX)
    }

    fn nanos_per_boot(&self) -> f64 {
        self.nanos as f64 / f64::from(self.boots_done().max(1))
    }
}

#[cfg(test)]
mod tests {
    use vtax_scenarios::{Overrides, parse};

    use super::*;

    /// A cell without KSM, one that waits 52.4 s for it in each boot, and one that waits 104.8 s.
    fn plan(budget: &str) -> Plan {
        let text = format!(
            "schema = 1\nname = \"s\"\n[guest]\nmergeable = true\n[measure]\nbudget = \"{budget}\"\n[[workload]]\n\
             name = \"cpu-hash\"\n[matrix]\n\"guest.memory\" = [\"512MiB\", \"256MiB\"]\n\"host.ksm\" = [\"on\", \"off\"]"
        );
        parse("s.toml", &text, &Overrides::default()).unwrap().plan
    }

    #[test]
    fn a_cell_that_cannot_have_two_boots_is_not_begun() {
        for (budget, hopeless) in [
            ("90s", &["256MiB", "512MiB"][..]),
            ("110s", &["512MiB"]),
            ("300s", &["512MiB"]),
            ("330s", &[]),
        ] {
            let plan = plan(budget);
            let campaign = Campaign::new(&plan, &BTreeMap::new());
            let found: Vec<&str> = campaign
                .hopeless()
                .map(|cell| cell.parameters["guest.memory"].as_str())
                .collect();
            assert_eq!(found, hopeless, "{budget}");
            assert!(campaign.hopeless().all(|cell| cell.ksm_wait_nanos() > 0));
            assert_eq!(campaign.sweep(0).len(), 4 - hopeless.len());
        }
    }

    #[test]
    fn a_cell_that_is_not_measured_takes_nothing_from_the_others() {
        let plan = plan("110s");
        let is_small = |cell: &&Cell| cell.ksm_wait_nanos() > 0 && cell.guest.memory == 256 << 20;
        let small = plan.cells.iter().find(is_small).unwrap();
        let why = NotMeasured::NotTestable("no KSM".to_owned());
        let campaign = Campaign::new(&plan, &BTreeMap::from([(small.id, why)]));
        assert!(campaign.hopeless().all(|cell| cell.id != small.id));
    }
}
