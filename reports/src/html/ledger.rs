//! The account of the gap: for each cell a stacked bar of what the known causes predict, beside what was measured.

use std::collections::BTreeMap;

use super::scale::place;
use crate::export::figures::{figure, nanos, percent};
use crate::ledger::{Cause, Entry, Finding, Ledger, Price, price};
use crate::record::{CostOf, UnitCost};
use crate::result::{CellResult, Interval, Results};
use crate::store::Run;

/// Most bars; the others are in `results.json`.
const MOST: usize = 24;
/// Most labels in the list of cells without a loss.
const MOST_QUIET: usize = 12;
/// A cause with a smaller share of the bar than this is in the table alone.
const VISIBLE: f64 = 0.003;

/// The section.
pub(super) struct Account<'a> {
    pub bars: Vec<Bar<'a>>,
    /// Cells with a loss that have no bar.
    pub more: usize,
    /// Cells without a loss that stands out of the noise.
    pub quiet: Vec<&'a str>,
    pub more_quiet: usize,
    pub legend: Vec<Key>,
    pub unaccounted: Vec<Reason<'a>>,
    pub costs: Vec<CostRow<'a>>,
}

/// One cell.
pub(super) struct Bar<'a> {
    pub label: &'a str,
    pub words: String,
    pub segments: Vec<Segment>,
    /// Where the measured loss ends on the bar.
    pub measured: String,
    /// By how much the guest takes longer: `+12.3 %`.
    pub longer: String,
    pub finding: String,
    pub finding_class: &'static str,
    pub rows: Vec<Row>,
}

/// A piece of a bar.
pub(super) struct Segment {
    pub class: &'static str,
    pub x: String,
    pub width: String,
    /// What the guest saves against native, drawn below the bar's end.
    pub is_saving: bool,
    pub words: String,
}

/// A line of a cell's table.
pub(super) struct Row {
    pub name: &'static str,
    /// Whether it is a cause, not a sum.
    pub is_cause: bool,
    pub events: String,
    pub cost: String,
    pub loss: String,
    pub range: String,
    pub share: String,
}

/// A colour and what it stands for.
pub(super) struct Key {
    pub class: &'static str,
    pub title: &'static str,
}

/// Causes that could not be told, and why.
pub(super) struct Reason<'a> {
    pub cause: &'static str,
    pub reason: &'a str,
    pub cells: usize,
}

/// What an event costs on the host of the run.
pub(super) struct CostRow<'a> {
    pub event: &'static str,
    /// Empty where it was not measured; `how` then says why.
    pub cost: String,
    pub range: String,
    pub how: &'a str,
}

impl<'a> Account<'a> {
    /// The accounts of all cells that have one.
    pub fn new(run: &'a Run, results: &'a Results) -> Self {
        let accounts: Vec<(&CellResult, &Ledger)> = results
            .cells
            .iter()
            .filter_map(|cell| Some((cell, cell.ledger.as_ref()?)))
            .collect();
        let (mut loud, quiet): (Vec<_>, Vec<_>) =
            accounts.iter().partition(|(_, ledger)| stands_out(ledger));
        if loud.len() > MOST {
            let share = |ledger: &Ledger| ledger.loss.value / ledger.native_nanos;
            loud.sort_by(|(_, one), (_, other)| share(other).total_cmp(&share(one)));
        }
        let more = loud.len().saturating_sub(MOST);
        loud.truncate(MOST);
        let bars: Vec<Bar<'_>> = loud
            .iter()
            .map(|(cell, ledger)| Bar::new(cell, ledger))
            .collect();
        Self {
            legend: legend(&bars),
            bars,
            more,
            more_quiet: quiet.len().saturating_sub(MOST_QUIET),
            quiet: quiet
                .iter()
                .take(MOST_QUIET)
                .map(|(cell, _)| cell.label.as_str())
                .collect(),
            unaccounted: reasons(&accounts),
            costs: run
                .record
                .unit_costs
                .iter()
                .map(|(&event, cost)| CostRow::new(event, cost))
                .collect(),
        }
    }
}

/// Whether there is something to account for: a loss, or causes that predict one that is not there.
fn stands_out(ledger: &Ledger) -> bool {
    (ledger.loss.low > 0.0 && ledger.loss.value > ledger.noise_nanos)
        || ledger.finding != Finding::Explained
}

