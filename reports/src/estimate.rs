//! From the samples of a run to its results.
//!
//! ```text
//! samples ──spans──► boots of a cell ──series──► Throughput ──verdict──► CellResult, Headline
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use rayon::prelude::*;
use vtax_scenarios::plan::{Cell, Form};
use vtax_workloads::{Direction as Better, Metric};

use crate::compare::Measured as Compared;
use crate::counters::{Counter, CounterLog, CounterRow};
use crate::devices;
use crate::experiments;
use crate::frequency::{self, Frequency};
use crate::ledger::{BootAccount, Ledger, cpu_time};
use crate::placement::{self, Placements};
use crate::record::{Marks, NotMeasured, RunRecord, Sample, Side};
use crate::result::{
    CellResult, Direction, ExperimentResult, Interval, LostFrames, Results, SideSummary, Verdict,
};
use crate::settings;
use crate::spans::{BootSamples, Spans};
use crate::stats::boot::Blocks;
use crate::stats::stalls::Stalls;
use crate::stats::throughput::{GUEST, NATIVE, Throughput, Times};
use crate::stats::transitions::{CarryOver, Switches};
pub use crate::stats::{
    boot::{Boot, BootValue, Question, boot_value},
    series::Series,
};
use crate::stats::{mean::LogMean, median, quantiles};
use crate::store::{LatencyLog, Run};
use crate::verdict::{self, Judgement, Measured};

/// All results of a run: those of its cells and those of its experiments.
#[must_use]
pub fn whole(run: &Run) -> Results {
    let record = &run.record;
    let experiments = experiments::results(record, &run.trials);
    let (samples, counters) = (&run.samples, &run.counters);
    results(record, samples, &run.latencies, counters, experiments)
}

/// The results of a run's cells. The same input always gives the same results, in plan order, on any number of threads.
#[must_use]
pub fn estimate(
    record: &RunRecord,
    samples: &[Sample],
    latencies: &LatencyLog,
    counters: &CounterLog,
) -> Results {
    results(record, samples, latencies, counters, Vec::new())
}

fn results(
    record: &RunRecord,
    samples: &[Sample],
    latencies: &LatencyLog,
    counters: &CounterLog,
    experiments: Vec<ExperimentResult>,
) -> Results {
    let spans = Spans::new(samples);
    let digests: Vec<Digest> = record
        .plan
        .cells
        .par_iter()
        .map(|cell| {
            let counted = |boot| counters.boot(cell.id, boot);
            let boots = spans.boots(cell.id);
            let digest = Digest::new(cell, &boots, record.nanos_per_tick, counted);
            match record.native_disks.get(&cell.id) {
                Some(_) => digest.placed(Placements::of(&boots, &cell.measure)),
                None => digest,
            }
        })
        .collect();
    let sized = record.plan.sized_by_precision();
    let measured: Vec<Measured<'_>> = record
        .plan
        .cells
        .iter()
        .zip(&digests)
        .map(|(cell, digest)| digest.measured(cell, record.not_measured.get(&cell.id), sized))
        .collect();
    let nested_under = record.host.nested_under.as_deref();
    let cut_short = record.interrupted || record.finished.is_none();
    let plan = &record.plan;
    let judgements: Vec<Judgement> = measured
        .iter()
        .zip(&digests)
        .map(|(measured, digest)| {
            let claim = &record.plan.claim;
            let judgement = verdict::judge(measured, claim.ratio, nested_under, cut_short);
            let disk = record.native_disks.get(&measured.cell.id);
            let confidence = measured.cell.measure.confidence;
            let placements = &digest.placements;
            let judgement = placement::judged(judgement, placements, disk, claim.ratio, confidence);
            let why = verdict::decides_nothing(plan, measured.cell);
            let judgement = verdict::aside(judgement, why, measured);
            frequency::told(judgement, digest.frequency(measured))
        })
        .collect();
    let compared: Vec<Compared<'_>> = record
        .plan
        .cells
        .iter()
        .zip(&digests)
        .map(|(cell, digest)| Compared {
            cell,
            series: &digest.series,
            accounts: &digest.accounts,
            latencies,
        })
        .collect();
    let testable: Vec<Compared<'_>> = compared
        .iter()
        .filter(|it| !record.not_measured.contains_key(&it.cell.id))
        .copied()
        .collect();
    let settings = settings::effects(plan, &testable);
    let headline = match &record.plan.claim.form {
        Form::Share => verdict::headline(record, &measured, &judgements, &experiments, &settings),
        Form::Compare(compare) => verdict::compared(record, compare, &measured, &compared),
        Form::Metric(metric) => verdict::metric(record, metric, &experiments),
        Form::NotTestable(reason) => verdict::not_testable(record, reason),
    };
    let classes = verdict::classes(record, &measured, &judgements);
    let cells = (measured.par_iter(), &digests, judgements)
        .into_par_iter()
        .map(|(measured, digest, judgement)| digest.result(record, measured, judgement, latencies))
        .collect();
    let switches: Vec<Switches> = digests.iter().map(|digest| digest.switches).collect();
    Results {
        carry_over: Switches::combined(&switches).interval(CARRY_OVER_CONFIDENCE),
        settings: settings.into_iter().map(|it| it.result).collect(),
        comparisons: devices::compare(&testable),
        experiments,
        classes,
        schema: crate::result::SCHEMA,
        scenario: record.plan.scenario.clone(),
        host: record.host.clone(),
        payload_sha256: record.payload_sha256.clone(),
        interrupted: cut_short,
        vtax_version: record.vtax_version.clone(),
        started: record.started.clone(),
        finished: record.finished.clone(),
        headline,
        cells,
    }
}

