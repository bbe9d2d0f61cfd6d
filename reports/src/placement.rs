//! Whether a cell's verdict depends on the CPU that its native blocks ran on.
//!
//! ```text
//! native blocks by CPU ──► guest as a share of native on each ──► the same verdict on all? else undecided, with the figures
//! ```
//!
//! A disk's interrupt arrives on some CPU. Where a native block waits on another one, each completion is a wake-up across CPUs,
//! and the guest seems the better for it; where it waits on that CPU, the worse. Neither is a property of the guest. Native
//! blocks therefore begin on the CPUs of the guest's threads in turns, and a verdict stands only where it does on each of them.

use std::collections::BTreeMap;

use vtax_scenarios::plan::Measure;

use crate::native_disk::{Found, NativeDisk};
use crate::record::{Marks, Reading, Sample, Side};
use crate::result::{Interval, OnCpu, Verdict};
use crate::spans::BootSamples;
use crate::stats::mean::LogMean;
use crate::stats::stein;
use crate::verdict::words;
use crate::verdict::{Judgement, position};

/// Fewest boots with native blocks on a CPU that say something of it.
const FEWEST_BOOTS: usize = 3;

/// What native blocks on each CPU say of a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Placements {
    /// By CPU, ascending; those with too few boots left out.
    on: Vec<(u32, LogMean, u32)>,
    /// The largest difference between two of them, native's time on the one against the other in the same boots; only where
    /// it is more than chance and more than the precision that the cell was to have.
    difference: Option<LogMean>,
}

impl Placements {
    /// From the boots of a cell whose native blocks may run on several CPUs.
    pub(crate) fn of(boots: &[BootSamples<'_>], measure: &Measure) -> Self {
        let boots: Vec<Boot> = boots.iter().filter_map(|it| Boot::of(&it.blocks)).collect();
        let mut cpus: Vec<u16> = boots
            .iter()
            .flat_map(|boot| boot.native.keys().copied())
            .collect();
        cpus.sort_unstable();
        cpus.dedup();
        let on = cpus.iter().filter_map(|&cpu| {
            let values: Vec<f64> = boots
                .iter()
                .filter_map(|boot| Some(boot.native.get(&cpu)? - boot.guest))
                .collect();
            let ratio = mean(&values)?;
            Some((cpu.into(), ratio, u32::try_from(values.len()).ok()?))
        });
        let pairs = (0..cpus.len()).flat_map(|one| (0..one).map(move |other| (one, other)));
        // So many differences are looked at, and one of them shall be taken for real by chance no more often than the
        // confidence says (Bonferroni).
        let each = 1.0 - (1.0 - measure.confidence) / pairs.clone().count().max(1) as f64;
        let differences = pairs.filter_map(|(one, other)| {
            let values: Vec<f64> = boots
                .iter()
                .filter_map(|boot| {
                    Some(boot.native.get(&cpus[one])? - boot.native.get(&cpus[other])?)
                })
                .collect();
            mean(&values).filter(|it| {
                let size = it.mean.abs();
                size > it.half_width(each) && size > stein::log_half_width(measure.precision)
            })
        });
        let difference = differences.max_by(|a, b| a.mean.abs().total_cmp(&b.mean.abs()));
        Self {
            on: on.collect(),
            difference,
        }
    }

    /// The shares for the results, each with its interval; empty where native ran on one CPU alone.
    pub(crate) fn results(&self, confidence: f64) -> Vec<OnCpu> {
        if self.on.len() < 2 {
            return Vec::new();
        }
        let result = |&(cpu, ratio, boots): &(u32, LogMean, u32)| OnCpu {
            cpu,
            ratio: ratio.interval(confidence),
            boots,
        };
        self.on.iter().map(result).collect()
    }
}

/// One boot: logarithms of the mean time per unit of work.
struct Boot {
    guest: f64,
    native: BTreeMap<u16, f64>,
}

impl Boot {
    /// `None` without a guest block that counts.
    fn of(blocks: &[Sample]) -> Option<Self> {
        let mut sums: BTreeMap<Option<u16>, (f64, f64)> = BTreeMap::new();
        let left_out = |marks: Marks| marks.is_void() || marks.intersects(Marks::WARMUP);
        let counts = |block: &&Sample| !left_out(block.marks) && block.cost().is_finite();
        for block in blocks.iter().filter(counts) {
            let key = (block.side != Side::Guest).then_some(block.cpu);
            let (ticks, work) = sums.entry(key).or_default();
            *ticks += block.cost() * block.iterations as f64;
            *work += block.iterations as f64;
        }
        let log = |(ticks, work): (f64, f64)| (ticks / work).ln();
        let guest = log(sums.remove(&None)?);
        let native = sums
            .into_iter()
            .filter_map(|(cpu, sum)| Some((cpu?, log(sum))))
            .filter(|(_, log)| log.is_finite())
            .collect();
        guest.is_finite().then_some(Self { guest, native })
    }
}

/// The ordinary t interval's mean: what is looked at here sized nothing.
fn mean(values: &[f64]) -> Option<LogMean> {
    stein::estimate(values, values.len()).filter(|_| values.len() >= FEWEST_BOOTS)
}

/// What follows from the CPU that native ran on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dependence {
    /// Nothing: the shares differ by no more than chance.
    None,
    /// The shares differ, and the verdict is the same.
    Share,
    /// Another verdict would come of another CPU.
    Verdict,
}

