//! What device scenarios need.

use super::{Area, Check, Finding, Host, load};
use crate::host::cgroup::{Cgroup, Version};

pub(super) const CHECKS: &[Check] = &[iommu, vfio, sriov, vhost, control_groups];

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

fn vhost(host: &Host) -> Finding {
    let subject = "vhost";
    let nodes: Vec<&str> = ["vhost-net", "vhost-vsock"]
        .into_iter()
        .filter(|node| host.root.exists(&format!("dev/{node}")))
        .collect();
    if nodes.contains(&"vhost-net") {
        return HERE.ok(subject, nodes.join(", "));
    }
    HERE.missing(
        subject,
        "no /dev/vhost-net",
        "the kernel cannot serve a guest's network queues",
    )
    .remedy(load(host, "vhost_net"))
}

fn control_groups(host: &Host) -> Finding {
    let subject = "control groups";
    let means = "guests cannot be given shares and limits";
    match Cgroup::of(&host.root).map(|cgroup| cgroup.version) {
        Ok(Version::V2) => HERE.ok(subject, "v2"),
        Ok(Version::NotMounted) => HERE
            .missing(subject, "not mounted", means)
            .remedy("sudo mount -t cgroup2 none /sys/fs/cgroup"),
        Ok(version) => HERE
            .limited(
                subject,
                version.to_string(),
                "shares and limits work, with the files and the names of version 1",
            )
            .remedy("boot with systemd.unified_cgroup_hierarchy=1 for version 2"),
        Err(error) => HERE.missing(subject, error.to_string(), means),
    }
}
