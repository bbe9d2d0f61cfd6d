//! The hypervisor that vtax measures, and the one under this host.

use super::{Area, Check, Finding, Host, load};
use crate::host::{
    fingerprint::virtualization::{hypervisor, kvm_flavour, kvm_nested, two_dimensional_paging},
    kvm::{Flavour, KvmTrouble},
};

pub(super) const CHECKS: &[Check] = &[device, technique, paging, page_1g, nested, beneath];

const HERE: Area = Area::Kvm;

/// The only version there has been since Linux 2.6.22.
const API_VERSION: i32 = 12;

/// Whether guests can be run.
pub(super) fn usable(host: &Host) -> bool {
    host.probes
        .kvm
        .as_ref()
        .is_ok_and(|kvm| kvm.api_version == API_VERSION)
}

fn device(host: &Host) -> Finding {
    let subject = "/dev/kvm";
    let means = "no guest can be run: nothing can be measured";
    match &host.probes.kvm {
        Ok(kvm) if kvm.api_version == API_VERSION => HERE.ok(
            subject,
            format!("usable, API version 12, up to {} vCPUs", kvm.max_vcpus),
        ),
        Ok(kvm) => HERE.missing(subject, format!("API version {}", kvm.api_version), means),
        Err(KvmTrouble::Denied) => HERE
            .missing(subject, "there, but this user may not open it", means)
            .remedy("sudo usermod -aG kvm $USER   # then log in again"),
        Err(trouble @ KvmTrouble::Other(_)) => HERE.missing(subject, trouble.to_string(), means),
        Err(trouble) => HERE
            .missing(subject, trouble.to_string(), means)
            .remedy(how_to_get_kvm(host)),
    }
}

/// The next step towards a working /dev/kvm.
fn how_to_get_kvm(host: &Host) -> String {
    let flags = host.cpuinfo("flags").unwrap_or_default();
    let has = |name| flags.split_whitespace().any(|flag| flag == name);
    match &host.probes.hypervisor {
        _ if has("vmx") => load(host, "kvm_intel"),
        _ if has("svm") => load(host, "kvm_amd"),
        Some(name) => format!(
            "enable nested virtualization in the hypervisor under this host ({name}), or use a host on bare metal"
        ),
        None => "enable VT-x or SVM (AMD-V) in the firmware's setup".to_owned(),
    }
}

fn technique(host: &Host) -> Finding {
    let subject = "KVM technique";
    let means = "what runs guests here, if anything, is not known";
    HERE.judge(subject, kvm_flavour(host), means, |found| {
        match Flavour::of(&host.root) {
            Flavour::Other(module) if module == "kvm_pvm" => HERE
                .limited(
                    subject,
                    found,
                    "KVM in software: the guest's page tables are shadowed and its ring 0 is emulated \
                     instruction by instruction; only its ring 3, where applications run, executes directly. \
                     vtax measures in ring 3. The ratios hold for this technique: page faults, interrupts and \
                     system calls cost more than on hosts with EPT or NPT",
                )
                .remedy("for hardware virtualization, a host with VT-x or SVM"),
            Flavour::Other(module) => HERE.limited(
                subject,
                found,
                format!("vtax does not know how {module} works; the ratios hold for it alone"),
            ),
            _ => HERE.ok(subject, found),
        }
    })
}

fn paging(host: &Host) -> Finding {
    let subject = "EPT/NPT";
    HERE.judge(subject, two_dimensional_paging(host), "no KVM module is loaded", |found| {
        if found.ends_with(" on") {
            return HERE.ok(subject, found);
        }
        let finding = HERE.limited(
            subject,
            found,
            "the guest's page tables are shadowed: memory-bound ratios are not those of hosts with EPT or NPT",
        );
        match reload(host, |flavour| flavour.paging_parameter()) {
            Some(command) => finding.remedy(command),
            None => finding,
        }
    })
}

/// The command that loads the module anew with one parameter on.
fn reload(host: &Host, parameter: fn(&Flavour) -> Option<&'static str>) -> Option<String> {
    let flavour = Flavour::of(&host.root);
    let module = flavour.module()?;
    let parameter = parameter(&flavour)?;
    Some(format!(
        "sudo modprobe -r {module} && sudo modprobe {module} {parameter}=1"
    ))
}

fn page_1g(host: &Host) -> Finding {
    let subject = "1 GiB guest pages";
    match &host.probes.kvm {
        Ok(kvm) if kvm.guest_1g_pages => HERE.ok(subject, "offered to guests"),
        Ok(_) => HERE.limited(
            subject,
            "not offered to guests",
            "cells with guest.page-size = \"1G\" are not testable here; 1 GiB pages may still back guest memory",
        ),
        Err(_) => HERE.missing(subject, "not known without /dev/kvm", "see /dev/kvm"),
    }
}

fn nested(host: &Host) -> Finding {
    let subject = "nested guests";
    let means = "guests cannot run KVM themselves; no scenario that ships needs that";
    HERE.judge(subject, kvm_nested(host), means, |found| {
        if found == "on" {
            return HERE.ok(subject, found);
        }
        let finding = HERE.limited(subject, found, means);
        match reload(host, |_| Some("nested")) {
            Some(command) => finding.remedy(command),
            None => finding,
        }
    })
}

fn beneath(host: &Host) -> Finding {
    let subject = "under this host";
    match &host.probes.hypervisor {
        None => HERE.ok(subject, hypervisor(host)),
        Some(name) => HERE
            .limited(
                subject,
                format!("this host is itself a virtual machine, under {name}"),
                "\"native\" is this virtual machine, not the metal: what it loses itself is not in the ratio",
            )
            .remedy("for ratios to bare metal, run vtax on bare metal"),
    }
}