impl<'a> Bar<'a> {
    fn new(cell: &'a CellResult, ledger: &Ledger) -> Self {
        let sum = |of: fn(f64) -> f64| -> f64 {
            let values = ledger.causes.iter().map(|entry| of(entry.loss.value));
            values.sum()
        };
        let (more, less) = (sum(|loss| loss.max(0.0)), sum(|loss| (-loss).max(0.0)));
        // From here back to the measured loss goes what the guest saves.
        let end = ledger.loss.value + less;
        // Where it saves more than it loses the bar begins there.
        let zero = (-ledger.loss.value).max(0.0);
        let whole = (end.max(more) + zero).max(f64::MIN_POSITIVE);
        let mut segments = Vec::new();
        let mut add = |class, title: &str, at: f64, value: f64, is_saving| {
            if value / whole >= VISIBLE {
                segments.push(Segment {
                    class,
                    x: place((zero + at) / whole * 100.0),
                    width: place(value / whole * 100.0),
                    is_saving,
                    words: format!(
                        "{title}: {}{} per unit of work",
                        if is_saving { "−" } else { "" },
                        time(value)
                    ),
                });
            }
        };
        let (mut at, mut back) = (0.0, end);
        for entry in &ledger.causes {
            let (class, title, loss) = (class(entry.cause), entry.cause.title(), entry.loss.value);
            if loss >= 0.0 {
                add(class, title, at, loss, false);
                at += loss;
            } else {
                back += loss;
                add(class, title, back, -loss, true);
            }
        }
        let (residual, title) = rest(ledger.finding);
        add(residual, title, at, end - at, false);
        let longer = ledger.loss.value / ledger.native_nanos;
        Self {
            label: &cell.label,
            words: words(cell, ledger),
            segments,
            measured: place((zero + ledger.loss.value) / whole * 100.0),
            longer: longer_text(longer),
            finding: finding(ledger),
            finding_class: match ledger.finding {
                Finding::Explained => "holds",
                Finding::Unexplained => "undecided",
                Finding::Overestimated => "anomaly",
            },
            rows: rows(ledger),
        }
    }
}

/// What the account leaves over, with its share of the loss where that says something.
fn finding(ledger: &Ledger) -> String {
    let share = (ledger.residual.value / ledger.loss.value).abs();
    match ledger.finding {
        Finding::Unexplained if ledger.loss.value > 0.0 && share < 1.0 => {
            format!("{:.0} % {}", 100.0 * share, ledger.finding.word())
        }
        _ => ledger.finding.word().to_owned(),
    }
}

/// What stands at the end of a bar.
const fn rest(finding: Finding) -> (&'static str, &'static str) {
    match finding {
        Finding::Unexplained => ("unexplained", "unexplained"),
        Finding::Explained | Finding::Overestimated => ("within", "rest, within the noise"),
    }
}

fn words(cell: &CellResult, ledger: &Ledger) -> String {
    let causes: Vec<String> = ledger
        .causes
        .iter()
        .filter(|entry| entry.loss.value > 0.0)
        .map(|entry| format!("{} {}", entry.cause.title(), time(entry.loss.value)))
        .collect();
    let how = if ledger.loss.value < 0.0 {
        "less"
    } else {
        "longer"
    };
    format!(
        "{}: the guest takes {} {how} per unit of work; predicted {}; residual {} {}",
        cell.label,
        time(ledger.loss.value.abs()),
        if causes.is_empty() {
            "nothing".to_owned()
        } else {
            causes.join(", ")
        },
        time(ledger.residual.value),
        range(&ledger.residual),
    )
}

fn rows(ledger: &Ledger) -> Vec<Row> {
    let share = |value: f64| percent(value / ledger.loss.value);
    let sum = |name, of: &Interval, share: String| Row {
        name,
        is_cause: false,
        events: String::new(),
        cost: String::new(),
        loss: time(of.value),
        range: range(of),
        share,
    };
    let cause = |entry: &Entry| Row {
        name: entry.cause.title(),
        is_cause: true,
        events: match entry.cause.price() {
            Price::Time => String::new(),
            Price::Of(_) | Price::Unknown(_) => figure(entry.events.value),
        },
        cost: match entry.cause.price() {
            Price::Time => String::new(),
            Price::Of(_) | Price::Unknown(_) => nanos(entry.cost.value),
        },
        loss: time(entry.loss.value),
        range: range(&entry.loss),
        share: share(entry.loss.value),
    };
    let nonzero = |entry: &&Entry| entry.loss.value != 0.0;
    let mut rows: Vec<Row> = ledger.causes.iter().filter(nonzero).map(cause).collect();
    rows.extend([
        sum(
            "predicted",
            &ledger.predicted,
            share(ledger.predicted.value),
        ),
        sum("measured", &ledger.loss, String::new()),
        sum("residual", &ledger.residual, share(ledger.residual.value)),
    ]);
    rows
}

