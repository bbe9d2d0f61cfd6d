//! A guest at work beside more and more guests that take a little CPU time each: how many of them until it loses 3 % and
//! 10 % of its rate.
//!
//! ```text
//! for 1, 2, 4 … guests, then in between:  alone ─► guests go on, one by one ─► beside them ─► guests held ─► alone
//! ```
//!
//! All of them are there from their first turn on; in between they are held (SIGSTOP). So the stretches that are compared
//! follow one another within a fraction of a second, whatever the host does over longer times.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vtax_reports::stats::crossing::crossing;
use vtax_scenarios::plan::{Experiment, Neighbour, Work, child_seed};
use vtax_workloads::abi::Op;

use super::{ExperimentError, Outcome, guests, pause};
use crate::guest::embedded;
use crate::guest::small::{On, SmallGuest};
use crate::neighbours::Crowd;
use crate::rig::Rig;

/// What the measured guest does.
const WORKLOAD: &str = "cpu-hash";
/// It is asked for blocks of this length or twice that.
const BLOCK: Duration = Duration::from_millis(1);
/// The quota's period (`cpu.max`): each guest's share of it comes in one piece, at a moment of its own.
const PERIOD: Duration = Duration::from_nanos(PERIOD_NANOS);
const PERIOD_NANOS: u64 = 100_000_000;
/// How long a process that is told to stop takes at most to do so.
const HOLDING: Duration = Duration::from_millis(2);
/// Losses that are looked for.
const LEVELS: [(&str, f64); 2] = [("guests-3", 0.03), ("guests-10", 0.10)];
/// Where two numbers of guests in a row cost this much no more are added: one stretch that the host disturbed is not enough.
const ENOUGH: f64 = 0.15;
/// Keeps the moments at which guests go on apart from other random choices.
const MOMENT_STREAM: u64 = 23;

/// Adds guests until the measured one has lost enough, or there are as many as there may be.
pub(super) fn repeat(
    rig: &Rig,
    experiment: &Experiment,
    seed: u64,
    stop: &AtomicBool,
) -> Result<Outcome, ExperimentError> {
    SmallGuest::with(&embedded::open()?, &rig.image, |measured| {
        let mut bench = Bench::new(rig, experiment, seed, measured, stop)?;
        let most = usize::try_from(experiment.param("most")).unwrap_or(usize::MAX);
        let mut points = vec![(0, 0.0)];
        let mut count = 1;
        loop {
            points.push((count, bench.loss(count)?));
            let enough = points.iter().rev().take(2).all(|point| point.1 >= ENOUGH);
            if enough || count >= most || stop.load(Ordering::Relaxed) {
                break;
            }
            count = count.saturating_mul(2).min(most);
        }
        for (_, level) in LEVELS {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if let Some(between) = between(&points, level) {
                points.push((between, bench.loss(between)?));
                points.sort_unstable_by_key(|point| point.0);
            }
        }
        Ok(outcome(&points))
    })
}

/// The points as a curve.
fn curve(points: &[(usize, f64)]) -> Vec<(f64, f64)> {
    let place = |&(count, loss): &(usize, f64)| (count as f64, loss);
    points.iter().map(place).collect()
}

/// A number of guests halfway between the two around `level`, if there is one.
fn between(points: &[(usize, f64)], level: f64) -> Option<usize> {
    let at = crossing(&curve(points), level)?;
    let after = points.iter().position(|point| point.0 as f64 >= at)?;
    let (low, high) = (points.get(after.checked_sub(1)?)?.0, points[after].0);
    (high - low > 1).then(|| low.midpoint(high))
}

fn outcome(points: &[(usize, f64)]) -> Outcome {
    let mut outcome = Outcome::default();
    let (most, largest) = points.last().copied().unwrap_or_default();
    for (metric, level) in LEVELS {
        match crossing(&curve(points), level) {
            Some(guests) => outcome.values.push((metric, guests)),
            None => outcome.unavailable.push((
                metric,
                format!(
                    "{most} guests, the most that this experiment may start, cost {:.1} % in a repetition; write a larger \
                     `most` or a larger `load`",
                    100.0 * largest
                ),
            )),
        }
    }
    for &(guests, loss) in points {
        outcome.series.push(("loss", guests as u64, loss));
        if guests == 1 {
            outcome.values.push(("loss", loss));
        }
    }
    outcome
}

struct Bench<'a, 'g> {
    rig: &'a Rig,
    experiment: &'a Experiment,
    seed: u64,
    measured: &'a mut SmallGuest<'g>,
    stop: &'a AtomicBool,
    window: Duration,
    /// Units of work of a block.
    units: u64,
    /// The others, held.
    crowds: Vec<Crowd>,
    /// Counts the moments that were drawn.
    drawn: u64,
}

