//! From the blocks of one boot to its values: one number per boot is what the intervals are made of.

use std::collections::BTreeMap;

use vtax_scenarios::plan::Cell;
use vtax_workloads::Figure;

use super::median;
use crate::record::{Marks, Sample, Side};

/// How void and spoiled blocks are treated, for the reader of a report.
pub const TREATMENT: &str = "A round with a void block (the two clocks disagree, a wrong checksum, an interrupting \
    signal) never counts. A round with a spoiled block (migration, preemption, steal) is set aside as a whole, so \
    that the sides stay paired, as long as the boot keeps a clean round. A boot without a clean round is left out \
    where at least half of the pilot's boots have one, or in the end as many boots as a pilot has; on a host too busy \
    for that it keeps all its rounds that are not void, and their median absorbs what it can. Warm-up blocks never count, and a boot without a round that \
    counts is dropped. Beside neighbours a spoiled block counts like any other: being preempted is what is measured there; so does one of a cell that is there to be compared with those.";

/// What a cell's boots are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// How much of native the guest keeps.
    Ratio,
    /// What an operation costs in the guest, where the host has nothing to compare it with.
    Cost,
    /// How long an operation takes in the guest, with native beside it and no share of it: how late a timer is says nothing
    /// of how much gets done.
    Compare,
}

impl Question {
    /// What is asked of a workload's cells.
    #[must_use]
    pub fn of(workload: &str) -> Self {
        match vtax_workloads::find(workload) {
            Some((_, workload)) if !workload.has_native_twin() => Self::Cost,
            Some((_, workload)) if workload.figure() == Figure::Latencies => Self::Compare,
            _ => Self::Ratio,
        }
    }

    /// Whether native was measured too.
    #[must_use]
    pub const fn has_native(self) -> bool {
        matches!(self, Self::Ratio | Self::Compare)
    }
}

/// What one boot says. All values are natural logarithms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BootValue {
    /// Guest performance as a share of native, ln(native time / guest time): 0 is no loss. For any other question than
    /// [`Question::Ratio`] one tick stands for the native time. Feeds [`super::stein::sample_size`].
    pub log_ratio: f64,
    /// The same with no round set aside for spoiling.
    pub log_ratio_all: f64,
    /// The A/A control: ln(native time / control time).
    pub log_control: f64,
    /// Ticks per iteration on the host, median over rounds. With several vCPUs, per vCPU.
    pub log_native_ticks: f64,
    /// Ticks per iteration in the guest, likewise.
    pub log_guest_ticks: f64,
    /// Rounds that count.
    pub rounds: u32,
    /// Whether no round was clean, so that all that are not void were kept.
    pub disturbed: bool,
}

/// One boot, digested.
#[derive(Clone, Debug, PartialEq)]
pub struct Boot {
    /// What it says; `None` where no round counts.
    pub value: Option<BootValue>,
    /// The rounds that count, in ascending order.
    pub counting: Vec<u32>,
    /// Blocks left out, by reason: a mark's name, `empty` (no work or no time), `incomplete` (the round lacks a
    /// side) or `paired` (nothing wrong but with another block of the round). Warm-up is not counted.
    pub left_out: BTreeMap<&'static str, u64>,
    /// The same should the whole boot be left out for being disturbed; empty where it is not.
    pub left_out_with_boot: BTreeMap<&'static str, u64>,
}

/// The values of one boot from its samples, in any order; `None` where no round counts.
#[must_use]
pub fn boot_value(samples: &[Sample], question: Question) -> Option<BootValue> {
    Boot::new(samples, question).value
}

/// The blocks of one round.
#[derive(Clone, Default)]
struct Round {
    number: u32,
    /// Iterations per tick, summed over vCPUs, by side.
    speed: [f64; 3],
    /// Blocks by side.
    vcpus: [u32; 3],
    /// All marks together.
    marks: Marks,
    /// Whether a block did no work or took no time.
    empty: bool,
}

/// Log ticks per iteration of a complete round.
#[derive(Clone, Copy)]
struct Times {
    native: f64,
    guest: f64,
    control: f64,
    spoiled: bool,
}

impl Round {
    fn add(&mut self, sample: &Sample) {
        let side = sample.side as usize;
        self.marks = self.marks.union(sample.marks);
        self.empty |= is_empty(sample);
        self.speed[side] += sample.iterations as f64 / sample.ticks as f64;
        self.vcpus[side] += 1;
    }

    /// Whether every side that takes part was measured, and on the same number of vCPUs.
    fn is_complete(&self, question: Question) -> bool {
        let [native, guest, control] = self.vcpus;
        match question {
            Question::Ratio | Question::Compare => {
                native > 0 && guest == native && control == native
            }
            Question::Cost => guest > 0,
        }
    }

