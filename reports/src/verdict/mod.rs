//! Verdicts on a claim, for a cell and for the whole run. Four there are: *holds*, *refuted*, *undecided* and *not
//! testable*, each with its reason in words.

mod apart;
mod bound;
mod compared;
mod deciding;
mod headline;
mod metric;
mod settings;
pub mod words;

use std::time::Duration;

pub use bound::shown;
pub(crate) use bound::{aside, decides_nothing, not_testable, parts};
pub(crate) use compared::compared;
pub use headline::classes;
pub(crate) use headline::headline;
pub(crate) use metric::metric;
use vtax_scenarios::plan::{Cell, DiskBacking};
use vtax_workloads::Family;

use crate::devices::is_on_disk;
use crate::record::{NotMeasured, RunRecord};
use crate::result::{Interval, Verdict};
use crate::stats::boot::Blocks;
use crate::stats::boot::Question;
use crate::stats::stalls::Stalls;
use crate::stats::throughput::Throughput;
use crate::stats::unequal::chance_of_void;

/// More measuring time than this is no advice any more: the host does not stay the same for so long.
pub const REASONABLE: Duration = Duration::from_secs(24 * 60 * 60);

/// What is known of a cell when it is judged.
#[derive(Clone, Debug)]
pub struct Measured<'a> {
    /// The cell.
    pub cell: &'a Cell,
    /// Why it was not measured, where it was not.
    pub not_measured: Option<&'a NotMeasured>,
    /// What its boots were asked.
    pub question: Question,
    /// Guest performance as a share of native, or for the other questions the inverse of the cost in ticks; `None` with
    /// fewer than two boots that count.
    pub ratio: Option<Throughput>,
    /// Native against native.
    pub control: Option<Throughput>,
    /// How the guest stumbles; `None` where nothing is compared with native.
    pub stalls: Option<&'a Stalls>,
    /// Blocks on the host and in the guest.
    pub blocks: [Blocks; 2],
    /// How strongly its boots follow each other, where that is no chance.
    pub serial_correlation: Option<f64>,
    /// Whether its precision sized it, and not the budget alone.
    pub sized: bool,
    /// Boots that count.
    pub boots: usize,
    /// Boots that were measured.
    pub boots_measured: usize,
    /// Those of them whose warm-up ended without a steady state.
    pub boots_unsettled: usize,
    /// Blocks of either side that came to a wrong checksum, those of the warm-up included.
    pub miscomputed: usize,
    /// Wall-clock time that all its boots took.
    pub time: Duration,
}

impl Measured<'_> {
    fn interval(&self, mean: Option<Throughput>) -> Option<Interval> {
        mean.map(|mean| mean.interval(self.cell.measure.confidence))
    }
}

/// The verdict on a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict on the claim's threshold.
    pub verdict: Verdict,
    /// Why, in sentences.
    pub reason: String,
    /// Why the guest looks better than native, where it does.
    pub anomaly: Option<String>,
    /// Largest distance of the A/A interval from 1.
    pub noise_floor: Option<f64>,
    /// Whether the sides have unequal shares of void blocks, so that one may hide stalls.
    pub hides_stalls: bool,
    /// Whether it is undecided because another verdict would come of another CPU for the native side.
    pub depends_on_placement: bool,
}

