//! What device scenarios need.

use std::io::ErrorKind;

use super::{Area, Check, Finding, Host, load};
use crate::host::cgroup::{Cgroup, Version};
use crate::host::cgroups::{Cgroups, Controller};
use crate::host::io_weight::Sharer;

pub(super) const CHECKS: &[Check] = &[
    iommu,
    vfio,
    sriov,
    disks,
    tap,
    vhost,
    control_groups,
    io_weights,
];

const HERE: Area = Area::Devices;

fn iommu(host: &Host) -> Finding {
    let subject = "IOMMU";
    let units = host.root.entries("sys/class/iommu").unwrap_or_default();
    let groups = host
        .root
        .entries("sys/kernel/iommu_groups")
        .unwrap_or_default();
    if units.is_empty() || groups.is_empty() {
        let finding = HERE.missing(
            subject,
            "no IOMMU in use",
            "devices cannot be assigned to guests",
        );
        return finding.remedy(if host.probes.hypervisor.is_some() {
            "a virtual IOMMU from the hypervisor under this host, or bare metal"
        } else {
            "enable VT-d or AMD-Vi in the firmware's setup; boot with intel_iommu=on (Intel)"
        });
    }
    HERE.ok(
        subject,
        format!("{}; {} groups", units.join(", "), groups.len()),
    )
}

fn vfio(host: &Host) -> Finding {
    let subject = "VFIO";
    if host.root.exists("dev/vfio/vfio") {
        return HERE.ok(subject, "/dev/vfio/vfio is there");
    }
    HERE.missing(
        subject,
        "no /dev/vfio/vfio",
        "devices cannot be assigned to guests",
    )
    .remedy(load(host, "vfio-pci"))
}

fn sriov(host: &Host) -> Finding {
    let subject = "SR-IOV devices";
    let devices = "sys/bus/pci/devices";
    let capable: Vec<(String, u32, u32)> = host
        .root
        .entries(devices)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|device| {
            let count = |file| host.root.number(&format!("{devices}/{device}/{file}")).ok();
            let total = count("sriov_totalvfs").filter(|&total| total > 0)?;
            let made = count("sriov_numvfs").unwrap_or(0);
            Some((device, made, total))
        })
        .collect();
    let Some((first, ..)) = capable.first() else {
        return HERE.missing(
            subject,
            "none",
            "no device can be shared between guests in hardware",
        );
    };
    let texts: Vec<String> = capable
        .iter()
        .map(|(device, made, total)| format!("{device} ({made} of {total} functions)"))
        .collect();
    let found = texts.join(", ");
    if capable.iter().any(|&(_, made, _)| made > 0) {
        return HERE.ok(subject, found);
    }
    HERE.limited(subject, found, "no virtual function exists yet")
        .remedy(format!(
            "echo 1 | sudo tee /sys/bus/pci/devices/{first}/sriov_numvfs"
        ))
}

fn disks(host: &Host) -> Finding {
    let subject = "io_uring";
    let means = "disks in files and on block devices are not testable: memory disks are";
    match &host.probes.io_uring {
        Ok(()) => HERE.ok(subject, "can be used"),
        Err(ErrorKind::PermissionDenied) => HERE
            .missing(subject, "may not be used", means)
            .remedy("echo 0 | sudo tee /proc/sys/kernel/io_uring_disabled; in a container, let its seccomp filter pass it"),
        Err(kind) => HERE
            .missing(subject, format!("cannot be used: {kind}"), means)
            .remedy("Linux 5.11 or later, with CONFIG_IO_URING"),
    }
}

fn tap(host: &Host) -> Finding {
    let means = "guests have no network link: its cells are not testable";
    device(
        host,
        "TAP",
        "/dev/net/tun",
        &host.probes.tun,
        ("tun", means),
    )
}

fn vhost(host: &Host) -> Finding {
    let means = "the kernel cannot serve a guest's network card (vhost-net): the VMM does";
    let module = ("vhost_net", means);
    device(
        host,
        "vhost-net",
        "/dev/vhost-net",
        &host.probes.vhost_net,
        module,
    )
}

