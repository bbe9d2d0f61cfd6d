//! What a host lacks for a cell or an experiment: each check by itself. What follows for a plan is in [`crate::testable`].

use std::fmt;

use vtax_workloads::{Features, Task};

use crate::claim::Premise;
use crate::neighbour::{host as neighbour, huge_bytes, ordinary_bytes};
use crate::plan::{
    Backing, Cell, Disk, DiskBacking, Experiment, HostFacts, HostSettings, Knob, NetBackend,
    Obstacle, PageSize, Pinning, Plan,
};
use crate::spans::Field;
use crate::testable::NotTestable;
use crate::units::size_text;

/// Why a host cannot run a cell or try an experiment. Its `Display` is the reason with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Untestable {
    /// The field that asks for what is missing.
    pub field: Field,
    /// What is missing.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Untestable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

impl Untestable {
    /// Without the place.
    #[must_use]
    pub fn why(&self) -> NotTestable {
        NotTestable {
            reason: self.reason.clone(),
            remedy: self.remedy.clone(),
        }
    }
}

/// All that this host lacks for the cell; empty where it can run it.
pub(crate) fn cell_lacks(cell: &Cell, facts: &HostFacts) -> Vec<Untestable> {
    // Without KVM nothing is known of what it offers.
    let of_kvm: &[fn(&Cell, &HostFacts) -> Option<Untestable>] = match facts.max_vcpus {
        0 => &[vcpus],
        _ => &[vcpus, hypercalls, exits, halt_poll, page_size],
    };
    let checks = [
        pinning,
        partners,
        scheduling,
        disk_backing,
        disk_io_cpus,
        net_backend,
        net_io_cpu,
        numa_node,
        features,
        thp,
        mergeable,
        huge_pages_2m,
        huge_pages_1g,
        memory,
        neighbour::lacks,
        cell_knobs,
        irqs_away,
    ];
    let checks = of_kvm.iter().chain(&checks);
    checks.filter_map(|check| check(cell, facts)).collect()
}

/// All that this host lacks for the experiment; empty where it can try it.
pub(crate) fn experiment_lacks(experiment: &Experiment, facts: &HostFacts) -> Vec<Untestable> {
    let needs = experiment.needs();
    let missing = |lacks: bool, reason: &str, remedy: &str| {
        lacks.then(|| Untestable {
            field: Field::Experiment,
            reason: reason.to_owned(),
            remedy: remedy.to_owned(),
        })
    };
    let settings = needs.host.iter();
    let mut knobs: Vec<Untestable> = settings.filter_map(|it| knobs(it, facts)).collect();
    // Its settings differ in whether it is on, and the others are then told twice.
    knobs.dedup();
    let found = [
        vcpus_within(Field::Experiment, needs.vcpus, facts),
        missing(
            needs.cgroup_cpu && !facts.cgroup_cpu,
            NO_CPU_GROUP.0,
            NO_CPU_GROUP.1,
        ),
        missing(
            needs.ksm && !facts.ksm,
            "this kernel has no KSM",
            "run a kernel with CONFIG_KSM",
        ),
        missing(needs.thp && !facts.thp, THP_OFF, THP_ON),
        memory_within(Field::Experiment, needs.memory_bytes, facts),
    ];
    let found = found.into_iter().flatten();
    let knobs = knobs.into_iter().map(|lack| Untestable {
        field: Field::Experiment,
        ..lack
    });
    // A kernel without KSM has no knobs of it either, which need not be told four times.
    found
        .chain(knobs.filter(|_| !needs.ksm || facts.ksm))
        .collect()
}

/// Where no control group for CPU time can be made.
pub(crate) const NO_CPU_GROUP: (&str, &str) = (
    "vtax cannot make a control group for CPU time here",
    "run as root, or where a cgroup with the cpu controller is delegated to you \
     (systemd-run --user --scope -p Delegate=yes)",
);
pub(crate) const THP_OFF: &str = "transparent huge pages are switched off";
pub(crate) const THP_ON: &str =
    "as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";

/// What the claim takes for granted and this host has not, with the remedy. `None` where there is no KVM at all: then no
/// premise is to blame.
#[must_use]
pub fn premise_lacking(plan: &Plan, facts: &HostFacts) -> Option<NotTestable> {
    let premise = plan.claim.needs?;
    let Premise::TwoDimensionalPaging = premise;
    let knob = Knob::TwoDimensionalPaging;
    let fact = facts.knobs.get(&knob);
    let present = fact.and_then(|fact| fact.present.as_deref()) == Some("on");
    // [host] may switch it on, which does not reach experiments.
    let on = |cell: &Cell| cell.host.get(&knob).map_or(present, |value| value == "on");
    let has = plan.cells.iter().all(on) && (present || plan.experiments.is_empty());
    (facts.max_vcpus > 0 && !has).then(|| NotTestable {
        reason: format!(
            "the claim takes {} for granted, and guests here run under shadow paging",
            premise.words()
        ),
        remedy: "run it on kvm_intel with ept=1 or on kvm_amd with npt=1".to_owned(),
    })
}

