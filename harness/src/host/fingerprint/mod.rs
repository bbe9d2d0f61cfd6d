//! What this machine is, as a list of facts for the record and the report.
//!
//! Each fact is a key and a function that reads it; the lists are split by subject. A fact that is not there says
//! why and never reads as zero or empty. The keys are stable: they are part of `run.json`.

pub(crate) mod cpu;
pub(crate) mod kernel;
pub(crate) mod memory;
pub(crate) mod virtualization;

use procfs::CpuInfo;
use vtax_reports::record::{HostFingerprint, Reading};

use super::{
    probes::Probes,
    root::{HostRoot, ReadError},
};

/// The fingerprint of the real machine; `root` is where its files are.
#[must_use]
pub fn fingerprint(root: &HostRoot) -> HostFingerprint {
    describe(&Host::new(root.clone(), Probes::take()))
}

/// Where facts are read from.
#[derive(Debug)]
pub(crate) struct Host {
    /// The files.
    pub root: HostRoot,
    /// What is not in files.
    pub probes: Probes,
    cpuinfo: Result<CpuInfo, ReadError>,
}

impl Host {
    pub(crate) fn new(root: HostRoot, probes: Probes) -> Self {
        let cpuinfo = root.parsed("proc/cpuinfo", "a list of processors");
        Self {
            root,
            probes,
            cpuinfo,
        }
    }

    /// A field of the first CPU in /proc/cpuinfo.
    pub(crate) fn cpuinfo(&self, field: &str) -> Found {
        let info = self.cpuinfo.as_ref().map_err(Unknown::because)?;
        info.get_field(0, field)
            .map(str::to_owned)
            .ok_or_else(|| Unknown(format!("/proc/cpuinfo has no field {field:?}")))
    }
}

/// Why a fact is not known.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unknown(String);

impl Unknown {
    fn because(reason: &impl ToString) -> Self {
        Self(reason.to_string())
    }
}

impl From<ReadError> for Unknown {
    fn from(error: ReadError) -> Self {
        Self(error.to_string())
    }
}

/// A fact's text, or why there is none.
pub(crate) type Found = Result<String, Unknown>;

type Fact = (&'static str, fn(&Host) -> Found);

fn describe(host: &Host) -> HostFingerprint {
    let facts = [
        cpu::FACTS,
        memory::FACTS,
        kernel::FACTS,
        virtualization::FACTS,
    ]
    .concat();
    HostFingerprint {
        facts: facts
            .into_iter()
            .map(|(key, read)| {
                let reading = match read(host) {
                    Ok(text) => Reading::Value(text),
                    Err(Unknown(reason)) => Reading::Unavailable(reason),
                };
                (key.to_owned(), reading)
            })
            .collect(),
        nested_under: virtualization::nested_under(host),
    }
}

/// `on` or `off` for a file that holds 1 or 0.
fn switch(host: &Host, relative: &str) -> Found {
    let state: u8 = host.root.number(relative)?;
    Ok(if state == 0 { "off" } else { "on" }.to_owned())
}

#[cfg(test)]
mod tests;
