//! What experiments need of a host.

use super::{Experiment, ExperimentKind};
use crate::knobs::{HostSettings, Knob};
use crate::memory::MIN_MEMORY_BYTES;

/// What an experiment needs of a host.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// vCPUs of its largest guest.
    pub vcpus: u32,
    /// RAM of all its guests that are there together, in bytes.
    pub memory_bytes: u64,
    /// Control groups that weigh and cap CPU time.
    pub cgroup_cpu: bool,
    /// A kernel that can merge equal pages.
    pub ksm: bool,
    /// Transparent huge pages.
    pub thp: bool,
    /// What it sets the host to, one after the other.
    pub host: Vec<HostSettings>,
}

impl Experiment {
    pub(crate) fn needs(&self) -> Needs {
        let all = |guests: &str| self.param(guests).saturating_mul(self.param("memory"));
        let small = Needs {
            vcpus: 1,
            memory_bytes: MIN_MEMORY_BYTES,
            ..Needs::default()
        };
        match self.kind {
            ExperimentKind::Idle | ExperimentKind::Isolation => small,
            ExperimentKind::Weights | ExperimentKind::Quota => Needs {
                memory_bytes: 2 * MIN_MEMORY_BYTES,
                cgroup_cpu: true,
                ..small
            },
            ExperimentKind::Boot => Needs {
                memory_bytes: all("guests"),
                ..small
            },
            ExperimentKind::Density => Needs {
                memory_bytes: all("most").saturating_add(MIN_MEMORY_BYTES),
                cgroup_cpu: true,
                ..small
            },
            ExperimentKind::Growth => Needs {
                vcpus: 2,
                memory_bytes: self.param("memory").saturating_add(self.param("growth")),
                thp: self.param("backing") != 0,
                ..small
            },
            ExperimentKind::Ksm => Needs {
                memory_bytes: all("guests"),
                ksm: true,
                host: ["off", "on"]
                    .into_iter()
                    .filter_map(|run| self.host_settings(run))
                    .collect(),
                ..small
            },
        }
    }

    /// What the experiment sets the host to while KSM is to be `run`: `on`, `off`. `None` where it leaves the host as it is.
    #[must_use]
    pub fn host_settings(&self, run: &str) -> Option<HostSettings> {
        let sleep_millis = self.param("sleep") / 1_000_000;
        (self.kind == ExperimentKind::Ksm).then(|| {
            HostSettings::from([
                (Knob::Ksm, run.to_owned()),
                (
                    Knob::KsmPagesToScan,
                    self.param("pages-to-scan").to_string(),
                ),
                (Knob::KsmSleep, format!("{sleep_millis}ms")),
            ])
        })
    }

    /// What the parts of a guest's memory that are alike come to, in per cent; 0 of experiments without such.
    pub(crate) fn shares_percent(&self) -> u64 {
        match self.kind {
            ExperimentKind::Ksm => self.param("zero-percent") + self.param("common-percent"),
            _ => 0,
        }
    }
}