fn vcpus(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    vcpus_within(Field::Vcpus, cell.guest.vcpus, facts)
}

fn vcpus_within(field: Field, vcpus: u32, facts: &HostFacts) -> Option<Untestable> {
    let most = facts.max_vcpus;
    let (reason, remedy) = if most == 0 {
        (
            "this host cannot run a KVM guest".to_owned(),
            "`vtax doctor` says what is missing and how to get it".to_owned(),
        )
    } else {
        (
            format!("a guest has {vcpus} vCPUs, KVM here gives it at most {most}"),
            format!("write vcpus = {most} or less"),
        )
    };
    (vcpus > most).then_some(Untestable {
        field,
        reason,
        remedy,
    })
}

fn pinning(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    let available = facts.cpus.len();
    let wanted: &[u32] = match &cell.guest.pinning {
        Pinning::None => &[],
        Pinning::List(cpus) => cpus,
        Pinning::AllOn(cpu) => std::slice::from_ref(cpu),
        Pinning::OneToOne => {
            let vcpus = cell.guest.vcpus;
            return (vcpus as usize > available).then(|| Untestable {
                field: Field::Vcpus,
                reason: format!(
                    "{vcpus} vCPUs pinned one-to-one need as many CPUs, vtax may run on {available}"
                ),
                remedy:
                    "write fewer vcpus or another pinning, or give vtax more CPUs (taskset, cpuset)"
                        .to_owned(),
            });
        }
    };
    allowed(Field::Pinning, wanted, facts)
}

fn disk_io_cpus(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    let disk = cell.guest.disk.as_ref()?;
    allowed(Field::DiskIoCpus, &disk.io_cpus, facts)
}

fn disk_backing(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    let disk = cell.guest.disk.as_ref()?;
    (disk.backing != DiskBacking::Memory)
        .then(|| io_uring(Field::DiskBacking, facts))
        .flatten()
}

/// Whether files and block devices can be read and written, for the disk that `field` asks for.
pub(crate) fn io_uring(field: Field, facts: &HostFacts) -> Option<Untestable> {
    (!facts.io_uring).then(|| Untestable {
        field,
        reason: "a file is read and written through io_uring, which vtax may not use here, or which this kernel lacks"
            .to_owned(),
        remedy: "as root: echo 0 > /proc/sys/kernel/io_uring_disabled, and in a container let its seccomp filter pass \
                 io_uring; it takes Linux 5.11; or write disk-backing = \"memory\""
            .to_owned(),
    })
}

fn net_backend(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    let backend = cell.guest.net.as_ref()?.backend;
    (backend == NetBackend::Vhost && !facts.vhost_net).then(|| Untestable {
        field: Field::NetBackend,
        reason: "the kernel here cannot serve a guest's network card: /dev/vhost-net is not there or may not be opened"
            .to_owned(),
        remedy: "as root: modprobe vhost_net; or write net-backend = \"vmm\"".to_owned(),
    })
}

fn net_io_cpu(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    let cpu = cell.guest.net.as_ref()?.io_cpu?;
    allowed(Field::NetIoCpu, &[cpu], facts)
}

/// Whether vtax may run on all the CPUs that `field` names.
pub(crate) fn allowed(field: Field, wanted: &[u32], facts: &HostFacts) -> Option<Untestable> {
    let missing = wanted.iter().find(|cpu| !facts.cpus.contains(cpu))?;
    Some(Untestable {
        field,
        reason: format!("vtax may not run on CPU {missing}, or there is none"),
        remedy: format!(
            "write CPUs out of {}, or give vtax more CPUs (taskset, cpuset)",
            ranges(&facts.cpus)
        ),
    })
}

fn task(cell: &Cell) -> Option<Task> {
    vtax_workloads::find(&cell.workload.name)?.1.task()
}

/// A partner spins while its vCPU does: on one CPU they would wait for the scheduler, not for each other.
fn partners(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    let guest = &cell.guest;
    let lacks = task(cell)?.needs_partner()
        && if guest.pinning == Pinning::None {
            facts.cpus.len() < 2 * guest.vcpus as usize
        } else {
            (0..guest.vcpus).any(|vcpu| guest.partner_cpu(vcpu, &facts.cpus).is_none())
        };
    lacks.then(|| Untestable {
        field: Field::Workload,
        reason: format!(
            "each vCPU needs a second CPU for the thread that it works with, vtax may run on {}",
            facts.cpus.len()
        ),
        remedy: "write fewer vcpus, or give vtax more CPUs (taskset, cpuset)".to_owned(),
    })
}