/// Both sides are looked at in every run, and a run in twenty would complain for nothing.
const CARRY_OVER_CONFIDENCE: f64 = 0.99;

/// What taking turns costs a block of either side, from the samples of one cell.
#[must_use]
pub fn carry_over(samples: &[Sample], confidence: f64) -> CarryOver {
    let boots = samples.chunk_by(|one, next| one.boot == next.boot);
    Switches::new(boots).interval(confidence)
}

/// What the samples of one cell come to.
struct Digest {
    question: Question,
    series: Series,
    /// Of the boots that count, where something was counted.
    accounts: Vec<BootAccount>,
    boots_measured: usize,
    boots_unsettled: usize,
    miscomputed: usize,
    left_out: BTreeMap<&'static str, u64>,
    /// On the host and in the guest.
    blocks: [Blocks; 2],
    stalls: Option<Stalls>,
    switches: Switches,
    lost_frames: Option<LostFrames>,
    frequency: Option<Frequency>,
    placements: Placements,
    time: Duration,
}

impl Digest {
    fn new<'a>(
        cell: &Cell,
        boots: &[BootSamples<'_>],
        nanos_per_tick: f64,
        counted: impl Fn(u32) -> &'a [CounterRow],
    ) -> Self {
        let question = Question::of(&cell.workload.name);
        let per_side = vtax_workloads::find(&cell.workload.name)
            .is_some_and(|(_, workload)| workload.task().is_some());
        let boots_unsettled = boots
            .iter()
            .filter(|boot| is_unsettled(&boot.blocks))
            .count();
        let wrong = |block: &&Sample| block.marks.intersects(Marks::CHECKSUM);
        let of_boot = |boot: &BootSamples<'_>| boot.blocks.iter().filter(wrong).count();
        let miscomputed = boots.iter().map(of_boot).sum();
        let blocks = boots;
        let boots: Vec<(Boot, Duration)> = boots
            .iter()
            .map(|samples| (Boot::new(&samples.blocks, question), samples.time))
            .collect();
        let boots_measured = boots.len();
        let accounts = blocks
            .iter()
            .zip(&boots)
            .filter(|(_, (boot, _))| boot.value.is_some())
            .filter_map(|(samples, (boot, _))| {
                let number = samples.blocks.first()?.boot;
                let rows = counted(number);
                let counting = &boot.counting;
                BootAccount::new(&samples.blocks, rows, counting, nanos_per_tick, per_side)
            })
            .collect();
        let counting = blocks
            .iter()
            .zip(&boots)
            .filter(|(_, (boot, _))| boot.value.is_some())
            .filter_map(|(samples, _)| Some(counted(samples.blocks.first()?.boot)));
        let frequency = Frequency::of(counting, nanos_per_tick);
        let counters = blocks
            .iter()
            .filter_map(|samples| Some(counted(samples.blocks.first()?.boot)));
        let lost_frames = lost_frames(counters.flatten());
        let mut left_out = BTreeMap::new();
        let mut sides = [Blocks::default(); 2];
        for (boot, _) in &boots {
            for (&reason, count) in &boot.left_out {
                *left_out.entry(reason).or_default() += count;
            }
            sides[0] += boot.native;
            sides[1] += boot.guest;
        }
        let time = boots.iter().map(|&(_, time)| time).sum();
        let values = boots.into_iter().map(|(boot, _)| boot.value);
        let series = Series::new(values, cell.measure.pilot_boots);
        let stalls = (question == Question::Ratio)
            .then(|| {
                let units = guest_iterations(blocks)?;
                series.stalls(units as f64 * nanos_per_tick, cell.measure.confidence)
            })
            .flatten();
        let switches = if question == Question::Ratio {
            Switches::new(blocks.iter().map(|boot| &*boot.blocks))
        } else {
            Switches::default()
        };
        Self {
            question,
            series,
            accounts,
            switches,
            boots_measured,
            boots_unsettled,
            miscomputed,
            left_out,
            blocks: sides,
            stalls,
            lost_frames,
            frequency,
            placements: Placements::default(),
            time,
        }
    }

