//! The `disk` keys of `[guest]`: what they mean, and whether a cell's workload may run on the disk that it gets.

use std::ops::Range;

use toml::Spanned;
use vtax_workloads::{Body, find};

use crate::check::{counted, out_of_range, poll_nanos, span, value};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::plan::{Cell, Completion, Disk, DiskBacking, DiskDevice};
use crate::schema::{DiskSpec, Given, GuestSpec};
use crate::spans::Field;
use crate::units::size_text;
use crate::values::DiskBackingSpec;

const MIB: u64 = 1 << 20;
const DEFAULT_BYTES: u64 = 64 * MIB;
const MOST_BYTES: u64 = 1 << 46;
const MOST_QUEUES: u32 = 64;
/// As QEMU's I/O threads: 32,768 ns, rounded.
const DEFAULT_POLL_NANOS: u64 = 32_000;

/// The disk that the keys describe.
pub(crate) fn disk(spec: &GuestSpec, vcpus: u32, errors: &mut Diagnostics) -> Option<Disk> {
    let device = value(&spec.disk, DiskSpec::None).device()?;
    let overwrite = value(&spec.disk_overwrite, false);
    let backing = match spec.disk_backing.as_ref().map(Spanned::get_ref) {
        None | Some(DiskBackingSpec::Memory) => DiskBacking::Memory,
        Some(DiskBackingSpec::Scratch) => DiskBacking::Scratch,
        Some(DiskBackingSpec::Path(path)) => {
            if path.is_empty() {
                errors.push(
                    Diagnostic::new(
                        span(&spec.disk_backing).unwrap_or(0..0),
                        "the disk's path is empty",
                    )
                    .help("write for example disk-backing = { path = \"/dev/vg0/test\" }"),
                );
            }
            DiskBacking::Path {
                path: path.clone(),
                overwrite,
            }
        }
    };
    let queues = queues(&spec.disk_queues, vcpus, errors);
    let io_cpus = io_cpus(&spec.disk_io_cpus, queues, errors);
    let disk = Disk {
        bytes: bytes(spec, &backing, errors),
        backing,
        device,
        direct: value(&spec.disk_direct, true),
        queues,
        completion: value(&spec.disk_completion, Completion::Interrupt),
        poll_nanos: poll_nanos(&spec.disk_poll, "disk-poll", DEFAULT_POLL_NANOS, errors),
        io_cpus,
        read_only: value(&spec.disk_read_only, false),
    };
    Some(match device {
        DiskDevice::VirtioBlk => disk,
        // It has registers alone: no queue, no thread, and its driver looks at its status.
        DiskDevice::AtaPio => Disk {
            queues: 1,
            completion: Completion::Poll,
            poll_nanos: 0,
            io_cpus: Vec::new(),
            ..disk
        },
    })
}

fn bytes(spec: &GuestSpec, backing: &DiskBacking, errors: &mut Diagnostics) -> Option<u64> {
    let Some(given) = &spec.disk_size else {
        let DiskBacking::Path { overwrite, .. } = backing else {
            return Some(DEFAULT_BYTES);
        };
        if *overwrite {
            errors.push(
                Diagnostic::new(
                    span(&spec.disk_overwrite).unwrap_or(0..0),
                    "it is not said how much of the disk may be overwritten",
                )
                .help(
                    "write for example disk-size = \"1GiB\": this much from its start, and no more",
                ),
            );
        }
        return None;
    };
    let bytes = given.get_ref().0;
    if !(MIB..=MOST_BYTES).contains(&bytes) {
        let texts = [bytes, MIB, MOST_BYTES].map(size_text);
        errors.push(out_of_range(
            given,
            "disk-size",
            &texts[0],
            &texts[1],
            &texts[2],
        ));
    } else if !bytes.is_multiple_of(MIB) {
        let below = bytes / MIB * MIB;
        errors.push(
            Diagnostic::new(given.span(), "disk-size must be a multiple of 1MiB").help(format!(
                "write disk-size = \"{}\" or \"{}\"",
                size_text(below),
                size_text(below + MIB)
            )),
        );
    }
    Some(bytes)
}

