//! From what is written to what is meant: defaults filled in, ranges and cross-conditions checked.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use vtax_workloads::Task;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::knobs::{self, HostSettings};
use crate::load::Overrides;
use crate::memory::{
    MEMORY_STEP_BYTES, MIN_MEMORY_BYTES, arena_bytes, arena_start, memory_for_arenas,
    reserved_bytes,
};
use crate::neighbour::spec::neighbours;
use crate::plan::{Backing, Cell, Guest, Measure, Neighbour, PageSize, Pinning, Topology};
use crate::schema::{BaselineBacking, Given, GuestSpec, MeasureSpec, Settings, TopologySpec};
use crate::spans::Field;
use crate::units::{Duration, duration_text, percent_text, size_text};
use crate::values::{MemorySpec, PinningSpec, VcpusSpec};

const GIB: u64 = 1 << 30;
/// The most that KVM can be built for on x86-64 (`CONFIG_KVM_MAX_NR_VCPUS`).
const MOST_VCPUS: u32 = 4096;
/// A share of the address space that a guest can have at all.
const MOST_MEMORY_BYTES: u64 = 1 << 46;
const MIN_BLOCK_NANOS: u64 = 10_000_000;
const MAX_BLOCK_NANOS: u64 = 60_000_000_000;
/// KVM's own default is 0.2 ms.
const MOST_HALT_POLL_NANOS: u64 = 10_000_000;
/// What may be asked of the half-width of an interval.
pub(crate) const PRECISION: RangeInclusive<f64> = 0.0001..=0.5;

/// The fields of a cell that the matrix may vary, resolved.
#[derive(Clone)]
pub(crate) struct Resolved {
    pub guest: Guest,
    pub baseline_backing: Option<Backing>,
    pub host: HostSettings,
    pub measure: Measure,
    pub neighbours: Vec<Neighbour>,
    pub spans: BTreeMap<Field, Range<usize>>,
}

/// Resolves what belongs to a cell.
pub(crate) fn settings(
    spec: &Settings,
    overrides: &Overrides,
    errors: &mut Diagnostics,
) -> Resolved {
    let baseline_backing = value(&spec.baseline.backing, BaselineBacking::Same).own();
    let own_1g = spec
        .baseline
        .backing
        .as_ref()
        .filter(|_| baseline_backing == Some(Backing::Huge1G))
        .map(Spanned::span);
    let guest = guest(&spec.guest, own_1g, overrides, errors);
    let given = [
        (Field::Vcpus, span(&spec.guest.vcpus)),
        (Field::Memory, span(&spec.guest.memory)),
        (Field::Backing, span(&spec.guest.backing)),
        (Field::Mergeable, span(&spec.guest.mergeable)),
        (Field::NumaNode, span(&spec.guest.numa_node)),
        (Field::PageSize, span(&spec.guest.page_size)),
        (Field::Pinning, span(&spec.guest.pinning)),
        (Field::HaltPoll, span(&spec.guest.halt_poll)),
        (Field::Scheduling, span(&spec.guest.scheduling)),
        (Field::Disk, span(&spec.guest.disk)),
        (Field::DiskBacking, span(&spec.guest.disk_backing)),
        (Field::DiskQueues, span(&spec.guest.disk_queues)),
        (Field::DiskReadOnly, span(&spec.guest.disk_read_only)),
        (Field::DiskIoCpus, span(&spec.guest.disk_io_cpus)),
        (Field::Net, span(&spec.guest.net)),
        (Field::NetBackend, span(&spec.guest.net_backend)),
        (Field::NetIoCpu, span(&spec.guest.net_io_cpu)),
        (Field::BaselineBacking, span(&spec.baseline.backing)),
    ];
    let beside = (0..).zip(&spec.neighbour);
    let beside = beside.map(|(place, it)| (Field::Neighbour(place), span(&it.work)));
    let host = knobs::settle(&spec.host, &guest.pinning, errors);
    Resolved {
        guest,
        baseline_backing,
        host: host.settings,
        measure: measure(&spec.measure, overrides, errors),
        neighbours: neighbours(&spec.neighbour, errors),
        spans: given
            .into_iter()
            .chain(beside)
            .filter_map(|(field, span)| Some((field, span?)))
            .chain(host.spans)
            .collect(),
    }
}

