//! Idle states of CPUs, by how long it takes to wake from them (Documentation/admin-guide/pm/cpuidle.rst, "Power Management
//! Quality of Service for CPUs").
//!
//! The limit is that of each CPU in sysfs, not /dev/cpu_dma_latency: the kernel obeys the lower of both, but the one in sysfs
//! can be read, and stays for as long as `vtax host apply` wants it to. A process that holds the device open keeps its limit.

use vtax_scenarios::plan::Obstacle;
use vtax_scenarios::units::{duration_text, parse_duration};

use super::super::root::HostRoot;
use super::{HostKnob, Part, Wanted, absent};

const CPUS: &str = "sys/devices/system/cpu";
const ELSEWISE: &str = "run on bare metal, with a cpuidle driver (intel_idle, acpi_idle)";

/// How sysfs writes a limit (Documentation/ABI/testing/sysfs-devices-power): microseconds, where 0 is none.
const NO_LIMIT: &str = "0";
const NO_LATENCY: &str = "n/a";

/// The longest wake-up of the idle states that each CPU may enter.
#[derive(Debug)]
pub(super) struct CStateLatency;

impl HostKnob for CStateLatency {
    fn parts(&self, host: &HostRoot) -> Result<Vec<Part>, Obstacle> {
        let mut cpus: Vec<u32> = host
            .entries(CPUS)
            .unwrap_or_default()
            .iter()
            .filter_map(|name| name.strip_prefix("cpu")?.parse().ok())
            // The file is there without any state that it could forbid.
            .filter(|cpu| host.exists(&format!("{CPUS}/cpu{cpu}/cpuidle/state0")))
            .collect();
        cpus.sort_unstable();
        let parts: Vec<Part> = cpus
            .iter()
            .map(|cpu| format!("{CPUS}/cpu{cpu}/power/pm_qos_resume_latency_us"))
            .filter(|file| host.exists(file))
            .map(Part::file)
            .collect();
        if parts.is_empty() {
            let what = format!("idle states to choose from (/{CPUS}/cpu0/cpuidle)");
            return Err(absent(&what, ELSEWISE));
        }
        Ok(parts)
    }

    fn texts(&self, wanted: &Wanted<'_>) -> Result<Vec<String>, Obstacle> {
        let text = match wanted.value {
            "any" => NO_LIMIT.to_owned(),
            value => match parse_duration(value) {
                Ok(0) => NO_LATENCY.to_owned(),
                Ok(nanos) => (nanos / 1000).to_string(),
                Err(error) => {
                    return Err(Obstacle {
                        reason: error.to_string(),
                        remedy: error.advice(),
                    });
                }
            },
        };
        Ok(vec![text; wanted.parts.len()])
    }

    fn value(&self, _parts: &[Part], texts: &[String]) -> String {
        let mut values: Vec<String> = texts.iter().map(|text| value(text)).collect();
        values.sort();
        values.dedup();
        values.join(" and ")
    }

    fn elsewise(&self) -> &'static str {
        ELSEWISE
    }
}

/// What a scenario writes for the file's `text`; what no scenario can say stays as it is.
fn value(text: &str) -> String {
    match text {
        NO_LIMIT => "any".to_owned(),
        NO_LATENCY => duration_text(0),
        _ => text
            .parse::<u64>()
            .ok()
            .and_then(|micros| micros.checked_mul(1000))
            .map_or_else(|| text.to_owned(), duration_text),
    }
}