    /// `None` where the round is void or incomplete.
    fn times(&self, question: Question) -> Option<Times> {
        if self.marks.is_void() || self.empty || !self.is_complete(question) {
            return None;
        }
        // The harmonic mean of the vCPUs' times: the time at which equal vCPUs would reach the same throughput.
        let time =
            |side: Side| (f64::from(self.vcpus[side as usize]) / self.speed[side as usize]).ln();
        let native = |side| {
            if question.has_native() {
                time(side)
            } else {
                0.0
            }
        };
        Some(Times {
            native: native(Side::Native),
            guest: time(Side::Guest),
            control: native(Side::Control),
            spoiled: self.marks.is_spoiled(),
        })
    }
}

impl Boot {
    /// Digests the samples of one boot of this cell, in any order.
    ///
    /// Where the scenario has neighbours, spoiled rounds count: those that the neighbours happened to leave alone would tell
    /// of a guest that has none. That goes for a cell with none of them (`count = 0`) too, which is there to be compared with
    /// those that have some: both take their boots by one rule.
    #[must_use]
    pub fn in_cell(cell: &Cell, samples: &[Sample]) -> Self {
        let question = Question::of(&cell.workload.name);
        if cell.neighbours.is_empty() {
            return Self::new(samples, question);
        }
        let blocks: Vec<Sample> = samples
            .iter()
            .map(|sample| Sample {
                marks: sample.marks.unspoiled(),
                ..*sample
            })
            .collect();
        Self::new(&blocks, question)
    }

    /// Digests the samples of one boot, in any order.
    #[must_use]
    pub fn new(samples: &[Sample], question: Question) -> Self {
        let rounds = rounds(samples);
        let times: Vec<Option<Times>> = rounds.iter().map(|round| round.times(question)).collect();
        let all: Vec<Times> = times.iter().copied().flatten().collect();
        let clean: Vec<Times> = all.iter().copied().filter(|round| !round.spoiled).collect();
        let disturbed = clean.is_empty();
        let counts = |round: &Option<Times>| round.is_some_and(|round| disturbed || !round.spoiled);
        let counts: Vec<bool> = times.iter().map(counts).collect();
        Self {
            value: value(
                question,
                if disturbed { &all } else { &clean },
                &all,
                disturbed,
            ),
            counting: rounds
                .iter()
                .zip(&counts)
                .filter(|&(_, &counts)| counts)
                .map(|(round, _)| round.number)
                .collect(),
            left_out: left_out(samples, &rounds, &counts, question),
            left_out_with_boot: if disturbed {
                left_out(samples, &rounds, &vec![false; rounds.len()], question)
            } else {
                BTreeMap::new()
            },
        }
    }
}

/// The boot's values from the rounds that count.
///
/// Native ran twice in each round. The ratio is the mean of two medians, one over the pairs native–guest and one over
/// control–guest. The median of the averaged pairs would be biased: where noise is one-sided, as delays are, the
/// difference between a mean of two blocks and a single block is skewed, while the difference between two blocks is
/// symmetric whatever their noise.
fn value(
    question: Question,
    counting: &[Times],
    all: &[Times],
    disturbed: bool,
) -> Option<BootValue> {
    let over = |rounds: &[Times], value: fn(&Times) -> f64| {
        median(&mut rounds.iter().map(value).collect::<Vec<_>>())
    };
    let ratio = |rounds: &[Times]| {
        if question != Question::Ratio {
            return over(rounds, |round| -round.guest);
        }
        Some(f64::midpoint(
            over(rounds, |round| round.native - round.guest)?,
            over(rounds, |round| round.control - round.guest)?,
        ))
    };
    Some(BootValue {
        log_ratio: ratio(counting)?,
        log_ratio_all: ratio(all)?,
        log_control: over(counting, |round| round.native - round.control)?,
        log_native_ticks: over(counting, |round| f64::midpoint(round.native, round.control))?,
        log_guest_ticks: over(counting, |round| round.guest)?,
        rounds: u32::try_from(counting.len()).unwrap_or(u32::MAX),
        disturbed,
    })
}

/// The rounds in ascending order, warm-up left out.
fn rounds(samples: &[Sample]) -> Vec<Round> {
    let mut rounds: Vec<Round> = Vec::new();
    for sample in samples.iter().filter(|sample| !is_warmup(sample)) {
        let place = match find(&rounds, sample.round) {
            Ok(place) => place,
            Err(place) => {
                let round = Round {
                    number: sample.round,
                    ..Round::default()
                };
                rounds.insert(place, round);
                place
            }
        };
        rounds[place].add(sample);
    }
    rounds
}