    /// The same, with what native's CPUs make of it.
    fn placed(self, placements: Placements) -> Self {
        Self { placements, ..self }
    }

    fn measured<'a>(
        &'a self,
        cell: &'a Cell,
        not_measured: Option<&'a NotMeasured>,
        sized: bool,
    ) -> Measured<'a> {
        Measured {
            cell,
            not_measured,
            question: self.question,
            ratio: self.series.ratio(),
            control: self.control(),
            serial_correlation: self.series.serial_correlation(),
            stalls: self.stalls.as_ref(),
            blocks: self.blocks,
            sized,
            boots: self.series.boots.len(),
            boots_measured: self.boots_measured,
            boots_unsettled: self.boots_unsettled,
            miscomputed: self.miscomputed,
            time: self.time,
        }
    }

    /// Of a cell that did not fail.
    fn frequency(&self, measured: &Measured<'_>) -> Option<&Frequency> {
        let frequency = self.frequency.as_ref();
        frequency.filter(|_| measured.not_measured.is_none())
    }

    /// Native against native, where there is a native side.
    fn control(&self) -> Option<Throughput> {
        match self.question {
            Question::Ratio | Question::Compare => self.series.control(),
            Question::Cost => None,
        }
    }

    fn result(
        &self,
        record: &RunRecord,
        measured: &Measured<'_>,
        judgement: Judgement,
        latencies: &LatencyLog,
    ) -> CellResult {
        let cell = measured.cell;
        let confidence = cell.measure.confidence;
        let metric = metric(&cell.workload.name);
        // A cell that failed has no figures: those from before the guest fault would speak for all of it.
        let is_measured = measured.not_measured.is_none();
        let side = |sides: &[Side]| {
            let times = Times::new(&self.series.boots, sides);
            summary(&times, record.nanos_per_tick, &metric).filter(|_| is_measured)
        };
        let interval = |mean: Option<Throughput>| {
            mean.filter(|_| is_measured)
                .map(|mean| mean.interval(confidence))
        };
        let is_cost = self.question != Question::Ratio;
        let cost_ticks = interval(measured.ratio.map(Throughput::inverse)).filter(|_| is_cost);
        CellResult {
            id: cell.id,
            scenario: record.plan.scenario.clone(),
            label: cell.label.clone(),
            parameters: cell.parameters.clone(),
            workload: cell.workload.name.clone(),
            unit: metric.unit.to_owned(),
            direction: match metric.direction {
                Better::HigherIsBetter => Direction::Higher,
                Better::LowerIsBetter => Direction::Lower,
            },
            native: side(NATIVE).filter(|_| self.question.has_native()),
            guest: side(GUEST),
            ratio: interval(measured.ratio).filter(|_| !is_cost),
            typical: self
                .series
                .typical()
                .filter(|_| is_measured && !is_cost)
                .map(|mean: LogMean| mean.interval(confidence)),
            stalls: self.stalls.clone().filter(|_| is_measured),
            carry_over: self.switches.interval(confidence),
            cost: cost_ticks.map(|ticks| {
                scaled(ticks, |ticks| {
                    metric.value(1, ticks * record.nanos_per_tick)
                })
            }),
            cost_ticks,
            control: interval(measured.control),
            noise_floor: judgement.noise_floor.filter(|_| is_measured),
            boots: u32::try_from(measured.boots).unwrap_or(u32::MAX),
            rounds: u32::try_from(self.series.rounds()).unwrap_or(u32::MAX),
            blocks: self.blocks[0].all + self.blocks[1].all,
            voided: self
                .left_out
                .iter()
                .map(|(&reason, &count)| (reason.to_owned(), count))
                .collect(),
            anomaly: judgement.anomaly,
            quantiles: if is_measured {
                quantiles::rows(latencies, cell.id, self.question, confidence)
            } else {
                Vec::new()
            },
            cpu: cpu_time(&self.accounts, self.series.pilot(), confidence)
                .filter(|_| is_measured && self.question == Question::Ratio),
            net_backend: cell.guest.net.as_ref().map(|net| net.backend),
            native_disk: record.native_disks.get(&cell.id).cloned(),
            on_cpus: match judgement.verdict {
                Verdict::Cost | Verdict::NotTestable => Vec::new(),
                _ => self.placements.results(confidence),
            },
            lost_frames: self.lost_frames,
            frequency: self.frequency(measured).copied(),
            ledger: judgement
                .noise_floor
                .filter(|_| is_measured && self.question == Question::Ratio)
                .and_then(|floor| {
                    let pilot = self.series.pilot();
                    Ledger::new(record, &self.accounts, pilot, floor, confidence)
                }),
            verdict: judgement.verdict,
            reason: judgement.reason,
            failed: matches!(measured.not_measured, Some(NotMeasured::Failed(_))),
        }
    }
}

