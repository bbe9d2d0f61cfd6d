//! CPU frequencies (Documentation/admin-guide/pm/cpufreq.rst, intel_pstate.rst).

use vtax_scenarios::plan::Obstacle;

use super::super::root::HostRoot;
use super::simple::{Form, SWITCH};
use super::{HostKnob, Part, Wanted, absent};

const CPUFREQ: &str = "sys/devices/system/cpu/cpufreq";
const NO_TURBO: &str = "sys/devices/system/cpu/intel_pstate/no_turbo";
const BOOST: &str = "sys/devices/system/cpu/cpufreq/boost";
const ELSEWISE: &str = "run on bare metal, with a cpufreq driver";

/// The governor of every policy: CPUs that share a clock.
#[derive(Debug)]
pub(super) struct Governor;

/// The policies' names.
fn policies(host: &HostRoot) -> Vec<String> {
    let mut names = host.entries(CPUFREQ).unwrap_or_default();
    names.retain(|name| name.starts_with("policy"));
    names
}

impl HostKnob for Governor {
    fn parts(&self, host: &HostRoot) -> Result<Vec<Part>, Obstacle> {
        let parts: Vec<Part> = policies(host)
            .iter()
            .map(|policy| format!("{CPUFREQ}/{policy}/scaling_governor"))
            .filter(|file| host.exists(file))
            .map(Part::file)
            .collect();
        if parts.is_empty() {
            return Err(absent(&format!("cpufreq governor (/{CPUFREQ})"), ELSEWISE));
        }
        Ok(parts)
    }

    fn texts(&self, wanted: &Wanted<'_>) -> Result<Vec<String>, Obstacle> {
        Ok(vec![wanted.value.to_owned(); wanted.parts.len()])
    }

    fn value(&self, _parts: &[Part], texts: &[String]) -> String {
        let mut governors = texts.to_vec();
        governors.sort();
        governors.dedup();
        governors.join(" and ")
    }

    fn choices(&self, host: &HostRoot) -> Vec<String> {
        let first = policies(host).into_iter().next();
        first
            .and_then(|policy| {
                let file = format!("{CPUFREQ}/{policy}/scaling_available_governors");
                host.text(&file).ok()
            })
            .map(|text| text.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default()
    }

    fn elsewise(&self) -> &'static str {
        ELSEWISE
    }
}

/// Frequencies above the nominal one.
#[derive(Debug)]
pub(super) struct Turbo;

/// intel_pstate asks the other way round.
fn turbo(parts: &[Part]) -> Form {
    match parts {
        [part] if part.path() == NO_TURBO => Form::Words(&[("on", "0"), ("off", "1")]),
        _ => SWITCH,
    }
}

impl HostKnob for Turbo {
    fn parts(&self, host: &HostRoot) -> Result<Vec<Part>, Obstacle> {
        [NO_TURBO, BOOST]
            .into_iter()
            .find(|file| host.exists(file))
            .map(|file| vec![Part::file(file)])
            .ok_or_else(|| {
                absent(
                    &format!("switch for turbo (/{NO_TURBO} or /{BOOST})"),
                    ELSEWISE,
                )
            })
    }

    fn texts(&self, wanted: &Wanted<'_>) -> Result<Vec<String>, Obstacle> {
        Ok(vec![turbo(wanted.parts).text(wanted.value)?])
    }

    fn value(&self, parts: &[Part], texts: &[String]) -> String {
        let text = texts.first();
        text.map_or(String::new(), |text| turbo(parts).value(text))
    }

    fn elsewise(&self) -> &'static str {
        ELSEWISE
    }
}
