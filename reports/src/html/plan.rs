//! The machine, the full plan, and how to run it again.

use super::head::{trimmed, when};
use super::words::bytes;
use crate::export::figures::nanos;
use crate::record::{Reading, RunRecord};
use crate::store::Run;
use vtax_scenarios::plan::{
    Backing, Cell, ClaimOver, Guest, Measure, PageSize, Pinning, neighbours_text,
};

/// The sections.
pub(super) struct PlanView<'a> {
    pub facts: Vec<Fact<'a>>,
    pub command: String,
    pub seed: u64,
    pub payload: &'a str,
    pub source: &'a str,
    pub times: Vec<(&'static str, String)>,
    pub claim: String,
    pub guests: Vec<GuestRow>,
    pub measures: Vec<MeasureRow>,
    /// Whether any cell sets something on the host.
    pub sets_host: bool,
    pub cells: Vec<CellRow<'a>>,
}

/// One fact about the host.
pub(super) struct Fact<'a> {
    pub name: &'a str,
    pub value: &'a str,
    pub known: bool,
}

/// One configuration of a guest; cells share it.
pub(super) struct GuestRow {
    pub name: String,
    pub vcpus: String,
    pub pinning: String,
    pub memory: String,
    pub backing: &'static str,
    pub prefault: &'static str,
    pub numa: String,
    pub page_size: &'static str,
    pub disk: String,
    pub net: String,
    pub baseline: &'static str,
}

/// One way of measuring; cells share it.
pub(super) struct MeasureRow {
    pub name: String,
    pub precision: String,
    pub confidence: String,
    pub block: String,
    pub rounds: u32,
    pub pilot: u32,
    pub most: u32,
}

/// One planned cell.
pub(super) struct CellRow<'a> {
    pub id: u32,
    pub label: &'a str,
    pub workload: String,
    pub guest: String,
    pub neighbours: String,
    pub host: String,
    pub measure: String,
}

impl<'a> PlanView<'a> {
    /// The plan of `run`.
    pub fn new(run: &'a Run) -> Self {
        let record = &run.record;
        let plan = &record.plan;
        let mut guests: Vec<(&Guest, Option<Backing>)> = Vec::new();
        let mut measures: Vec<&Measure> = Vec::new();
        let cells = plan
            .cells
            .iter()
            .map(|cell| CellRow {
                id: cell.id,
                label: &cell.label,
                workload: workload(cell),
                guest: format!(
                    "G{}",
                    index_in(&mut guests, (&cell.guest, cell.baseline_backing))
                ),
                neighbours: neighbours_text(&cell.neighbours),
                host: vtax_scenarios::settings_text(&cell.host),
                measure: format!("M{}", index_in(&mut measures, &cell.measure)),
            })
            .collect();
        Self {
            facts: facts(record),
            command: record
                .command
                .iter()
                .map(|word| shell_word(word))
                .collect::<Vec<_>>()
                .join(" "),
            seed: plan.seed,
            payload: &record.payload_sha256,
            source: &plan.source,
            times: vec![
                ("started", when(&record.started)),
                (
                    "finished",
                    record.finished.as_deref().map_or("never".to_owned(), when),
                ),
                ("time budget", nanos(plan.budget_nanos as f64)),
                (
                    "TSC",
                    format!("{:.6} ns per tick, as calibrated", record.nanos_per_tick),
                ),
            ],
            claim: format!(
                "at least {} % of native, decided by {}",
                trimmed(plan.claim.ratio * 100.0),
                match plan.claim.over {
                    ClaimOver::Cpu => "the cells whose workload is of the CPU family",
                    ClaimOver::Memory => "the cells whose workload is of the memory family",
                    ClaimOver::All => "all cells",
                }
            ),
            guests: (1..)
                .zip(guests)
                .map(|(number, (guest, baseline))| GuestRow::new(number, guest, baseline))
                .collect(),
            measures: (1..)
                .zip(measures)
                .map(|(number, measure)| MeasureRow::new(number, measure))
                .collect(),
            sets_host: plan.cells.iter().any(|cell| !cell.host.is_empty()),
            cells,
        }
    }
}

