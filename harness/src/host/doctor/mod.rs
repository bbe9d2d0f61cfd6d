//! What this host can measure and what not, with the remedy for each gap.
//!
//! ```text
//! files under the root ─┐
//! CPUID, system calls  ─┴► Host ─► checks by area ─► Findings ─► `vtax doctor`
//! ```

mod counters;
mod devices;
mod families;
mod kvm;
mod memory;
mod quiet;
mod timing;

use serde::Serialize;

use super::{
    fingerprint::{Found, Host},
    probes::Probes,
    root::HostRoot,
};

/// The subject of a group of findings, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// The hypervisor that vtax measures, and the one under this host.
    Kvm,
    /// Huge pages and what moves or merges pages.
    Memory,
    /// Clocks and frequency.
    Timing,
    /// What else may take the CPU.
    Quiet,
    /// What explains a result.
    Counters,
    /// What device scenarios need.
    Devices,
    /// The scenarios that ship.
    Scenarios,
}

impl Area {
    /// The area's heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Memory => "Memory",
            Self::Timing => "Clocks and frequency",
            Self::Quiet => "Quiet",
            Self::Counters => "Counters",
            Self::Devices => "Devices",
            Self::Scenarios => "What can be measured here",
        }
    }

    fn ok(self, subject: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            area: self,
            status: Status::Ok,
            subject,
            found: found.into(),
            means: None,
            remedy: None,
        }
    }

    fn limited(
        self,
        subject: &'static str,
        found: impl Into<String>,
        means: impl Into<String>,
    ) -> Finding {
        Finding {
            status: Status::Limited,
            means: Some(means.into()),
            ..self.ok(subject, found)
        }
    }

    fn missing(
        self,
        subject: &'static str,
        found: impl Into<String>,
        means: impl Into<String>,
    ) -> Finding {
        Finding {
            status: Status::Missing,
            ..self.limited(subject, found, means)
        }
    }

    /// Judges a fact that may be unknown; then it is missing, and the reason is what was found.
    fn judge(
        self,
        subject: &'static str,
        found: Found,
        without: &str,
        judge: impl FnOnce(String) -> Finding,
    ) -> Finding {
        match found {
            Ok(found) => judge(found),
            Err(unknown) => self.missing(subject, unknown.to_string(), without),
        }
    }
}

/// How well the host is off in one respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but results are noisier or hold for less.
    Limited,
    /// It is not there.
    Missing,
}

/// One respect in which the host was examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The group it belongs to.
    pub area: Area,
    /// How well off the host is.
    pub status: Status,
    /// What was looked at.
    pub subject: &'static str,
    /// What was found.
    pub found: String,
    /// What that means for measuring; always there unless the status is [`Status::Ok`].
    pub means: Option<String>,
    /// What to do about it: a command or a setting.
    pub remedy: Option<String>,
}

impl Finding {
    fn means(mut self, text: impl Into<String>) -> Self {
        self.means = Some(text.into());
        self
    }

    fn remedy(mut self, text: impl Into<String>) -> Self {
        self.remedy = Some(text.into());
        self
    }
}

/// The examined host.
#[derive(Clone, Debug)]
pub struct Examination {
    /// All findings, area by area.
    pub findings: Vec<Finding>,
    /// Whether guests can be run at all.
    pub kvm_usable: bool,
}

/// Examines the real machine; `root` is where its files are. Needs no privilege and no /dev/kvm.
#[must_use]
pub fn examine(root: &HostRoot) -> Examination {
    examine_host(&Host::new(root.clone(), Probes::take()))
}

/// How to get a kernel module. A kernel without loadable modules has no /proc/modules.
fn load(host: &Host, module: &str) -> String {
    if host.root.exists("proc/modules") {
        format!("sudo modprobe {module}")
    } else {
        format!("a kernel with {module} built in: this one loads no modules")
    }
}

type Check = fn(&Host) -> Finding;

fn examine_host(host: &Host) -> Examination {
    let checks: Vec<Check> = [
        kvm::CHECKS,
        memory::CHECKS,
        timing::CHECKS,
        quiet::CHECKS,
        counters::CHECKS,
        devices::CHECKS,
    ]
    .concat();
    Examination {
        findings: checks
            .into_iter()
            .map(|check| check(host))
            .chain(families::findings(host))
            .collect(),
        kvm_usable: kvm::usable(host),
    }
}

#[cfg(test)]
mod tests;
