//! Facts about the hypervisor under this host and the one in it.

use super::{Fact, Found, Host, Unknown};
use crate::host::kvm::{Flavour, is_on};

pub(super) const FACTS: &[Fact] = &[
    ("hypervisor", |host| Ok(hypervisor(host))),
    ("machine", machine),
    ("kvm", kvm),
    ("kvm_flavour", kvm_flavour),
    ("kvm_two_dimensional_paging", two_dimensional_paging),
    ("kvm_nested", kvm_nested),
    ("kvm_halt_poll_ns", |host| {
        Ok(host.root.text("sys/module/kvm/parameters/halt_poll_ns")?)
    }),
    ("pmu", pmu),
    ("iommu", iommu),
];

/// The hypervisor under this host.
pub(crate) fn hypervisor(host: &Host) -> String {
    host.probes
        .hypervisor
        .clone()
        .unwrap_or_else(|| "none: bare metal".to_owned())
}

/// The hypervisor under this host and, where the firmware tells, whose machine it is.
pub(super) fn nested_under(host: &Host) -> Option<String> {
    let hypervisor = host.probes.hypervisor.clone()?;
    Some(match machine(host) {
        Ok(machine) => format!("{hypervisor} ({machine})"),
        Err(_) => hypervisor,
    })
}

/// Vendor and product, from the firmware's DMI tables.
fn machine(host: &Host) -> Found {
    let vendor = host.root.text("sys/class/dmi/id/sys_vendor")?;
    let product = host.root.text("sys/class/dmi/id/product_name")?;
    Ok(format!("{vendor} {product}"))
}

fn kvm(host: &Host) -> Found {
    match &host.probes.kvm {
        Ok(kvm) => Ok(format!(
            "API version {}, up to {} vCPUs",
            kvm.api_version, kvm.max_vcpus
        )),
        Err(trouble) => Err(Unknown::because(trouble)),
    }
}

/// The module behind /dev/kvm and its technique.
pub(crate) fn kvm_flavour(host: &Host) -> Found {
    match Flavour::of(&host.root) {
        Flavour::Vmx => Ok("kvm_intel (VT-x)".to_owned()),
        Flavour::Svm => Ok("kvm_amd (SVM)".to_owned()),
        Flavour::Other(module) => Ok(format!("{module} (neither VT-x nor SVM)")),
        Flavour::Unknown => Err(Unknown("/sys/module shows no KVM module".to_owned())),
    }
}

/// Whether the hardware walks the guest's and the host's page tables in one go.
pub(crate) fn two_dimensional_paging(host: &Host) -> Found {
    let flavour = Flavour::of(&host.root);
    match (flavour.paging_parameter(), flavour) {
        (Some(name), flavour) => {
            let path = flavour.parameter(name).unwrap_or_default();
            let state = if is_on(&host.root.text(&path)?) {
                "on"
            } else {
                "off: shadow paging"
            };
            Ok(format!("{name} {state}"))
        }
        (None, Flavour::Other(module)) => Ok(format!("none: {module} uses shadow paging")),
        (None, _) => Err(Unknown("/sys/module shows no KVM module".to_owned())),
    }
}

/// Whether guests of this host can be hypervisors themselves.
pub(crate) fn kvm_nested(host: &Host) -> Found {
    let Some(path) = Flavour::of(&host.root).parameter("nested") else {
        return Err(Unknown("/sys/module shows no KVM module".to_owned()));
    };
    Ok(if is_on(&host.root.text(&path)?) {
        "on"
    } else {
        "off"
    }
    .to_owned())
}

/// Whether hardware events can be counted.
fn pmu(host: &Host) -> Found {
    match &host.probes.instructions_counter {
        Ok(()) => Ok("counts instructions".to_owned()),
        Err(trouble) => Err(Unknown::because(trouble)),
    }
}

/// IOMMU units, as /sys shows them.
pub(crate) fn iommu(host: &Host) -> Found {
    let units = host.root.entries("sys/class/iommu")?;
    Ok(if units.is_empty() {
        "none".to_owned()
    } else {
        units.join(", ")
    })
}