/// The frames that these blocks lost; `None` where none of them counted any.
fn lost_frames<'a>(rows: impl Iterator<Item = &'a CounterRow>) -> Option<LostFrames> {
    rows.filter_map(|row| Some((row.side, row.counts.get(Counter::LostFrames)?)))
        .fold(None, |sum, (side, count)| {
            let mut sum: LostFrames = sum.unwrap_or_default();
            match side {
                Side::Guest => sum.guest += count,
                Side::Native | Side::Control => sum.native += count,
            }
            Some(sum)
        })
}

/// An interval in other units, by a function that only grows.
fn scaled(interval: Interval, scale: impl Fn(f64) -> f64) -> Interval {
    Interval {
        value: scale(interval.value),
        low: scale(interval.low),
        high: scale(interval.high),
        ..interval
    }
}

fn is_unsettled(blocks: &[Sample]) -> bool {
    blocks
        .iter()
        .any(|block| block.marks.intersects(Marks::UNSETTLED))
}

/// The metric of a workload. A record may name one that this version no longer has: then time per iteration it is.
fn metric(workload: &str) -> Metric {
    const TIME: Metric = Metric {
        unit: "ns/iteration",
        direction: Better::LowerIsBetter,
        amount_per_iteration: 1.0,
    };
    vtax_workloads::find(workload).map_or(TIME, |(_, workload)| workload.metric)
}

/// Units of work of one of the guest's blocks, warm-up apart.
fn guest_iterations(boots: &[BootSamples<'_>]) -> Option<u64> {
    let blocks = || boots.iter().flat_map(|boot| boot.blocks.iter());
    blocks()
        .find(|it| it.side == Side::Guest && !it.marks.intersects(Marks::WARMUP))
        .map(|it| it.iterations)
}

/// One side's figures from its times; per vCPU where there are several.
fn summary(times: &Times, nanos_per_tick: f64, metric: &Metric) -> Option<SideSummary> {
    let figure = |ticks: f64| metric.value(1, ticks * nanos_per_tick);
    let mut values: Vec<f64> = times
        .boots()
        .filter_map(|boot| median(&mut boot.to_vec()).map(figure))
        .collect();
    let median = median(&mut values)?;
    Some(SideSummary {
        mean: figure(times.mean()?),
        median,
        // `median` sorted them.
        min: *values.first()?,
        max: *values.last()?,
    })
}