/// The number of `item` among `items`, from 1; puts it there where it is new.
fn index_in<T: PartialEq>(items: &mut Vec<T>, item: T) -> usize {
    match items.iter().position(|known| *known == item) {
        Some(index) => index + 1,
        None => {
            items.push(item);
            items.len()
        }
    }
}

fn facts(record: &RunRecord) -> Vec<Fact<'_>> {
    record
        .host
        .facts
        .iter()
        .map(|(name, reading)| {
            let (value, known) = match reading {
                Reading::Value(value) => (value, true),
                Reading::Unavailable(reason) => (reason, false),
            };
            Fact { name, value, known }
        })
        .collect()
}

impl GuestRow {
    fn new(number: usize, guest: &Guest, baseline: Option<Backing>) -> Self {
        let topology = guest.topology;
        Self {
            name: format!("G{number}"),
            vcpus: format!(
                "{} ({} × {} × {})",
                guest.vcpus, topology.sockets, topology.cores, topology.threads
            ),
            pinning: match &guest.pinning {
                Pinning::None => "none".to_owned(),
                Pinning::OneToOne => "one to one".to_owned(),
                Pinning::List(cpus) => format!("CPUs {cpus:?}"),
                Pinning::AllOn(cpu) => format!("all on CPU {cpu}"),
            } + &guest
                .scheduling
                .map_or(String::new(), |policy| format!(", scheduled by {policy}")),
            memory: bytes(guest.memory),
            backing: backing(guest.backing),
            prefault: if guest.prefault { "yes" } else { "no" },
            numa: guest
                .numa_node
                .map_or("any".to_owned(), |node| node.to_string()),
            disk: guest
                .disk
                .as_ref()
                .map_or("none".to_owned(), vtax_scenarios::disk_text),
            net: guest
                .net
                .as_ref()
                .map_or("none".to_owned(), vtax_scenarios::net_text),
            page_size: match guest.page_size {
                PageSize::Size4K => "4k",
                PageSize::Size2M => "2M",
                PageSize::Size1G => "1G",
            },
            baseline: baseline.map_or("the guest's own pages", backing),
        }
    }
}

const fn backing(backing: Backing) -> &'static str {
    match backing {
        Backing::Small => "4k",
        Backing::Thp => "thp",
        Backing::Huge2M => "2M",
        Backing::Huge1G => "1G",
    }
}

impl MeasureRow {
    fn new(number: usize, measure: &Measure) -> Self {
        Self {
            name: format!("M{number}"),
            precision: format!("±{} %", trimmed(measure.precision * 100.0)),
            confidence: format!("{} %", trimmed(measure.confidence * 100.0)),
            block: nanos(measure.block_nanos as f64),
            rounds: measure.rounds,
            pilot: measure.pilot_boots,
            most: measure.max_boots,
        }
    }
}

/// The workload with every parameter's value, defaults included.
fn workload(cell: &Cell) -> String {
    let name = &cell.workload.name;
    let Some((_, workload)) = vtax_workloads::find(name) else {
        // A workload that this vtax no longer has: its values still stand, without their names.
        return format!("{name} {:?}", cell.workload.params);
    };
    workload
        .params
        .iter()
        .zip(cell.workload.params)
        .fold(name.clone(), |text, (param, value)| {
            let value = match param.kind {
                vtax_workloads::ParamKind::Bytes => bytes(value),
                vtax_workloads::ParamKind::Count => value.to_string(),
                vtax_workloads::ParamKind::Duration => nanos(value as f64),
                vtax_workloads::ParamKind::Choice(words) => usize::try_from(value)
                    .ok()
                    .and_then(|index| words.get(index))
                    .map_or_else(|| value.to_string(), |word| (*word).to_owned()),
            };
            format!("{text} {}={value}", param.name)
        })
}

/// A word as a shell takes it.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted() {
        assert_eq!(shell_word("--seed"), "--seed");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
