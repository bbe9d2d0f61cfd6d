//! From the blocks of one boot to what it says: the boot is the unit that the intervals are made of.

use std::collections::BTreeMap;

use vtax_workloads::Figure;

use super::median;
use crate::record::{Marks, Sample, Side};

/// How void and disturbed blocks are treated, for the reader of a report.
pub const TREATMENT: &str = "Every round counts that is not void: a block that was preempted, migrated or stolen from is part of \
    what the work takes, on either side. A round with a void block (the two clocks disagree, a wrong checksum, an \
    interrupting signal) never counts, and where the sides have unequal shares of void blocks the cell is undecided. \
    Warm-up blocks never count, and a boot without a round that counts is dropped.";

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

/// What one boot says.
#[derive(Clone, Debug, PartialEq)]
pub struct BootValue {
    /// Ticks per unit of work by side (`Side as usize`), a row for each vCPU of each round that counts, rounds in
    /// ascending order. Without a native side one tick stands for its time.
    pub times: Vec<[f64; 3]>,
    /// Rows of a round.
    pub vcpus: usize,
    /// The typical block: performance in the guest as a share of native, ln(native time / guest time), from medians over
    /// rounds. For any other question than [`Question::Ratio`] one tick stands for the native time.
    pub log_typical: f64,
}

impl BootValue {
    /// Rounds that count.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.times.len() / self.vcpus.max(1)
    }
}

/// Blocks of a side, and how many of them are void.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// All but those of the warm-up.
    pub all: u64,
    /// Those of them that say nothing that is known to be true.
    pub void: u64,
}

impl Blocks {
    fn add(&mut self, sample: &Sample) {
        self.all += 1;
        self.void += u64::from(sample.marks.is_void());
    }
}

impl std::ops::AddAssign for Blocks {
    fn add_assign(&mut self, other: Self) {
        self.all += other.all;
        self.void += other.void;
    }
}

/// One boot, digested.
#[derive(Clone, Debug, PartialEq)]
pub struct Boot {
    /// What it says; `None` where no round counts.
    pub value: Option<BootValue>,
    /// The rounds that count, in ascending order.
    pub counting: Vec<u32>,
    /// Blocks left out, by reason: the name of the mark that voids them, `empty` (no work or no time), `incomplete` (the
    /// round lacks a side) or `paired` (nothing wrong but with another block of the round). Warm-up is not counted.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Blocks on the host, control included.
    pub native: Blocks,
    /// Blocks in the guest.
    pub guest: Blocks,
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
    /// Ticks per unit of work by vCPU and side.
    times: Vec<(u16, [Option<f64>; 3])>,
    /// All marks together.
    marks: Marks,
    /// Whether a block did no work or took no time.
    empty: bool,
}

impl Round {
    fn add(&mut self, sample: &Sample) {
        self.marks = self.marks.union(sample.marks);
        self.empty |= is_empty(sample);
        let place = match self.times.binary_search_by_key(&sample.vcpu, |it| it.0) {
            Ok(place) => place,
            Err(place) => {
                self.times.insert(place, (sample.vcpu, [None; 3]));
                place
            }
        };
        self.times[place].1[sample.side as usize] = Some(sample.cost());
    }

    /// Whether every side that takes part was measured on each of so many vCPUs.
    fn is_complete(&self, question: Question, vcpus: usize) -> bool {
        let has = |times: &[Option<f64>; 3], side: Side| times[side as usize].is_some();
        self.times.len() == vcpus
            && self.times.iter().all(|(_, times)| {
                let native = has(times, Side::Native) && has(times, Side::Control);
                has(times, Side::Guest) && (native || !question.has_native())
            })
    }

    fn counts(&self, question: Question, vcpus: usize) -> bool {
        !self.marks.is_void() && !self.empty && self.is_complete(question, vcpus)
    }
}

impl Boot {
    /// Digests the samples of one boot, in any order.
    #[must_use]
    pub fn new(samples: &[Sample], question: Question) -> Self {
        let rounds = rounds(samples);
        let vcpus = rounds.iter().map(|it| it.times.len()).max().unwrap_or(0);
        let counts: Vec<bool> = rounds
            .iter()
            .map(|round| round.counts(question, vcpus))
            .collect();
        let counting = || rounds.iter().zip(&counts).filter(|(_, counts)| **counts);
        let [mut native, mut guest] = [Blocks::default(); 2];
        for sample in samples.iter().filter(|sample| !is_warmup(sample)) {
            match sample.side {
                Side::Guest => guest.add(sample),
                Side::Native | Side::Control => native.add(sample),
            }
        }
        let times: Vec<[f64; 3]> = counting()
            .flat_map(|(round, _)| &round.times)
            .map(|(_, times)| times.map(|time| time.unwrap_or(1.0)))
            .collect();
        Self {
            value: typical(&times, vcpus, question).map(|log_typical| BootValue {
                times,
                vcpus,
                log_typical,
            }),
            counting: counting().map(|(round, _)| round.number).collect(),
            left_out: left_out(samples, &rounds, &counts, |round| {
                round.is_complete(question, vcpus)
            }),
            native,
            guest,
        }
    }
}