/// Judges a cell against `threshold`. `nested_under` is the hypervisor under this host, `cut_short` whether the run
/// ended before its time.
#[must_use]
pub fn judge(
    measured: &Measured<'_>,
    threshold: f64,
    nested_under: Option<&str>,
    cut_short: bool,
) -> Judgement {
    let control = measured.interval(measured.control);
    let noise_floor = control.map(|control| noise_floor(&control));
    let judgement = |verdict, reason| Judgement {
        verdict,
        reason,
        anomaly: None,
        noise_floor,
        hides_stalls: false,
        depends_on_placement: false,
    };
    match measured.not_measured {
        Some(NotMeasured::NotTestable(reason)) => {
            return judgement(Verdict::NotTestable, reason.clone());
        }
        Some(NotMeasured::Failed(reason)) => {
            return judgement(Verdict::NotTestable, format!("The guest failed: {reason}"));
        }
        None => {}
    }
    let Some((mean, ratio)) = measured.ratio.zip(measured.interval(measured.ratio)) else {
        return judgement(Verdict::Undecided, too_few_boots(measured, cut_short));
    };
    let no_claim = match measured.question {
        Question::Ratio if is_memory_disk(measured.cell) => Some(
            "The disk is memory, so the host's side is a copy: the difference is what the way to the VMM and back costs, \
             and no share that could be claimed.",
        ),
        Question::Ratio => None,
        Question::Cost => Some("The host has nothing to compare with: the cost is the result."),
        Question::Compare => Some(
            "How long one waits says nothing of how much gets done, so there is no share of native: compare the quantiles.",
        ),
    };
    if let Some(reason) = no_claim {
        return judgement(Verdict::Cost, reason.to_owned() + &remarks(measured));
    }
    let anomaly = (ratio.low > 1.0 + noise_floor.unwrap_or(0.0))
        .then(|| anomaly(measured.cell, nested_under));
    let (mut verdict, mut reason) = match &anomaly {
        Some(_) => (
            Verdict::Undecided,
            format!(
                "The guest seems to run at {}, and better than native is an anomaly, not a pass.",
                words::of_native(&ratio, threshold)
            ),
        ),
        None => against(&ratio, &mean, threshold, measured.time),
    };
    let unequal = unequal(measured);
    let hides_stalls = unequal.is_some();
    if let (Verdict::Holds | Verdict::Refuted, Some(why)) = (verdict, unequal) {
        (verdict, reason) = (Verdict::Undecided, why);
    }
    if let Some(stalls) = measured.stalls {
        reason += &stumbling(stalls);
        if verdict == Verdict::Holds {
            reason += &format!(" {}", words::excluded(stalls.excluded_nanos));
        }
    }
    if let Some(control) = control.filter(|control| control.low > 1.0 || control.high < 1.0) {
        reason += &format!(
            " Native against native gives {} % and misses 100: the cell disagrees with itself, as about one in {:.0} \
             does by chance.",
            words::ends(&control, 1.0),
            1.0 / (1.0 - control.confidence)
        );
    }
    reason += &remarks(measured);
    Judgement {
        verdict,
        reason,
        anomaly,
        noise_floor,
        hides_stalls,
        depends_on_placement: false,
    }
}

/// Shares of void blocks that are less likely than this where the sides are alike are unequal.
const UNEQUAL: f64 = 0.05;

/// Why void blocks leave the cell undecided, where they do: one side's may hide what the other's do not.
fn unequal(measured: &Measured<'_>) -> Option<String> {
    let [native, guest] = measured.blocks;
    (chance_of_void(native, guest) < UNEQUAL).then(|| {
        format!(
            "The sides have unequal shares of void blocks, which may hide stalls: {} of {} in the guest, {} of {} on the host.",
            guest.void, guest.all, native.void, native.all
        )
    })
}

/// How the guest stumbles, a sentence with a space before it; empty where it does not.
fn stumbling(stalls: &Stalls) -> String {
    if !stalls.stumbles {
        return String::new();
    }
    let lengths = stalls
        .excess_nanos
        .map_or_else(String::new, |[half, _, longest]| {
            format!(
                ", half of them by {} or more, the longest by {}",
                words::nanos(half),
                words::nanos(longest)
            )
        });
    format!(
        " The guest stumbles: {} of {} stalled{lengths}, which costs {} % of its throughput [{}, {}].",
        stalls.guest,
        words::count(words::at_most(stalls.guest_blocks), "block"),
        words::percent(stalls.cost),
        words::percent(stalls.cost_low),
        words::percent(stalls.cost_high),
    )
}

/// A precision that was missed by more than this factor is said to be.
const MISSED: f64 = 1.1;

/// Whether the cell's disk has no device behind it.
fn is_memory_disk(cell: &Cell) -> bool {
    let disk = cell.guest.disk.as_ref();
    is_on_disk(cell) && disk.is_some_and(|disk| disk.backing == DiskBacking::Memory)
}

/// What a reader of a headline must know where the host is itself a guest.
fn nested(record: &RunRecord) -> Option<String> {
    record.host.nested_under.as_deref().map(words::nested)
}

/// What a reader must know of the boots behind a result, each a sentence with a space before it.
fn remarks(measured: &Measured<'_>) -> String {
    let mut remarks = String::new();
    if let Some(correlation) = measured.serial_correlation {
        remarks += &format!(
            " Its boots follow each other (correlation {correlation:.2}), so the interval is too narrow: more cells in \
             the scenario would set them apart in time."
        );
    }
    if measured.boots_unsettled > 0 {
        remarks += &format!(
            " {} of {} had not settled when their warm-up ended.",
            measured.boots_unsettled,
            words::count(measured.boots_measured, "boot")
        );
    }
    if let Some(ratio) = measured.ratio.filter(|_| measured.sized) {
        let (reached, wanted) = (
            ratio.half_width(measured.cell.measure.confidence),
            measured.cell.measure.precision,
        );
        if reached > MISSED * wanted {
            remarks += &format!(
                " ± {} % was wanted and ± {} % reached.",
                words::percent(wanted),
                words::percent(reached)
            );
        }
    }
    let dropped = measured.boots_measured.saturating_sub(measured.boots);
    if dropped > 0 {
        remarks += &format!(
            " {dropped} of {} left out as void.",
            words::count(measured.boots_measured, "boot")
        );
    }
    remarks
}