impl<'a, 'g> Bench<'a, 'g> {
    fn new(
        rig: &'a Rig,
        experiment: &'a Experiment,
        seed: u64,
        measured: &'a mut SmallGuest<'g>,
        stop: &'a AtomicBool,
    ) -> Result<Self, ExperimentError> {
        measured.ask(On::Guest, Op::Setup, WORKLOAD, 0)?;
        let mut bench = Self {
            rig,
            experiment,
            seed,
            measured,
            stop,
            window: Duration::from_nanos(experiment.param("window")),
            units: 1,
            crowds: Vec::new(),
            drawn: 0,
        };
        while bench.block()? < BLOCK {
            bench.units *= 2;
        }
        Ok(bench)
    }

    /// How long a block takes.
    fn block(&mut self) -> Result<Duration, ExperimentError> {
        let done = self
            .measured
            .ask(On::Guest, Op::Run, WORKLOAD, self.units)?;
        Ok(Duration::from_nanos(done.outer_nanos))
    }

    /// Units of work in a nanosecond, over `window` and the rest of its last block.
    fn rate(&mut self, window: Duration) -> Result<f64, ExperimentError> {
        let (start, mut units) = (Instant::now(), 0);
        loop {
            self.block()?;
            units += self.units;
            if start.elapsed() >= window || self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(units as f64 / start.elapsed().as_nanos() as f64)
    }

    /// What the measured guest loses beside so many guests, as a share of its rate alone just before and after.
    fn loss(&mut self, count: usize) -> Result<f64, ExperimentError> {
        self.provide(count)?;
        let before = self.rate(self.window / 4)?;
        self.go_on(count)?;
        let beside = self.rate(self.window)?;
        self.hold()?;
        let after = self.rate(self.window / 4)?;
        for crowd in &mut self.crowds {
            crowd.check()?;
        }
        Ok(1.0 - beside / f64::midpoint(before, after))
    }

    /// Sees to it that there are so many guests, all of them held.
    fn provide(&mut self, count: usize) -> Result<(), ExperimentError> {
        let there: usize = self.crowds.iter().map(|crowd| crowd.members().len()).sum();
        let Some(more) = count.checked_sub(there).filter(|&more| more > 0) else {
            return Ok(());
        };
        let plan = Neighbour {
            count: u32::try_from(more).unwrap_or(u32::MAX),
            memory: self.experiment.param("memory") / (2 << 20) * (2 << 20),
            cpu_quota: Some(self.experiment.param("load") as f64 / 100.0),
            ..guests::of(Work::Cpu)
        };
        self.crowds
            .push(guests::start(self.rig, &[plan], self.seed)?);
        self.hold()
    }

    /// Lets so many of them go on, each at a moment of its own within a period: together they would all have their share
    /// of it at once, and then none.
    fn go_on(&mut self, count: usize) -> Result<(), ExperimentError> {
        let mut moments: Vec<u64> = (0..count as u64)
            .map(|guest| child_seed(self.seed, &[MOMENT_STREAM, self.drawn, guest]) % PERIOD_NANOS)
            .collect();
        self.drawn += 1;
        moments.sort_unstable();
        let start = Instant::now();
        let members = self.crowds.iter().flat_map(Crowd::members);
        for (member, moment) in members.zip(moments) {
            let due = Duration::from_nanos(moment);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            member.go_on().map_err(signalling)?;
        }
        pause(PERIOD.saturating_sub(start.elapsed()), self.stop);
        Ok(())
    }

    fn hold(&self) -> Result<(), ExperimentError> {
        for member in self.crowds.iter().flat_map(Crowd::members) {
            member.hold().map_err(signalling)?;
        }
        std::thread::sleep(HOLDING);
        Ok(())
    }
}

fn signalling(source: std::io::Error) -> ExperimentError {
    ExperimentError::Io {
        what: "holding a guest's process",
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_around_a_level_is_halved_until_there_is_none() {
        let points = [
            (0, 0.0),
            (1, 0.0),
            (2, 0.01),
            (4, 0.02),
            (8, 0.04),
            (16, 0.3),
        ];
        assert_eq!(between(&points, 0.03), Some(6));
        assert_eq!(between(&points, 0.1), Some(12));
        assert_eq!(between(&points, 0.005), None, "there is none from 1 to 2");
        assert_eq!(between(&points, 0.5), None);
    }

    #[test]
    fn a_loss_that_was_not_reached_is_said_and_not_guessed() {
        let outcome = outcome(&[(0, 0.0), (1, 0.01), (2, 0.05)]);
        assert_eq!(outcome.values, [("guests-3", 1.5), ("loss", 0.01)]);
        let [(metric, why)] = &outcome.unavailable[..] else {
            panic!("{:?}", outcome.unavailable);
        };
        assert_eq!(*metric, "guests-10");
        assert!(why.contains("2 guests") && why.contains("5.0 %"), "{why}");
        assert_eq!(outcome.series.len(), 3);
    }
}
