//! Which KVM this host has: what /dev/kvm answers, and the module behind it.

use kvm_bindings::{KVM_CAP_BINARY_STATS_FD, KVM_CAP_HALT_POLL, KVM_MAX_CPUID_ENTRIES};

use super::root::HostRoot;

/// Number of CPUID entries to make room for; KVM's own limit (KVM_MAX_CPUID_ENTRIES).
const CPUID_ENTRIES: usize = KVM_MAX_CPUID_ENTRIES;

/// What /dev/kvm answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kvm {
    /// KVM_GET_API_VERSION; 12 on every kernel since 2.6.22.
    pub api_version: i32,
    /// Most vCPUs of one guest (KVM_CAP_MAX_VCPUS).
    pub max_vcpus: u32,
    /// Whether a guest's page tables may hold 1 GiB pages (PDPE1GB in KVM_GET_SUPPORTED_CPUID).
    pub guest_1g_pages: bool,
    /// Whether KVM's own counters can be read (KVM_CAP_BINARY_STATS_FD).
    pub statistics: bool,
    /// Whether each guest can have a halt-polling time of its own (KVM_CAP_HALT_POLL).
    pub halt_poll: bool,
}

/// Why /dev/kvm cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvmTrouble {
    /// There is no /dev/kvm.
    #[error("/dev/kvm does not exist")]
    Absent,
    /// This user may not open it.
    #[error("/dev/kvm may not be opened by this user")]
    Denied,
    /// The device is there but nothing serves it.
    #[error("/dev/kvm exists but no KVM module serves it")]
    NoModule,
    /// Anything else.
    #[error("/dev/kvm fails: {0}")]
    Other(String),
}

impl Kvm {
    /// Asks the real /dev/kvm.
    pub fn probe() -> Result<Self, KvmTrouble> {
        let kvm = kvm_ioctls::Kvm::new().map_err(KvmTrouble::of)?;
        let cpuid = kvm
            .get_supported_cpuid(CPUID_ENTRIES)
            .map_err(KvmTrouble::of)?;
        Ok(Self {
            api_version: kvm.get_api_version(),
            max_vcpus: u32::try_from(kvm.get_max_vcpus()).unwrap_or(u32::MAX),
            // PDPE1GB: CPUID 0x8000_0001, EDX bit 26 (AMD APM vol. 3, appendix E).
            guest_1g_pages: cpuid
                .as_slice()
                .iter()
                .any(|entry| entry.function == 0x8000_0001 && entry.edx >> 26 & 1 == 1),
            statistics: kvm.check_extension_raw(KVM_CAP_BINARY_STATS_FD.into()) > 0,
            halt_poll: kvm.check_extension_raw(KVM_CAP_HALT_POLL.into()) > 0,
        })
    }
}

impl KvmTrouble {
    fn of(error: kvm_ioctls::Error) -> Self {
        match error.errno() {
            libc::ENOENT => Self::Absent,
            libc::EACCES | libc::EPERM => Self::Denied,
            libc::ENODEV | libc::ENXIO => Self::NoModule,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// The technique by which KVM runs guests here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// kvm_intel: VT-x.
    Vmx,
    /// kvm_amd: SVM (AMD-V).
    Svm,
    /// Another module, such as `kvm_pvm`, which needs neither.
    Other(String),
    /// None that /sys shows.
    Unknown,
}

impl Flavour {
    /// From the modules that /sys shows. Modules built into the kernel are shown even where they do not serve this
    /// CPU, so the CPU's vendor decides between the two of hardware.
    #[must_use]
    pub fn of(root: &HostRoot) -> Self {
        let modules = root.entries("sys/module").unwrap_or_default();
        let has = |name| modules.iter().any(|module| module == name);
        let amd = root
            .text("proc/cpuinfo")
            .is_ok_and(|text| text.contains("AuthenticAMD") || text.contains("HygonGenuine"));
        // Anything else named kvm_* was loaded on purpose, and only one can serve /dev/kvm at a time.
        let other = modules.iter().find(|name| {
            name.starts_with("kvm_") && !["kvm_intel", "kvm_amd"].contains(&name.as_str())
        });
        match (has("kvm_intel"), has("kvm_amd"), other) {
            (_, true, _) if amd => Self::Svm,
            (true, _, _) if !amd => Self::Vmx,
            (_, _, Some(name)) => Self::Other(name.clone()),
            _ => Self::Unknown,
        }
    }

    /// The module's name, where there is one.
    #[must_use]
    pub fn module(&self) -> Option<&str> {
        match self {
            Self::Vmx => Some("kvm_intel"),
            Self::Svm => Some("kvm_amd"),
            Self::Other(name) => Some(name),
            Self::Unknown => None,
        }
    }

    /// The module's parameter that switches two-dimensional paging: `ept` or `npt`.
    #[must_use]
    pub fn paging_parameter(&self) -> Option<&'static str> {
        match self {
            Self::Vmx => Some("ept"),
            Self::Svm => Some("npt"),
            Self::Other(_) | Self::Unknown => None,
        }
    }

    /// Path of a parameter of the module.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        Some(format!("sys/module/{}/parameters/{name}", self.module()?))
    }
}

/// Whether a module parameter's text means "on": the kernel writes `Y` or `1`.
#[must_use]
pub fn is_on(text: &str) -> bool {
    matches!(text, "Y" | "y" | "1")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn flavour(cpuinfo: &str, modules: &[&str]) -> Flavour {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("proc")).unwrap();
        fs::write(tree.path().join("proc/cpuinfo"), cpuinfo).unwrap();
        for module in modules {
            fs::create_dir_all(tree.path().join("sys/module").join(module)).unwrap();
        }
        Flavour::of(&HostRoot::at(tree.path()))
    }

    #[test]
    fn the_module_that_serves_the_cpu_counts() {
        let intel = "vendor_id : GenuineIntel";
        let amd = "vendor_id : AuthenticAMD";
        let both = ["kvm", "kvm_amd", "kvm_intel"];
        assert_eq!(flavour(intel, &both), Flavour::Vmx);
        assert_eq!(flavour(amd, &both), Flavour::Svm);
        assert_eq!(
            flavour(intel, &["kvm", "kvm_pvm"]),
            Flavour::Other("kvm_pvm".to_owned())
        );
        assert_eq!(flavour(intel, &["kvm"]), Flavour::Unknown);
        assert_eq!(flavour(amd, &["kvm", "kvm_intel"]), Flavour::Unknown);
    }

    #[test]
    fn errors_of_the_device_are_told_apart() {
        let of = |errno| KvmTrouble::of(kvm_ioctls::Error::new(errno));
        assert_eq!(of(libc::ENOENT), KvmTrouble::Absent);
        assert_eq!(of(libc::EACCES), KvmTrouble::Denied);
        assert_eq!(of(libc::ENODEV), KvmTrouble::NoModule);
        assert!(matches!(of(libc::EMFILE), KvmTrouble::Other(_)));
    }
}