/// A device file that a kernel module brings.
fn device(
    host: &Host,
    subject: &'static str,
    path: &str,
    opened: &Result<(), ErrorKind>,
    (module, means): (&str, &'static str),
) -> Finding {
    match opened {
        Ok(()) => HERE.ok(subject, format!("{path} can be opened")),
        Err(ErrorKind::PermissionDenied) => HERE
            .missing(subject, format!("{path} may not be opened"), means)
            .remedy(format!(
                "sudo setfacl -m u:$USER:rw {path}, or run vtax as root"
            )),
        Err(ErrorKind::NotFound) => HERE
            .missing(subject, format!("no {path}"), means)
            .remedy(load(host, module)),
        Err(kind) => HERE
            .missing(subject, format!("{path} cannot be opened: {kind}"), means)
            .remedy(load(host, module)),
    }
}

fn control_groups(host: &Host) -> Finding {
    let subject = "control groups";
    let means = "guests cannot be given shares and limits";
    let version = match Cgroup::of(&host.root).map(|cgroup| cgroup.version) {
        Ok(Version::NotMounted) => {
            return HERE
                .missing(subject, "not mounted", means)
                .remedy("sudo mount -t cgroup2 none /sys/fs/cgroup");
        }
        Ok(version) => version,
        Err(error) => return HERE.missing(subject, error.to_string(), means),
    };
    let groups = Cgroups::of(&host.root).unwrap_or_default();
    let (usable, lacking): (Vec<Controller>, Vec<Controller>) = Controller::ALL
        .into_iter()
        .partition(|&controller| groups.has(controller));
    let names = |controllers: &[Controller]| {
        let names: Vec<&str> = controllers.iter().map(|it| it.name()).collect();
        names.join(", ")
    };
    if usable.is_empty() {
        return HERE
            .missing(
                subject,
                format!("{version}, but vtax may make none with limits"),
                means,
            )
            .remedy(DELEGATE);
    }
    let found = format!("{version}: {}", names(&usable));
    if !lacking.is_empty() {
        let lacking = names(&lacking);
        return HERE
            .limited(
                subject,
                found,
                format!("neighbours cannot have what takes the controllers {lacking}"),
            )
            .remedy(DELEGATE);
    }
    if version == Version::V2 {
        return HERE.ok(subject, found);
    }
    HERE.limited(
        subject,
        found,
        "shares and limits work, with the files and the names of version 1",
    )
    .remedy("boot with systemd.unified_cgroup_hierarchy=1 for version 2")
}

/// How vtax comes to have control groups to give out.
const DELEGATE: &str = "run as root, or where they are delegated to you \
                        (systemd-run --user --scope -p Delegate=yes); in version 2 the groups above must hand them on \
                        (cgroup.subtree_control)";

fn io_weights(host: &Host) -> Finding {
    let subject = "weights of I/O";
    match Sharer::best(&host.root) {
        Some(sharer) => HERE.ok(
            subject,
            match sharer {
                Sharer::Bfq => "a block device has the scheduler bfq: weights up to 1000",
                Sharer::Iocost => "blk-iocost is enabled for a block device: weights up to 10000",
            },
        ),
        None => HERE
            .missing(
                subject,
                "no block device is shared by weight",
                "neighbours cannot be given a weight of I/O: cells with io-weight are not testable",
            )
            .remedy(format!(
                "{}echo bfq | sudo tee /sys/block/DISK/queue/scheduler, for the disk that the run directory is on",
                if has_bfq(host) {
                    String::new()
                } else {
                    format!("{}; ", load(host, "bfq"))
                }
            )),
    }
}

/// Whether the scheduler bfq can be selected.
fn has_bfq(host: &Host) -> bool {
    let devices = host.root.entries("sys/block").unwrap_or_default();
    devices.iter().any(|device| {
        let choices = host
            .root
            .text(&format!("sys/block/{device}/queue/scheduler"));
        choices.is_ok_and(|text| text.split_whitespace().any(|name| name == "bfq"))
    })
}
