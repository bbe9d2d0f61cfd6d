//! Two-dimensional paging, EPT or NPT: a parameter that KVM's module takes only when it is loaded.

use std::collections::BTreeMap;
use std::process::Command;

use vtax_scenarios::plan::Obstacle;

use super::super::kvm::{Flavour, is_on};
use super::super::root::{HostRoot, ReadError};
use super::part::PartError;
use super::{AS_ROOT, HostKnob, Part, Wanted, absent};

/// Parameters that the module sets itself by whether there is two-dimensional paging.
const DEPENDENT: [&str; 4] = ["eptad", "pml", "unrestricted_guest", "vls"];

/// EPT or NPT.
#[derive(Debug)]
pub(super) struct TwoDimensionalPaging;

impl HostKnob for TwoDimensionalPaging {
    fn parts(&self, host: &HostRoot) -> Result<Vec<Part>, Obstacle> {
        let flavour = Flavour::of(host);
        match (flavour.module(), flavour.paging_parameter()) {
            (Some(module), Some(name)) => Ok(vec![Part::parameter(module, name)]),
            _ => Err(absent(
                "two-dimensional paging: KVM here runs without VT-x and SVM",
                self.elsewise(),
            )),
        }
    }

    fn texts(&self, wanted: &Wanted<'_>) -> Result<Vec<String>, Obstacle> {
        let on = wanted.value == "on";
        // As this kernel writes it: `Y`, or `1` before Linux 5.x.
        let digits = wanted
            .originals
            .first()
            .is_some_and(|text| text.chars().all(|c| c.is_ascii_digit()));
        let text = match (digits, on) {
            (true, true) => "1",
            (true, false) => "0",
            (false, true) => "Y",
            (false, false) => "N",
        };
        Ok(vec![text.to_owned()])
    }

    fn value(&self, _parts: &[Part], texts: &[String]) -> String {
        let on = texts.first().is_some_and(|text| is_on(text));
        if on { "on" } else { "off" }.to_owned()
    }

    fn elsewise(&self) -> &'static str {
        "run on kvm_intel or kvm_amd, loaded as a module"
    }
}

/// The parameter's present text.
pub(super) fn parameter(host: &HostRoot, module: &str, name: &str) -> Result<String, ReadError> {
    host.text(&format!("sys/module/{module}/parameters/{name}"))
}

/// Why the module cannot be loaded anew, if so.
pub(super) fn obstacle(host: &HostRoot, module: &str) -> Option<Obstacle> {
    // Only what was loaded has a state.
    if !host.exists(&format!("sys/module/{module}/initstate")) {
        return Some(Obstacle {
            reason: format!("{module} is built into this kernel"),
            remedy: format!(
                "give the parameter at boot (such as {module}.ept=0 or {module}.npt=0)"
            ),
        });
    }
    if !rustix::process::geteuid().is_root() {
        return Some(Obstacle {
            reason: "modules may not be loaded by this user".to_owned(),
            remedy: AS_ROOT.to_owned(),
        });
    }
    users(host, module).map(|count| Obstacle {
        reason: format!(
            "{module} is in use ({count} times): a guest runs, or a program has /dev/kvm open"
        ),
        remedy: "end all other guests first".to_owned(),
    })
}

/// How many use the module; `None`: nobody, or the kernel does not say.
fn users(host: &HostRoot, module: &str) -> Option<u64> {
    host.number(&format!("sys/module/{module}/refcnt"))
        .ok()
        .filter(|&count| count > 0)
}

/// Loads the module anew with this value of the parameter and the present values of all others.
pub(super) fn reload(
    host: &HostRoot,
    module: &str,
    name: &str,
    text: &str,
) -> Result<(), PartError> {
    let failed = |what: String| PartError::Module {
        module: module.to_owned(),
        what,
    };
    if let Some(count) = users(host, module) {
        return Err(failed(format!(
            "it is in use ({count} times); end all guests first"
        )));
    }
    let before = parameters(host, module);
    let wanted = format!("{name}={text}");
    // It is not where a vtax was killed between its going and its coming.
    if host.exists(&format!("sys/module/{module}")) {
        modprobe(&["-r", module]).map_err(failed)?;
    }
    if let Err(what) = modprobe(&[module, &wanted]) {
        // Better a module with its usual parameters than none.
        let _ = modprobe(&[module]);
        return Err(failed(what));
    }
    let after = parameters(host, module);
    let lost: Vec<String> = before
        .iter()
        .filter(|(other, value)| {
            *other != name
                && !DEPENDENT.contains(&other.as_str())
                && after.get(*other) != Some(*value)
        })
        .map(|(other, value)| format!("{other}={value}"))
        .collect();
    if !lost.is_empty() {
        // Somebody had loaded it with parameters that no file of modprobe.d names.
        modprobe(&["-r", module]).map_err(failed)?;
        let mut arguments = vec![module, &wanted];
        arguments.extend(lost.iter().map(String::as_str));
        modprobe(&arguments).map_err(failed)?;
    }
    match parameter(host, module, name)? {
        got if got == text => Ok(()),
        got => Err(failed(format!("{name} was to be {text} and is {got}"))),
    }
}

/// All parameters of the module that can be read.
fn parameters(host: &HostRoot, module: &str) -> BTreeMap<String, String> {
    host.entries(&format!("sys/module/{module}/parameters"))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|name| {
            let text = parameter(host, module, &name).ok()?;
            Some((name, text))
        })
        .collect()
}

fn modprobe(arguments: &[&str]) -> Result<(), String> {
    let told = format!("modprobe {}", arguments.join(" "));
    match Command::new("modprobe").args(arguments).output() {
        Err(error) => Err(format!("{told}: {error}")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{told}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