/// Whether `verdict` stands wherever native ran, by the shares on each CPU; `differ` says whether they differ by more than
/// chance.
///
/// It does not where some CPU's own interval lies wholly on the other side of the threshold. Where the shares differ it must
/// lie wholly on the verdict's side for every CPU: a mean over two kinds of places is then no answer for either.
pub(crate) fn dependence(
    verdict: Verdict,
    on: &[OnCpu],
    differ: bool,
    threshold: f64,
) -> Dependence {
    let positions = || on.iter().map(|it| position(&it.ratio, threshold));
    let opposite = match verdict {
        Verdict::Holds => Verdict::Refuted,
        Verdict::Refuted => Verdict::Holds,
        Verdict::Undecided | Verdict::NotTestable | Verdict::Cost => {
            return if differ {
                Dependence::Share
            } else {
                Dependence::None
            };
        }
    };
    if positions().any(|it| it == opposite) || (differ && positions().any(|it| it != verdict)) {
        Dependence::Verdict
    } else if differ {
        Dependence::Share
    } else {
        Dependence::None
    }
}

/// The judgement on a cell, with what follows from the CPU that native ran on.
pub(crate) fn judged(
    judgement: Judgement,
    placements: &Placements,
    disk: Option<&NativeDisk>,
    threshold: f64,
    confidence: f64,
) -> Judgement {
    let on = placements.results(confidence);
    let differ = placements.difference.is_some();
    let dependence = dependence(judgement.verdict, &on, differ, threshold);
    if on.is_empty() || dependence == Dependence::None {
        return judgement;
    }
    let shares = on
        .iter()
        .map(|it| format!("{} on CPU {}", share(&it.ratio, threshold), it.cpu));
    let shares = shares.collect::<Vec<_>>().join(", ");
    let arrives = disk.and_then(arrival).unwrap_or_default();
    if dependence == Dependence::Share {
        let same = match judgement.verdict {
            Verdict::Holds | Verdict::Refuted => "; the verdict is the same",
            _ => "",
        };
        let reason = format!(
            "{} The share depends on the CPU that native runs on: {shares}{same}.{arrives}",
            judgement.reason
        );
        return Judgement {
            reason,
            ..judgement
        };
    }
    let would = match judgement.verdict {
        Verdict::Holds => "hold",
        _ => "be refuted",
    };
    Judgement {
        verdict: Verdict::Undecided,
        reason: format!(
            "Over all blocks the claim of {} would {would}, but that depends on the CPU that native runs on: {shares}.{arrives} \
             Settle where both sides run: bind vCPU and I/O threads (pinning, disk-io-cpus), or move the interrupt.",
            words::threshold(threshold)
        ),
        depends_on_placement: true,
        ..judgement
    }
}

fn share(ratio: &Interval, threshold: f64) -> String {
    let decimals = words::decimals(ratio, threshold);
    let ends = words::ends(ratio, threshold);
    format!("{:.decimals$} % {ends}", 100.0 * ratio.value)
}