/// The largest distance of the control's interval from 1: what a cell cannot tell from nothing.
#[must_use]
pub fn noise_floor(control: &Interval) -> f64 {
    (control.low - 1.0).abs().max((control.high - 1.0).abs())
}

/// Where the interval lies, and what follows.
fn against(
    ratio: &Interval,
    mean: &Throughput,
    threshold: f64,
    time: Duration,
) -> (Verdict, String) {
    let ends = words::ends(ratio, threshold);
    let limit = words::threshold(threshold);
    let verdict = position(ratio, threshold);
    let reason = match verdict {
        Verdict::Holds => format!("The whole interval {ends} is at or above {limit}."),
        Verdict::Refuted => format!("The whole interval {ends} is below {limit}."),
        Verdict::Undecided | Verdict::NotTestable | Verdict::Cost => format!(
            "The interval {ends} straddles {limit}: {}.",
            outlook(mean, ratio.confidence, threshold, time)
        ),
    };
    (verdict, reason)
}

/// Where the interval lies relative to the threshold.
pub(crate) fn position(ratio: &Interval, threshold: f64) -> Verdict {
    if ratio.low >= threshold {
        Verdict::Holds
    } else if ratio.high < threshold {
        Verdict::Refuted
    } else {
        Verdict::Undecided
    }
}

/// How much more time would decide, after `time` did not: enough boots that the half-width falls below the distance
/// between estimate and threshold, should the estimate stay where it is.
fn outlook(mean: &Throughput, confidence: f64, threshold: f64, time: Duration) -> String {
    let above = mean.mean() > threshold.ln();
    let (reach_below, reach_above) = mean.distances(confidence);
    let reach = if above { reach_below } else { reach_above };
    time_to_decide(reach, (mean.mean() - threshold.ln()).abs(), time)
}

/// How much more time brings a half-width that shrinks with the root of time down to `distance`.
fn time_to_decide(half_width: f64, distance: f64, time: Duration) -> String {
    let times = (half_width / distance.max(0.0)).powi(2) - 1.0;
    match Duration::try_from_secs_f64(time.as_secs_f64() * times) {
        Ok(more) if more <= REASONABLE => {
            format!("about {} more would decide", words::duration(more))
        }
        _ => "no reasonable amount of time decides at this noise; a quieter host would".to_owned(),
    }
}

fn too_few_boots(measured: &Measured<'_>, cut_short: bool) -> String {
    let happened = if cut_short {
        "The run was interrupted before two of this cell's boots counted"
    } else if measured.boots_measured < 2 {
        "The time budget ended before this cell's second boot"
    } else {
        "Fewer than two of this cell's boots have a round that counts"
    };
    let mut reason = format!(
        "{happened} ({} of {}).",
        measured.boots,
        words::count(measured.boots_measured, "boot")
    );
    let wait = Duration::from_nanos(measured.cell.ksm_wait_nanos());
    if !wait.is_zero() {
        let pilot = Duration::from_nanos(measured.cell.pilot_nanos());
        reason += &format!(
            " Each boot waits {} or more for KSM, and its pilot takes {}: give it more --budget, let KSM look at more pages at a \
             time (ksm-pages-to-scan in [host]), or offer it less memory.",
            words::duration(wait),
            words::duration(pilot)
        );
    }
    reason
}

/// The likely causes of a guest that beats native, the likeliest first.
fn anomaly(cell: &Cell, nested_under: Option<&str>) -> String {
    let mut causes = Vec::new();
    if cell
        .baseline_backing
        .is_some_and(|backing| backing != cell.guest.backing)
    {
        causes.push("the baseline's memory has another backing than the guest's".to_owned());
    }
    let family = vtax_workloads::find(&cell.workload.name).map(|(_, workload)| workload.family);
    if matches!(family, Some(Family::Block | Family::Network)) {
        causes.push(
            "the guest's driver and the host's system calls go different ways, and the guest's is the shorter one"
                .to_owned(),
        );
    }
    causes.push("a guest clock that runs slow within the bound of the two clocks".to_owned());
    causes.push("another CPU frequency during guest blocks".to_owned());
    causes.push(
        "luckier page placement, or larger pages in the guest's translations than in the host's"
            .to_owned(),
    );
    causes.push("work that the host's caches did for the guest".to_owned());
    if let Some(hypervisor) = nested_under {
        causes.push(format!(
            "native here pays a tax of its own to {hypervisor}, which the guest may evade"
        ));
    }
    format!("Likely causes: {}.", causes.join("; "))
}