fn queues(spec: &Given<u32>, vcpus: u32, errors: &mut Diagnostics) -> u16 {
    let Some(given) = spec else {
        return u16::try_from(vcpus.min(MOST_QUEUES)).unwrap_or(1);
    };
    let number = *given.get_ref();
    if !(1..=MOST_QUEUES).contains(&number) {
        let texts = [number, 1, MOST_QUEUES].map(|number| number.to_string());
        errors.push(out_of_range(
            given,
            "disk-queues",
            &texts[0],
            &texts[1],
            &texts[2],
        ));
    }
    u16::try_from(number.clamp(1, MOST_QUEUES)).unwrap_or(1)
}

fn io_cpus(spec: &Given<Vec<u32>>, queues: u16, errors: &mut Diagnostics) -> Vec<u32> {
    let Some(given) = spec else {
        return Vec::new();
    };
    let cpus = given.get_ref();
    if cpus.len() != usize::from(queues) {
        let title = format!(
            "disk-io-cpus names {} CPUs, the disk has {queues} queues",
            cpus.len()
        );
        errors.push(
            Diagnostic::new(given.span(), title)
                .help("write one host CPU for each queue, in the order of the queues"),
        );
    }
    cpus.clone()
}

/// What is wrong with a cell whose workload needs a disk and has none, or may not write to the one it has. `at` is where the
/// file gives a field, or the workload where it does not.
pub(crate) fn usable(cell: &Cell, at: impl Fn(Field) -> Range<usize>) -> Option<Diagnostic> {
    let (_, workload) = find(&cell.workload.name)?;
    let Body::PerSide(task) = workload.body else {
        return None;
    };
    let job = task.disk_job(&cell.workload.params)?;
    let Some(disk) = &cell.guest.disk else {
        return Some(
            Diagnostic::new(at(Field::Disk), format!("`{}` needs a disk", workload.name))
                .help("write disk = \"virtio-blk\" or disk = \"ata-pio\" in [guest]"),
        );
    };
    let vcpus = cell.guest.vcpus;
    if vcpus > disk.queues.into() {
        let title = format!(
            "{} would share {}: each needs its own",
            counted(vcpus as usize, "vCPU"),
            match disk.device {
                DiskDevice::VirtioBlk if disk.queues > 1 => format!("{} queues", disk.queues),
                DiskDevice::VirtioBlk => "one queue".to_owned(),
                DiskDevice::AtaPio => "the registers of one ATA disk".to_owned(),
            }
        );
        let field = match disk.device {
            DiskDevice::VirtioBlk => Field::DiskQueues,
            DiskDevice::AtaPio => Field::Disk,
        };
        return Some(Diagnostic::new(at(field), title).help(match disk.device {
            DiskDevice::VirtioBlk if vcpus <= MOST_QUEUES => {
                format!("write disk-queues = {vcpus}, or leave it out")
            }
            DiskDevice::VirtioBlk => format!("write at most {MOST_QUEUES} vcpus"),
            DiskDevice::AtaPio => "write vcpus = 1, or disk = \"virtio-blk\"".to_owned(),
        }));
    }
    if !job.writes() {
        return None;
    }
    match &disk.backing {
        DiskBacking::Path {
            path,
            overwrite: false,
        } => Some(
            Diagnostic::new(
                at(Field::DiskBacking),
                format!("`{}` writes, and would overwrite {path}", cell.label),
            )
            .help(
                "if its data may be lost, write disk-overwrite = true and disk-size in [guest]; else measure access = \
                 \"read\", or take disk-backing = \"scratch\"",
            ),
        ),
        _ if disk.read_only => Some(
            Diagnostic::new(
                at(Field::DiskReadOnly),
                format!("`{}` writes, and the guest's disk is read-only", cell.label),
            )
            .help("leave disk-read-only out, or measure access = \"read\""),
        ),
        _ => None,
    }
}