fn guest(
    spec: &GuestSpec,
    own_1g: Option<Range<usize>>,
    overrides: &Overrides,
    errors: &mut Diagnostics,
) -> Guest {
    let vcpus = vcpus(&spec.vcpus, overrides, errors);
    let backing = value(&spec.backing, Backing::Small);
    let page_size = value(&spec.page_size, PageSize::Size2M);
    // What needs whole GiB, and where it says so.
    let whole_gib: Vec<(&str, Option<Range<usize>>)> = [
        (backing == Backing::Huge1G).then(|| ("backing with 1 GiB pages", span(&spec.backing))),
        (page_size == PageSize::Size1G)
            .then(|| ("a guest page size of 1 GiB", span(&spec.page_size))),
        own_1g.map(|at| ("a baseline on 1 GiB pages", Some(at))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let memory = memory(&spec.memory, vcpus, !whole_gib.is_empty(), errors);
    for (what, at) in whole_gib {
        if !memory.is_multiple_of(GIB) {
            let at = span(&spec.memory).or(at).unwrap_or(0..0);
            let more = size_text(memory.div_ceil(GIB).saturating_mul(GIB));
            let title = format!(
                "{what} needs memory that is a multiple of 1GiB, not {}",
                size_text(memory)
            );
            errors.push(Diagnostic::new(at, title).help(format!("write memory = \"{more}\"")));
        }
    }
    Guest {
        vcpus,
        topology: topology(&spec.topology, vcpus, errors),
        pinning: pinning(&spec.pinning, vcpus, errors),
        memory,
        backing,
        prefault: value(&spec.prefault, true),
        mergeable: mergeable(&spec.mergeable, backing, errors),
        numa_node: spec.numa_node.as_ref().map(|node| *node.get_ref()),
        page_size,
        halt_poll_nanos: halt_poll(&spec.halt_poll, errors),
        scheduling: spec.scheduling.as_ref().map(|policy| policy.get_ref().0),
        disk: crate::disk::disk(spec, vcpus, errors),
        net: crate::net::net(spec, errors),
    }
}

/// Whether KSM may merge memory on this backing.
pub(crate) fn mergeable(spec: &Given<bool>, backing: Backing, errors: &mut Diagnostics) -> bool {
    let mergeable = value(spec, false);
    if mergeable
        && matches!(backing, Backing::Huge2M | Backing::Huge1G)
        && let Some(at) = span(spec)
    {
        errors.push(
            Diagnostic::new(at, "KSM does not merge reserved huge pages")
                .help("write backing = \"4k\" or \"thp\", or leave mergeable out"),
        );
    }
    mergeable
}

fn halt_poll(spec: &Given<Duration>, errors: &mut Diagnostics) -> Option<u64> {
    let spec = spec.as_ref()?;
    let nanos = spec.get_ref().0;
    if nanos > MOST_HALT_POLL_NANOS {
        let texts = [nanos, 0, MOST_HALT_POLL_NANOS].map(duration_text);
        errors.push(
            out_of_range(spec, "halt-poll", &texts[0], &texts[1], &texts[2])
                .label("a thread that polls for so long never sleeps"),
        );
    }
    Some(nanos.min(MOST_HALT_POLL_NANOS))
}

fn vcpus(spec: &Given<VcpusSpec>, overrides: &Overrides, errors: &mut Diagnostics) -> u32 {
    let Some(spec) = spec else { return 1 };
    match *spec.get_ref() {
        VcpusSpec::Count(count) => {
            if !(1..=MOST_VCPUS).contains(&count) {
                errors.push(
                    Diagnostic::new(spec.span(), format!("a guest cannot have {count} vCPUs"))
                        .help(format!("write a number from 1 to {MOST_VCPUS}")),
                );
            }
            count.clamp(1, MOST_VCPUS)
        }
        VcpusSpec::All => overrides.cpus.unwrap_or_else(|| {
            errors.push(
                Diagnostic::new(
                    spec.span(),
                    "\"all\" takes its meaning from a host, and none was given",
                )
                .help("write a number of vCPUs, or check the file on the host that is to run it"),
            );
            1
        }),
    }
}

fn topology(spec: &Given<TopologySpec>, vcpus: u32, errors: &mut Diagnostics) -> Topology {
    let Some(spec) = spec else {
        return Topology {
            sockets: 1,
            cores: vcpus,
            threads: 1,
        };
    };
    let given = *spec.get_ref();
    let product = u64::from(given.sockets)
        .saturating_mul(u64::from(given.cores))
        .saturating_mul(given.threads.into());
    if product != u64::from(vcpus) {
        let per_core = given.sockets.saturating_mul(given.threads);
        let diagnostic = Diagnostic::new(
            spec.span(),
            format!("this topology has {product} vCPUs, the guest has {vcpus}"),
        )
        .label(format!(
            "{} × {} × {} = {product}",
            given.sockets, given.cores, given.threads
        ));
        errors.push(match vcpus.checked_div(per_core) {
            Some(cores) if cores * per_core == vcpus => {
                diagnostic.help(format!("write cores = {cores}, or vcpus = {product}"))
            }
            _ => diagnostic.help(format!(
                "write sockets, cores and threads whose product is {vcpus}"
            )),
        });
    }
    Topology {
        sockets: given.sockets,
        cores: given.cores,
        threads: given.threads,
    }
}

fn pinning(spec: &Given<PinningSpec>, vcpus: u32, errors: &mut Diagnostics) -> Pinning {
    let Some(spec) = spec else {
        return Pinning::OneToOne;
    };
    match spec.get_ref() {
        PinningSpec::None => Pinning::None,
        PinningSpec::OneToOne => Pinning::OneToOne,
        PinningSpec::AllOn(cpu) => Pinning::AllOn(*cpu),
        PinningSpec::List(cpus) => {
            if cpus.len() != vcpus as usize {
                let title = format!(
                    "this list has {}, the guest has {}",
                    counted(cpus.len(), "CPU"),
                    counted(vcpus as usize, "vCPU")
                );
                errors.push(
                    Diagnostic::new(spec.span(), title)
                        .help("write one host CPU for each vCPU, in the order of the vCPUs"),
                );
            }
            Pinning::List(cpus.clone())
        }
    }
}

/// Guest RAM in bytes.
pub(crate) fn memory(
    spec: &Given<MemorySpec>,
    vcpus: u32,
    whole_gib: bool,
    errors: &mut Diagnostics,
) -> u64 {
    let Some(spec) = spec else { return 64 << 20 };
    let at = spec.span();
    let bytes = match *spec.get_ref() {
        MemorySpec::Total(bytes) => bytes,
        MemorySpec::PerVcpu(arena) => {
            let step = if whole_gib { GIB } else { MEMORY_STEP_BYTES };
            memory_for_arenas(arena, vcpus)
                .and_then(|bytes| bytes.checked_next_multiple_of(step))
                .unwrap_or(u64::MAX)
        }
    };
    if bytes > MOST_MEMORY_BYTES {
        let title = "this is more memory than a guest can have";
        errors.push(Diagnostic::new(at, title).help(format!(
            "write at most \"{}\"",
            size_text(MOST_MEMORY_BYTES)
        )));
        return MOST_MEMORY_BYTES;
    }
    if bytes < MIN_MEMORY_BYTES {
        let title = format!(
            "a guest needs at least {} of memory",
            size_text(MIN_MEMORY_BYTES)
        );
        errors.push(
            Diagnostic::new(at, title)
                .label(format!(
                    "{} are kept for the harness",
                    size_text(reserved_bytes(1))
                ))
                .help(format!(
                    "write memory = \"{}\"",
                    size_text(MIN_MEMORY_BYTES)
                )),
        );
        return MIN_MEMORY_BYTES;
    }
    if !bytes.is_multiple_of(MEMORY_STEP_BYTES) {
        let below = bytes / MEMORY_STEP_BYTES * MEMORY_STEP_BYTES;
        errors.push(
            Diagnostic::new(at, "memory must be a multiple of 2MiB").help(format!(
                "write memory = \"{}\" or \"{}\"",
                size_text(below),
                size_text(below + MEMORY_STEP_BYTES)
            )),
        );
        return below;
    }
    bytes
}

pub(crate) fn measure(
    spec: &MeasureSpec,
    overrides: &Overrides,
    errors: &mut Diagnostics,
) -> Measure {
    let precision = spec.precision.as_ref().map_or(0.005, |precision| {
        let share = precision.get_ref().0;
        if !PRECISION.contains(&share) {
            errors.push(out_of_range(
                precision,
                "precision",
                &percent_text(share),
                "0.01%",
                "50%",
            ));
        }
        share
    });
    let confidence = spec.confidence.as_ref().map_or(0.95, |confidence| {
        let share = confidence.get_ref().0;
        if !(0.5..=0.9999).contains(&share) {
            errors.push(out_of_range(
                confidence,
                "confidence",
                &percent_text(share),
                "50%",
                "99.99%",
            ));
        }
        share
    });
    let block_nanos = spec.block.as_ref().map_or(12_000_000, |block| {
        let nanos = block.get_ref().0;
        if !(MIN_BLOCK_NANOS..=MAX_BLOCK_NANOS).contains(&nanos) {
            errors.push(
                out_of_range(
                    block,
                    "block",
                    &duration_text(nanos),
                    &duration_text(MIN_BLOCK_NANOS),
                    &duration_text(MAX_BLOCK_NANOS),
                )
                .label("in a shorter block, entering and leaving the guest would count"),
            );
        }
        nanos
    });
    let rounds = count(&spec.rounds, 3, "rounds", 1, 10_000, errors);
    let pilot_boots = count(&spec.pilot_boots, 10, "pilot-boots", 2, 10_000, errors);
    let max_boots = count(
        &spec.max_boots,
        pilot_boots.max(1000),
        "max-boots",
        2,
        1_000_000,
        errors,
    );
    if max_boots < pilot_boots
        && let Some(at) = span(&spec.max_boots)
    {
        let title = format!("max-boots = {max_boots} is below pilot-boots = {pilot_boots}");
        errors.push(Diagnostic::new(at, title).help(format!(
            "write max-boots = {pilot_boots} or more, or fewer pilot-boots"
        )));
    }
    Measure {
        precision: overrides.precision.unwrap_or(precision),
        confidence: overrides.confidence.unwrap_or(confidence),
        block_nanos,
        rounds,
        pilot_boots,
        max_boots,
    }
}

fn count(
    spec: &Given<u32>,
    default: u32,
    name: &str,
    least: u32,
    most: u32,
    errors: &mut Diagnostics,
) -> u32 {
    let Some(spec) = spec else { return default };
    let number = *spec.get_ref();
    if !(least..=most).contains(&number) {
        let texts = [number, least, most].map(|number| number.to_string());
        errors.push(out_of_range(spec, name, &texts[0], &texts[1], &texts[2]));
    }
    number.clamp(least, most)
}

pub(crate) fn out_of_range<T>(
    spec: &Spanned<T>,
    name: &str,
    is: &str,
    least: &str,
    most: &str,
) -> Diagnostic {
    Diagnostic::new(spec.span(), format!("`{name}` cannot be {is}"))
        .help(format!("write a value from {least} to {most}"))
}

/// How long an I/O thread polls, in nanoseconds, by the key `name`.
pub(crate) fn poll_nanos(
    spec: &Given<Duration>,
    name: &str,
    default: u64,
    errors: &mut Diagnostics,
) -> u64 {
    const MOST: u64 = 1_000_000_000;
    let Some(given) = spec else {
        return default;
    };
    let nanos = given.get_ref().0;
    if nanos > MOST {
        let (is, most) = (duration_text(nanos), duration_text(MOST));
        errors.push(out_of_range(given, name, &is, "0ns", &most));
    }
    nanos
}

/// What is wrong with a cell whose workload does not fit into its arena.
pub(crate) fn footprint(cell: &Cell, needed: u64, at: Range<usize>) -> Option<Diagnostic> {
    let Guest { memory, vcpus, .. } = cell.guest;
    let arena = arena_bytes(memory, vcpus);
    if needed <= arena {
        return None;
    }
    let title = format!(
        "`{}` needs {} for each vCPU, the guest has {}",
        cell.workload.name,
        rounded_up(needed),
        size_text(arena)
    );
    let label = format!(
        "of {}, {} are kept for the harness and page tables; the rest is for {}",
        size_text(memory),
        size_text(arena_start(memory, vcpus)),
        counted(vcpus as usize, "vCPU")
    );
    let diagnostic = Diagnostic::new(at, title).label(label);
    Some(match memory_for_arenas(needed, vcpus) {
        Some(enough) => diagnostic.help(format!(
            "write memory = \"{}\" in [guest], or a smaller size for the workload",
            size_text(enough)
        )),
        None => diagnostic.help("write a smaller size for the workload"),
    })
}

/// What is wrong with a cell whose vCPUs cannot work together as its task wants.
pub(crate) fn together(cell: &Cell, task: Task, at: Range<usize>) -> Option<Diagnostic> {
    let (vcpus, together) = (cell.guest.vcpus, task.vcpus_together());
    if vcpus.is_multiple_of(together) {
        return None;
    }
    let title = format!(
        "`{}` needs {together} vCPUs that work together, the guest has {vcpus}",
        cell.workload.name
    );
    let enough = vcpus.next_multiple_of(together);
    Some(Diagnostic::new(at, title).help(format!("write vcpus = {enough} in [guest]")))
}

/// A size for reading: in MiB where it is more than one.
fn rounded_up(bytes: u64) -> String {
    let step = if bytes > 1 << 20 { 1 << 20 } else { 1 << 10 };
    size_text(bytes.div_ceil(step).saturating_mul(step))
}

/// `1 cell`, `2 cells`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

pub(crate) fn value<T: Copy>(given: &Given<T>, default: T) -> T {
    given.as_ref().map_or(default, |given| *given.get_ref())
}

pub(crate) fn span<T>(given: &Given<T>) -> Option<Range<usize>> {
    given.as_ref().map(Spanned::span)
}