fn hypercalls(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    (task(cell)? == Task::Hypercall && !facts.hypercalls).then(|| Untestable {
        field: Field::Workload,
        reason: "KVM here runs guests without VT-x and SVM, so VMCALL and VMMCALL do not reach it"
            .to_owned(),
        remedy: "run this workload on kvm_intel or kvm_amd".to_owned(),
    })
}

fn exits(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    let name = &cell.workload.name;
    facts.without_exit.contains(name).then(|| Untestable {
        field: Field::Workload,
        reason: format!(
            "{name} does not leave the guest here: neither KVM nor the VMM counts an exit for each operation, so something \
             below this KVM answers it"
        ),
        remedy: "run this workload on kvm_intel or kvm_amd on bare metal".to_owned(),
    })
}

fn halt_poll(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    (cell.guest.halt_poll_nanos.is_some() && !facts.halt_poll).then(|| Untestable {
        field: Field::HaltPoll,
        reason: "KVM here has one halt-polling time for all guests".to_owned(),
        remedy: "leave halt-poll out, or run Linux 5.8 or later (KVM_CAP_HALT_POLL)".to_owned(),
    })
}

fn scheduling(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    let policy = cell.guest.scheduling?;
    let (priority, most) = (u32::from(policy.priority()?), facts.realtime_priority);
    (priority > most).then(|| Untestable {
        field: Field::Scheduling,
        reason: match most {
            0 => "vtax may not schedule threads in real time".to_owned(),
            _ => format!("vtax may give real-time priorities up to {most}"),
        },
        remedy: "run as root, with CAP_SYS_NICE, or with a higher limit (ulimit -r)".to_owned(),
    })
}

fn numa_node(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    let node = cell.guest.numa_node?;
    (!facts.numa_nodes.contains(&node)).then(|| Untestable {
        field: Field::NumaNode,
        reason: format!("there is no NUMA node {node} with memory"),
        remedy: format!("write a node out of {}", ranges(&facts.numa_nodes)),
    })
}

fn page_size(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    (cell.guest.page_size == PageSize::Size1G && !facts.guest_1g_pages).then(|| Untestable {
        field: Field::PageSize,
        reason: "guests here cannot have 1 GiB pages in their page tables".to_owned(),
        remedy: "write page-size = \"2M\"; it takes a CPU with pdpe1gb and a KVM that offers it"
            .to_owned(),
    })
}

fn features(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    let (_, workload) = vtax_workloads::find(&cell.workload.name)?;
    let needed = (workload.requires)(&cell.workload.params);
    let missing = Features(needed.0 & !facts.features);
    if missing == Features::NONE {
        return None;
    }
    let names: Vec<&str> = missing.names().collect();
    Some(Untestable {
        field: Field::Workload,
        reason: format!("this CPU lacks {}", names.join(" ")),
        remedy: "run this workload on a CPU that has it".to_owned(),
    })
}

/// What the cell's memories are backed by: the guest's, and the baseline's where it has its own.
fn backings(cell: &Cell) -> impl Iterator<Item = (Field, Backing)> {
    [
        Some((Field::Backing, cell.guest.backing)),
        cell.baseline_backing
            .map(|backing| (Field::BaselineBacking, backing)),
    ]
    .into_iter()
    .flatten()
}

/// What the cell sets on the host.
fn cell_knobs(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    knobs(&cell.host, facts)
}

fn knobs(settings: &HostSettings, facts: &HostFacts) -> Option<Untestable> {
    settings.iter().find_map(|(&knob, wanted)| {
        let lacking = |reason, remedy| {
            Some(Untestable {
                field: Field::Host(knob),
                reason,
                remedy,
            })
        };
        let Some(fact) = facts.knobs.get(&knob) else {
            return lacking(
                format!("this host has no knob `{knob}`"),
                format!("leave {knob} out of [host]"),
            );
        };
        if fact.present.as_ref() == Some(wanted) {
            return None;
        }
        if let Some(Obstacle { reason, remedy }) = &fact.obstacle {
            return lacking(reason.clone(), remedy.clone());
        }
        if !fact.choices.is_empty() && !fact.choices.contains(wanted) {
            return lacking(
                format!("`{knob}` cannot be {wanted} on this host"),
                format!("write one of {}", fact.choices.join(", ")),
            );
        }
        None
    })
}

/// Interrupts that are kept off some CPUs need another.
fn irqs_away(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    cell.host.get(&Knob::IrqsAway)?;
    let measured = cell.guest.measured_cpus(&facts.cpus);
    facts
        .cpus
        .iter()
        .all(|cpu| measured.contains(cpu))
        .then(|| Untestable {
            field: Field::Host(Knob::IrqsAway),
            reason: "a vCPU is bound to every CPU, so there is none that interrupts could go to"
                .to_owned(),
            remedy: "write fewer vcpus, or give vtax more CPUs (taskset, cpuset)".to_owned(),
        })
}