/// The typical block of the rounds that count.
///
/// Native ran twice in each round. The ratio is the mean of two medians, one over the pairs native–guest and one over
/// control–guest. The median of the averaged pairs would be biased: where noise is one-sided, as delays are, the
/// difference between a mean of two blocks and a single block is skewed, while the difference between two blocks is
/// symmetric whatever their noise.
fn typical(times: &[[f64; 3]], vcpus: usize, question: Question) -> Option<f64> {
    let rounds = || times.chunks_exact(vcpus.max(1));
    // The harmonic mean of the vCPUs' times: the time at which equal vCPUs would reach the same throughput.
    let time = |round: &[[f64; 3]], side: Side| {
        let speed: f64 = round.iter().map(|times| 1.0 / times[side as usize]).sum();
        (round.len() as f64 / speed).ln()
    };
    let against = |side: Side| {
        let pair = |round| time(round, side) - time(round, Side::Guest);
        median(&mut rounds().map(pair).collect::<Vec<_>>())
    };
    if question == Question::Ratio {
        return Some(f64::midpoint(
            against(Side::Native)?,
            against(Side::Control)?,
        ));
    }
    let guest = |round| -time(round, Side::Guest);
    median(&mut rounds().map(guest).collect::<Vec<_>>())
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
    is_complete: impl Fn(&Round) -> bool,
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
        } else if let Some(mark) = voids(sample.marks) {
            mark
        } else if is_complete(&rounds[place]) {
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

/// The name of the first mark that makes a block void.
fn voids(marks: Marks) -> Option<&'static str> {
    Marks::NAMES
        .iter()
        .find(|&&(mark, _)| mark.is_void() && marks.intersects(mark))
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
            run_in_ticks: 0,
            latency_ticks: 0,
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
        assert!(close(value.log_typical, 0.5_f64.ln()));
        assert_eq!((value.rounds(), value.vcpus), (1, 1));
        assert_eq!(value.times, [[100.0, 200.0, 100.0]]);
    }

    #[test]
    fn the_typical_block_has_the_mean_of_the_logs_of_native_and_control() {
        let value = boot_value(&round(0, [100, 200, 400], Marks::CLEAN), Question::Ratio).unwrap();
        assert!(close(value.log_typical, 0.0));
    }

    #[test]
    fn a_disturbed_round_counts() {
        let mut samples = round(0, [100, 100, 100], Marks::CLEAN).to_vec();
        samples.extend(round(1, [100, 900, 100], Marks::PREEMPTED));
        samples.extend(round(
            2,
            [100, 100, 100],
            Marks::MIGRATION.union(Marks::STEAL),
        ));
        let boot = Boot::new(&samples, Question::Ratio);
        assert_eq!(boot.counting, [0, 1, 2]);
        assert_eq!(boot.value.unwrap().times[1], [100.0, 900.0, 100.0]);
        assert!(boot.left_out.is_empty());
    }

    #[test]
    fn void_incomplete_and_empty_rounds_never_count() {
        let void = Boot::new(
            &round(0, [100, 50, 100], Marks::CLOCK.union(Marks::STEAL)),
            Question::Ratio,
        );
        assert_eq!(void.value, None);
        assert_eq!(void.left_out, BTreeMap::from([("clock", 1), ("paired", 2)]));
        assert_eq!((void.guest.void, void.guest.all), (1, 1));
        assert_eq!((void.native.void, void.native.all), (0, 2));

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
        assert_eq!((boot.native.all, boot.guest.all), (2, 1));
        assert!(boot.left_out.is_empty());
        assert!(close(boot.value.unwrap().log_typical, 0.0));
    }

    #[test]
    fn a_cost_needs_the_guest_alone() {
        let samples = [block(0, Side::Guest, 0, 250, Marks::CLEAN)];
        let value = boot_value(&samples, Question::Cost).unwrap();
        assert!(close(value.log_typical, -250_f64.ln()));
        assert_eq!(value.times, [[1.0, 250.0, 1.0]]);
        assert_eq!(boot_value(&samples, Question::Ratio), None);
    }

    #[test]
    fn several_vcpus_have_a_row_each() {
        let mut samples = Vec::new();
        for (vcpu, guest_nanos) in [(0, 100), (1, 300)] {
            samples.push(block(0, Side::Native, vcpu, 100, Marks::CLEAN));
            samples.push(block(0, Side::Guest, vcpu, guest_nanos, Marks::CLEAN));
            samples.push(block(0, Side::Control, vcpu, 100, Marks::CLEAN));
        }
        // 1/100 + 1/300 of 2/100.
        let value = boot_value(&samples, Question::Ratio).unwrap();
        assert!(close(value.log_typical, (2.0_f64 / 3.0).ln()));
        assert_eq!(value.times, [[100.0; 3], [100.0, 300.0, 100.0]]);
        assert_eq!((value.rounds(), value.vcpus), (1, 2));
        samples.pop();
        assert_eq!(
            boot_value(&samples, Question::Ratio),
            None,
            "a vCPU without its control"
        );
    }
}