/// Counts the blocks of the rounds that do not count.
fn left_out(
    samples: &[Sample],
    rounds: &[Round],
    counts: &[bool],
    question: Question,
) -> BTreeMap<&'static str, u64> {
    let mut reasons = BTreeMap::new();
    if counts.iter().all(|&counts| counts) {
        return reasons;
    }
    for sample in samples.iter().filter(|sample| !is_warmup(sample)) {
        let Ok(place) = find(rounds, sample.round) else {
            continue;
        };
        if counts[place] {
            continue;
        }
        let reason = if is_empty(sample) {
            "empty"
        } else if let Some(mark) = gravest(sample.marks) {
            mark
        } else if rounds[place].is_complete(question) {
            "paired"
        } else {
            "incomplete"
        };
        *reasons.entry(reason).or_default() += 1;
    }
    reasons
}

fn find(rounds: &[Round], number: u32) -> Result<usize, usize> {
    rounds.binary_search_by_key(&number, |round| round.number)
}

fn is_warmup(sample: &Sample) -> bool {
    sample.marks.intersects(Marks::WARMUP)
}

fn is_empty(sample: &Sample) -> bool {
    sample.ticks == 0 || sample.iterations == 0
}

/// The name of the gravest mark: void before spoiled.
fn gravest(marks: Marks) -> Option<&'static str> {
    let named = |grave: fn(Marks) -> bool| {
        Marks::NAMES
            .iter()
            .find(|&&(mark, _)| grave(mark) && marks.intersects(mark))
    };
    named(Marks::is_void)
        .or_else(|| named(Marks::is_spoiled))
        .map(|&(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of `nanos` nanoseconds per iteration, at one tick per nanosecond.
    fn block(round: u32, side: Side, vcpu: u16, nanos: u64, marks: Marks) -> Sample {
        Sample {
            cell: 0,
            boot: 0,
            round,
            position: 0,
            side,
            vcpu,
            cpu: 0,
            iterations: 1_000,
            ticks: 1_000 * nanos,
            outer_nanos: 1_000 * nanos,
            marks,
            at_nanos: 0,
        }
    }

    /// A round of one vCPU: native, guest, control.
    fn round(number: u32, nanos: [u64; 3], guest_marks: Marks) -> [Sample; 3] {
        [
            block(number, Side::Native, 0, nanos[0], Marks::CLEAN),
            block(number, Side::Guest, 0, nanos[1], guest_marks),
            block(number, Side::Control, 0, nanos[2], Marks::CLEAN),
        ]
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-12
    }

    #[test]
    fn a_guest_that_takes_twice_as_long_keeps_half() {
        let value = boot_value(&round(0, [100, 200, 100], Marks::CLEAN), Question::Ratio).unwrap();
        assert!(close(value.log_ratio, 0.5_f64.ln()));
        assert!(close(value.log_ratio_all, value.log_ratio));
        assert!(close(value.log_control, 0.0));
        assert!(close(value.log_native_ticks, 100_f64.ln()));
        assert!(close(value.log_guest_ticks, 200_f64.ln()));
        assert_eq!((value.rounds, value.disturbed), (1, false));
    }

    #[test]
    fn native_is_the_mean_of_the_logs_of_native_and_control() {
        let value = boot_value(&round(0, [100, 200, 400], Marks::CLEAN), Question::Ratio).unwrap();
        assert!(close(value.log_ratio, 0.0));
        assert!(close(value.log_control, 0.25_f64.ln()));
    }

    #[test]
    fn a_spoiled_round_is_set_aside_with_its_partners() {
        let mut samples = round(0, [100, 100, 100], Marks::CLEAN).to_vec();
        samples.extend(round(1, [100, 900, 100], Marks::PREEMPTED));
        let boot = Boot::new(&samples, Question::Ratio);
        let value = boot.value.unwrap();
        assert!(close(value.log_ratio, 0.0));
        assert!(value.log_ratio_all < -0.5);
        assert_eq!(value.rounds, 1);
        let expected = BTreeMap::from([("preempted", 1), ("paired", 2)]);
        assert_eq!(boot.left_out, expected);
    }

    #[test]
    fn a_boot_without_a_clean_round_keeps_all_and_says_so() {
        let mut samples = round(0, [100, 200, 100], Marks::STEAL).to_vec();
        samples.extend(round(1, [100, 200, 100], Marks::MIGRATION));
        let boot = Boot::new(&samples, Question::Ratio);
        let value = boot.value.unwrap();
        assert_eq!((value.rounds, value.disturbed), (2, true));
        assert!(close(value.log_ratio, 0.5_f64.ln()));
        assert!(boot.left_out.is_empty());
        let with_boot = BTreeMap::from([("migration", 1), ("paired", 4), ("steal", 1)]);
        assert_eq!(boot.left_out_with_boot, with_boot);
    }

    #[test]
    fn void_incomplete_and_empty_rounds_never_count() {
        let void = Boot::new(
            &round(0, [100, 50, 100], Marks::CLOCK.union(Marks::STEAL)),
            Question::Ratio,
        );
        assert_eq!(void.value, None);
        assert_eq!(void.left_out, BTreeMap::from([("clock", 1), ("paired", 2)]));

        let incomplete = Boot::new(
            &round(0, [100, 100, 100], Marks::CLEAN)[..2],
            Question::Ratio,
        );
        assert_eq!(incomplete.value, None);
        assert_eq!(incomplete.left_out, BTreeMap::from([("incomplete", 2)]));

        let empty = Boot::new(&round(0, [100, 0, 100], Marks::CLEAN), Question::Ratio);
        assert_eq!(empty.value, None);
        assert_eq!(
            empty.left_out,
            BTreeMap::from([("empty", 1), ("paired", 2)])
        );
    }

    #[test]
    fn warm_up_blocks_neither_count_nor_count_as_left_out() {
        let mut samples = round(0, [100, 100, 100], Marks::CLEAN).to_vec();
        samples.extend(
            round(0, [900, 100, 900], Marks::WARMUP).map(|sample| Sample {
                marks: sample.marks.union(Marks::WARMUP),
                ..sample
            }),
        );
        let boot = Boot::new(&samples, Question::Ratio);
        assert!(close(boot.value.unwrap().log_ratio, 0.0));
        assert!(boot.left_out.is_empty());
    }

    #[test]
    fn a_cost_needs_the_guest_alone() {
        let samples = [block(0, Side::Guest, 0, 250, Marks::CLEAN)];
        let value = boot_value(&samples, Question::Cost).unwrap();
        assert!(close(value.log_ratio, -250_f64.ln()));
        assert!(close(value.log_guest_ticks, 250_f64.ln()));
        assert_eq!(boot_value(&samples, Question::Ratio), None);
    }

    #[test]
    fn several_vcpus_count_as_their_throughput() {
        let mut samples = Vec::new();
        for (vcpu, guest_nanos) in [(0, 100), (1, 300)] {
            samples.push(block(0, Side::Native, vcpu, 100, Marks::CLEAN));
            samples.push(block(0, Side::Guest, vcpu, guest_nanos, Marks::CLEAN));
            samples.push(block(0, Side::Control, vcpu, 100, Marks::CLEAN));
        }
        // 1/100 + 1/300 of 2/100.
        let value = boot_value(&samples, Question::Ratio).unwrap();
        assert!(close(value.log_ratio, (2.0_f64 / 3.0).ln()));
        samples.pop();
        assert_eq!(
            boot_value(&samples, Question::Ratio),
            None,
            "a vCPU without its control"
        );
    }

    #[test]
    fn where_neighbours_are_varied_a_spoiled_round_counts_with_them_and_without() {
        let text = "schema = 1\nname = \"s\"\n[[neighbour]]\nwork = \"cpu\"\n[[workload]]\nname = \"cpu-hash\"\n\
                    [matrix]\n\"neighbour.cpu.count\" = [0, 1]";
        let loaded = vtax_scenarios::parse("s.toml", text, &Default::default());
        let cells = loaded.unwrap().plan.cells;
        let blocks = [
            round(0, [10, 10, 10], Marks::CLEAN),
            round(1, [10, 20, 10], Marks::PREEMPTED),
            round(2, [10, 20, 10], Marks::PREEMPTED),
            round(3, [10, 80, 10], Marks::CLOCK),
        ]
        .concat();
        assert_eq!(
            [0, 1],
            [&cells[0], &cells[1]].map(|cell| cell.neighbours[0].count)
        );
        for cell in &cells {
            let boot = Boot::in_cell(cell, &blocks);
            let got = boot.value.unwrap().log_ratio;
            assert!(close(got, -(2.0_f64.ln())), "{got}");
            assert_eq!(boot.counting, [0, 1, 2]);
        }
        let alone = Cell {
            neighbours: Vec::new(),
            ..cells[0].clone()
        };
        assert_eq!(Boot::in_cell(&alone, &blocks).value.unwrap().log_ratio, 0.0);
    }
}