/// Where the disk's interrupts arrive, as a sentence with a space before it; `None` where that is not known.
fn arrival(disk: &NativeDisk) -> Option<String> {
    let Found::Value(devices) = &disk.devices else {
        return None;
    };
    let arrivals: Vec<String> = devices
        .iter()
        .filter_map(|device| match &device.interrupts {
            Found::Value(interrupts) => Some((device, interrupts)),
            Found::Unavailable(_) => None,
        })
        .flat_map(|(device, interrupts)| {
            interrupts.iter().filter_map(move |interrupt| {
                let Reading::Value(cpus) = &interrupt.effective else {
                    return None;
                };
                let name = if interrupt.name.is_empty() {
                    &device.name
                } else {
                    &interrupt.name
                };
                Some(format!("{name} on CPU {cpus}"))
            })
        })
        .collect();
    // A disk with a queue for each CPU has as many.
    match arrivals.as_slice() {
        [] => None,
        few if few.len() <= 4 => Some(format!(" Interrupts arrive: {}.", few.join(", "))),
        many => Some(format!(
            " The disk has {} interrupts; run.json has where each arrives.",
            many.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::time::Duration;

    use super::*;

    const THRESHOLD: f64 = 0.8;

    fn block(side: Side, cpu: u16, ticks: u64) -> Sample {
        Sample {
            cell: 0,
            boot: 0,
            round: 0,
            position: 0,
            side,
            vcpu: 0,
            cpu,
            iterations: 10,
            ticks,
            outer_nanos: ticks,
            run_in_ticks: 0,
            latency_ticks: 0,
            marks: Marks::CLEAN,
            at_nanos: 0,
        }
    }

    /// Boots in which native takes `native[cpu]`, the guest 1000, each boot with a little noise of its own and of each side.
    fn boots(native: &[u64], count: u64) -> Vec<BootSamples<'static>> {
        (0..count)
            .map(|boot| {
                let own = boot * 7 % 5;
                let mut blocks = vec![block(Side::Guest, 0, 1000 + own)];
                for (cpu, &ticks) in (0..).zip(native) {
                    // The order differs from CPU to CPU, the mean does not.
                    let noise = (boot * 3 + u64::from(cpu)) % 4;
                    for side in [Side::Native, Side::Control] {
                        blocks.push(block(side, cpu, ticks + own + noise));
                    }
                }
                // What does not count says nothing.
                blocks.push(Sample {
                    marks: Marks::WARMUP,
                    ..block(Side::Native, 1, 1)
                });
                blocks.push(Sample {
                    marks: Marks::CLOCK,
                    ..block(Side::Guest, 0, 1)
                });
                BootSamples {
                    blocks: Cow::Owned(blocks),
                    time: Duration::from_millis(1),
                }
            })
            .collect()
    }

    /// Of a cell that is to be known to 1 %.
    fn measure() -> Measure {
        let text = "schema = 1\nname = \"s\"\n[measure]\nprecision = \"1%\"\n[[workload]]\nname = \"cpu-hash\"";
        let plan = vtax_scenarios::parse("s.toml", text, &Default::default());
        plan.unwrap().plan.cells.remove(0).measure
    }

    fn judgement(verdict: Verdict) -> Judgement {
        Judgement {
            verdict,
            reason: "Because.".to_owned(),
            anomaly: None,
            noise_floor: Some(0.01),
            depends_on_placement: false,
            hides_stalls: false,
        }
    }

    fn after(native: &[u64], verdict: Verdict) -> Judgement {
        let placements = Placements::of(&boots(native, 8), &measure());
        judged(judgement(verdict), &placements, None, THRESHOLD, 0.95)
    }

    #[test]
    fn a_verdict_that_turns_with_the_cpu_is_none() {
        // 113 % where the interrupt arrives elsewhere, 69 % where it arrives.
        for verdict in [Verdict::Holds, Verdict::Refuted] {
            let judgement = after(&[1130, 690], verdict);
            assert_eq!(judgement.verdict, Verdict::Undecided);
            assert!(judgement.depends_on_placement);
            let reason = &judgement.reason;
            assert!(
                reason.contains("on CPU 0") && reason.contains("on CPU 1"),
                "{reason}"
            );
        }
    }

    #[test]
    fn a_verdict_that_stands_on_every_cpu_stands_and_the_difference_is_reported() {
        for (native, verdict) in [([700, 500], Verdict::Refuted), ([950, 900], Verdict::Holds)] {
            let judgement = after(&native, verdict);
            assert_eq!(judgement.verdict, verdict);
            assert!(
                judgement.reason.starts_with("Because. The share depends"),
                "{}",
                judgement.reason
            );
            assert!(judgement.reason.contains("the same"));
        }
    }

    #[test]
    fn where_the_cpu_makes_no_difference_nothing_changes() {
        let judgement = after(&[900, 900], Verdict::Holds);
        assert_eq!(
            (judgement.verdict, judgement.reason.as_str()),
            (Verdict::Holds, "Because.")
        );
        // Neither where it makes less than the precision that was asked for.
        assert_eq!(after(&[900, 905], Verdict::Holds).reason, "Because.");
        // With one CPU there is nothing to compare.
        assert_eq!(after(&[500], Verdict::Holds).reason, "Because.");
        // Neither with fewer boots than say something.
        let few = Placements::of(&boots(&[1130, 690], 2), &measure());
        assert_eq!(few, Placements::default());
    }

    #[test]
    fn a_share_that_straddles_the_threshold_on_one_cpu_is_no_verdict_where_shares_differ() {
        let on = |cpu, low, high| OnCpu {
            cpu,
            ratio: Interval {
                value: f64::midpoint(low, high),
                low,
                high,
                confidence: 0.95,
            },
            boots: 8,
        };
        let both = [on(0, 0.9, 0.95), on(1, 0.78, 0.84)];
        let of = |verdict, differ| dependence(verdict, &both, differ, THRESHOLD);
        assert_eq!(of(Verdict::Holds, true), Dependence::Verdict);
        assert_eq!(of(Verdict::Holds, false), Dependence::None);
        assert_eq!(of(Verdict::Refuted, false), Dependence::Verdict);
        assert_eq!(of(Verdict::Undecided, true), Dependence::Share);
        assert_eq!(of(Verdict::Cost, false), Dependence::None);
    }

    #[test]
    fn shares_are_those_that_went_in() {
        let on = Placements::of(&boots(&[1130, 690], 8), &measure()).results(0.95);
        let shares: Vec<(u32, f64)> = on.iter().map(|it| (it.cpu, it.ratio.value)).collect();
        assert_eq!((shares[0].0, shares[1].0), (0, 1));
        assert!(
            (shares[0].1 - 1.13).abs() < 0.01 && (shares[1].1 - 0.69).abs() < 0.01,
            "{shares:?}"
        );
    }
}