impl<'a> CostRow<'a> {
    fn new(event: CostOf, cost: &'a UnitCost) -> Self {
        let interval = price(cost, 0.95).ok();
        let how = match cost {
            UnitCost::Measured { how, .. } => how,
            UnitCost::Unavailable(reason) => reason,
        };
        Self {
            event: match event {
                CostOf::PortExit => "port exit",
                CostOf::MmioExit => "MMIO exit",
                CostOf::KernelExit => "exit within KVM",
                CostOf::Emulation => "emulated instruction",
                CostOf::InterruptExit => "interrupt exit",
                CostOf::GuestFault => "guest page fault",
                CostOf::HostFault => "host page fault",
                CostOf::ContextSwitch => "context switch",
            },
            cost: interval.map_or(String::new(), |cost| nanos(cost.value)),
            range: interval.as_ref().map_or(String::new(), range),
            how,
        }
    }
}

/// The colours that occur, in the order of the causes.
fn legend(bars: &[Bar<'_>]) -> Vec<Key> {
    let occurs = |class: &str| {
        bars.iter()
            .flat_map(|bar| &bar.segments)
            .any(|segment| segment.class == class)
    };
    let causes = Cause::ALL.iter().map(|&cause| Key {
        class: class(cause),
        title: cause.title(),
    });
    let rests = [Finding::Unexplained, Finding::Explained].map(|finding| {
        let (class, title) = rest(finding);
        Key { class, title }
    });
    causes
        .chain(rests)
        .filter(|key| occurs(key.class))
        .collect()
}

/// Each cause that some cell could not tell, with its reason and the number of such cells.
fn reasons<'a>(accounts: &[(&'a CellResult, &'a Ledger)]) -> Vec<Reason<'a>> {
    let mut cells: BTreeMap<(Cause, &str), usize> = BTreeMap::new();
    for (_, ledger) in accounts {
        for it in &ledger.unaccounted {
            *cells.entry((it.cause, it.reason.as_str())).or_default() += 1;
        }
    }
    cells
        .into_iter()
        .map(|((cause, reason), cells)| Reason {
            cause: cause.title(),
            reason,
            cells,
        })
        .collect()
}

const fn class(cause: Cause) -> &'static str {
    match cause {
        Cause::PortExits => "port",
        Cause::MmioExits => "mmio",
        Cause::KernelExits => "kernel",
        Cause::Emulations => "emulation",
        Cause::InterruptExits => "interrupt",
        Cause::GuestFaults => "guest-fault",
        Cause::HostFaults => "host-fault",
        Cause::ContextSwitches => "switch",
        Cause::RunDelay => "delay",
        Cause::Asleep => "asleep",
        Cause::HaltPolling => "polling",
        Cause::HostWork => "host-work",
        Cause::Missing => "stolen",
        Cause::PageWalks => "walk",
        Cause::CacheMisses => "miss",
    }
}

/// How much longer the guest takes, as a share of native's time: `+12.3 %`, and from eleven times as long on `121 ×`.
fn longer_text(longer: f64) -> String {
    match longer {
        _ if longer < 0.0 => format!("−{}", percent(-longer)),
        _ if longer < 10.0 => format!("+{}", percent(longer)),
        _ => format!("{:.0} ×", 1.0 + longer),
    }
}

/// A time per unit of work to three digits, however small it is.
fn time(value: f64) -> String {
    let sign = if value < 0.0 { "−" } else { "" };
    let size = value.abs();
    if size >= 1e3 {
        return format!("{sign}{}", nanos(size));
    }
    match size {
        0.0 => "0".to_owned(),
        _ if size >= 100.0 => format!("{sign}{size:.0} ns"),
        _ if size >= 10.0 => format!("{sign}{size:.1} ns"),
        _ if size >= 1.0 => format!("{sign}{size:.2} ns"),
        _ => format!("{sign}{size:.3} ns"),
    }
}

fn range(interval: &Interval) -> String {
    format!("[{}, {}]", time(interval.low), time(interval.high))
}

#[cfg(test)]
mod tests {
    use super::longer_text;

    #[test]
    fn a_long_way_is_told_in_times() {
        assert_eq!(longer_text(-0.0123), "−1.2 %");
        assert_eq!(longer_text(0.0123), "+1.2 %");
        assert_eq!(longer_text(9.99), "+999.0 %");
        assert_eq!(longer_text(119.85), "121 ×");
    }
}