fn mergeable(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    (cell.guest.mergeable && !facts.ksm).then(|| Untestable {
        field: Field::Mergeable,
        reason: "this kernel has no KSM".to_owned(),
        remedy: "leave mergeable out, or run a kernel with CONFIG_KSM".to_owned(),
    })
}

fn thp(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    if cell.host.contains_key(&Knob::Thp) {
        // What becomes of memory that asks for huge pages under each setting is then the question.
        return None;
    }
    let (field, _) = backings(cell).find(|&(_, backing)| backing == Backing::Thp)?;
    (!facts.thp).then(|| Untestable {
        field,
        reason: THP_OFF.to_owned(),
        remedy: THP_ON.to_owned(),
    })
}

fn huge_pages_2m(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    let free = free_pages(cell, facts, Knob::Hugepages2m, facts.free_huge_2m);
    huge_pages(cell, Backing::Huge2M, 2 << 20, free)
}

fn huge_pages_1g(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    let free = free_pages(cell, facts, Knob::Hugepages1g, facts.free_huge_1g);
    huge_pages(cell, Backing::Huge1G, 1 << 30, free)
}

/// Free huge pages once the host is set as the cell wants it.
fn free_pages(cell: &Cell, facts: &HostFacts, knob: Knob, free: u64) -> u64 {
    let reserved = |text: &str| -> u64 {
        text.split(|c: char| !c.is_ascii_digit())
            .filter_map(|pages| pages.parse::<u64>().ok())
            .sum()
    };
    let present = facts
        .knobs
        .get(&knob)
        .and_then(|fact| fact.present.as_deref());
    match (cell.host.get(&knob), present) {
        (Some(wanted), Some(present)) => {
            (free + reserved(wanted)).saturating_sub(reserved(present))
        }
        _ => free,
    }
}

fn huge_pages(cell: &Cell, backing: Backing, page_bytes: u64, free: u64) -> Option<Untestable> {
    let users: Vec<Field> = backings(cell)
        .filter(|&(_, used)| used == backing)
        .map(|(field, _)| field)
        .collect();
    let beside = (0..)
        .zip(&cell.neighbours)
        .find(|(_, it)| it.count > 0 && it.backing == backing)
        .map(|(place, _)| Field::Neighbour(place));
    let needed = (cell.guest.memory.div_ceil(page_bytes) * users.len() as u64)
        .saturating_add(huge_bytes(cell, backing).div_ceil(page_bytes));
    if needed <= free {
        return None;
    }
    let pages = format!("hugepages-{}kB/nr_hugepages", page_bytes >> 10);
    let path = match cell.guest.numa_node {
        Some(node) => format!("/sys/devices/system/node/node{node}/hugepages/{pages}"),
        None => format!("/sys/kernel/mm/hugepages/{pages}"),
    };
    let page = size_text(page_bytes);
    Some(Untestable {
        field: users.first().copied().or(beside)?,
        reason: format!("it needs {needed} free huge pages of {page}, there are {free}"),
        remedy: format!(
            "as root, reserve {} more: echo $(($(cat {path}) + {})) > {path}",
            needed - free,
            needed - free
        ),
    })
}

fn memory(cell: &Cell, facts: &HostFacts) -> Option<Untestable> {
    let ordinary = |backing| matches!(backing, Backing::Small | Backing::Thp);
    let count = backings(cell).filter(|&(_, used)| ordinary(used)).count();
    let disk = match &cell.guest.disk {
        Some(Disk {
            backing: DiskBacking::Memory,
            bytes: Some(bytes),
            ..
        }) => *bytes,
        _ => 0,
    };
    let needed = cell
        .guest
        .memory
        .saturating_mul(count as u64)
        .saturating_add(disk)
        .saturating_add(ordinary_bytes(cell));
    memory_within(Field::Memory, needed, facts)
}

fn memory_within(field: Field, needed: u64, facts: &HostFacts) -> Option<Untestable> {
    let available = facts.available_memory;
    (needed > available).then(|| Untestable {
        field,
        reason: format!(
            "it needs {} of memory, {} are available",
            mib(needed),
            mib(available)
        ),
        remedy: "write less memory, or free some".to_owned(),
    })
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// `0–3, 8`: a list of numbers for reading.
fn ranges(numbers: &[u32]) -> String {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if number <= last.saturating_add(1) => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let runs: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            _ => format!("{first}–{last}"),
        })
        .collect();
    if runs.is_empty() {
        "none".to_owned()
    } else {
        runs.join(", ")
    }
}
