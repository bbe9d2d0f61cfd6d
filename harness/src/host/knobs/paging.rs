//! Two-dimensional paging, EPT or NPT: a parameter that KVM's module takes only when it is loaded.
//!
//! The module is loaded anew with the value that is wanted, and with all its other parameters as they were found: those
//! that nobody set keep their defaults, and somebody may have set the rest by hand, where no file of modprobe.d says so.
//! The journal has them all, as a place that the knob carries, since they are gone with the module.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::process::Command;

use vtax_scenarios::plan::Obstacle;

use super::super::kvm::{Flavour, is_on};
use super::super::root::{HostRoot, ReadError};
use super::part::PartError;
use super::{AS_ROOT, HostKnob, Originals, Part, Wanted, absent};

/// Parameters that a module sets itself where there is no two-dimensional paging (Linux, `hardware_setup` in
/// arch/x86/kvm/vmx/vmx.c, `svm_hardware_setup` and what it calls in arch/x86/kvm/svm): while the paging is not as it was
/// found, they are the module's affair.
const DEPENDENT: [&str; 10] = [
    "avic",
    "eptad",
    "pml",
    "pt_mode",
    "sev",
    "sev_es",
    "sev_snp",
    "unrestricted_guest",
    "vls",
    "vmentry_l1d_flush",
];

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

    fn carried(&self, host: &HostRoot) -> Vec<Part> {
        let flavour = Flavour::of(host);
        match (flavour.module(), flavour.paging_parameter()) {
            (Some(module), Some(_)) => vec![Part::parameters(module)],
            _ => Vec::new(),
        }
    }

    fn write(
        &self,
        host: &HostRoot,
        part: &Part,
        text: &str,
        originals: &Originals,
    ) -> Result<(), PartError> {
        let Some((module, name)) = part.module() else {
            return part.write(host, text);
        };
        let Some(paging) = paging_parameter(module) else {
            return Err(PartError::Unknown(part.clone()));
        };
        let found = match originals.get(&Part::parameters(module)) {
            Some(text) => Parameters::of_text(text),
            None => Parameters::of_host(host, module).unwrap_or_default(),
        };
        let wanted = match name {
            None => Parameters::of_text(text),
            Some(name) if name == paging => found.with(paging, text),
            Some(_) => return Err(PartError::Unknown(part.clone())),
        };
        reload(host, module, paging, &wanted, wanted == found).map_err(|what| PartError::Module {
            module: module.to_owned(),
            what,
        })
    }
}

/// The parameter of a module that has two-dimensional paging.
fn paging_parameter(module: &str) -> Option<&'static str> {
    [Flavour::Vmx, Flavour::Svm]
        .into_iter()
        .find(|flavour| flavour.module() == Some(module))?
        .paging_parameter()
}

/// The present text of one parameter, or of all of them.
pub(super) fn read(host: &HostRoot, module: &str, name: Option<&str>) -> Result<String, ReadError> {
    match name {
        Some(name) => host.text(&file(module, name)),
        None => Ok(Parameters::of_host(host, module)?.text()),
    }
}

fn file(module: &str, name: &str) -> String {
    format!("sys/module/{module}/parameters/{name}")
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

/// The parameters of a module that can be read, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Parameters(BTreeMap<String, String>);

impl Parameters {
    fn of_host(host: &HostRoot, module: &str) -> Result<Self, ReadError> {
        let names = host.entries(&format!("sys/module/{module}/parameters"))?;
        let read = |name: String| Some((name.clone(), host.text(&file(module, &name)).ok()?));
        Ok(Self(names.into_iter().filter_map(read).collect()))
    }

    /// `nested=0, npt=Y`.
    fn text(&self) -> String {
        let texts: Vec<String> = self.0.iter().map(assignment).collect();
        texts.join(", ")
    }

    fn of_text(text: &str) -> Self {
        let read = |word: &str| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        Self(text.split(", ").filter_map(read).collect())
    }

    /// These with another value of the parameter `paging`. Where it is another, those that depend on it are left out.
    fn with(&self, paging: &str, text: &str) -> Self {
        let mut these = self.0.clone();
        let before = these.insert(paging.to_owned(), text.to_owned());
        if before.is_some_and(|before| before != text) {
            these.retain(|name, _| !DEPENDENT.contains(&name.as_str()));
        }
        Self(these)
    }

    /// Those that `present` has otherwise, or not at all.
    fn missing_in(&self, present: &Self) -> Vec<(&String, &String)> {
        let other = |(name, value): &(&String, &String)| present.0.get(*name) != Some(value);
        self.0.iter().filter(other).collect()
    }
}

fn assignment((name, value): (&String, &String)) -> String {
    format!("{name}={value}")
}

/// Loads the module anew with the parameters that are `wanted`: the one of the `paging` in any case, and where `all` is
/// asked for, the others too.
fn reload(
    host: &HostRoot,
    module: &str,
    paging: &str,
    wanted: &Parameters,
    all: bool,
) -> Result<(), String> {
    if let Some(count) = users(host, module) {
        return Err(format!(
            "it is in use ({count} times); end all guests first"
        ));
    }
    // It must not go where it could not come back: there may be no modprobe, or no module of the kernel that runs.
    modprobe(&["-D", module])?;
    // Those that nobody set come by themselves, and not every text can be given back: `vmentry_l1d_flush` reads `EPT
    // disabled` and refuses it.
    let value = wanted.0.get(paging).ok_or("it has no such parameter")?;
    let first = format!("{paging}={value}");
    unload(host, module)?;
    load(module, &[&first])?;
    let present = || Parameters::of_host(host, module).map_err(|error| error.to_string());
    let arrived = present()?;
    let lost: Vec<String> = wanted
        .missing_in(&arrived)
        .into_iter()
        .filter(|(_, value)| !value.contains(char::is_whitespace))
        .map(assignment)
        .collect();
    if !lost.is_empty() {
        let arguments: Vec<&str> = [&first]
            .into_iter()
            .chain(&lost)
            .map(String::as_str)
            .collect();
        unload(host, module)?;
        load(module, &arguments)?;
    }
    let arrived = present()?;
    let missing: Vec<String> = wanted
        .missing_in(&arrived)
        .into_iter()
        .filter(|(name, _)| all || *name == paging)
        .map(assignment)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("it did not take {}", missing.join(", ")))
}

/// Takes the module out of the kernel. It may be out already, where a vtax was killed between its going and its coming.
///
/// Not by `modprobe -r`, which takes out what the module alone needed as well: kvm, with all that was set there.
fn unload(host: &HostRoot, module: &str) -> Result<(), String> {
    if !host.exists(&format!("sys/module/{module}")) {
        return Ok(());
    }
    let told = |error: &dyn std::fmt::Display| format!("taking it out: {error}");
    let name = CString::new(module).map_err(|error| told(&error))?;
    rustix::system::delete_module(&name, libc::O_NONBLOCK).map_err(|error| told(&error))
}

/// Loads the module with these parameters.
fn load(module: &str, parameters: &[&str]) -> Result<(), String> {
    let arguments: Vec<&str> = [module]
        .into_iter()
        .chain(parameters.iter().copied())
        .collect();
    modprobe(&arguments).inspect_err(|_| {
        // Better a module with its usual parameters than none.
        let _ = modprobe(&[module]);
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As kvm_intel shows them on a CPU with L1TF.
    const FOUND: &str = "ept=Y, nested=0, pml=Y, vmentry_l1d_flush=cond";

    #[test]
    fn parameters_survive_the_journal() {
        let text = "ept=N, nested=0, vmentry_l1d_flush=EPT disabled";
        let parameters = Parameters::of_text(text);
        assert_eq!(parameters.0["vmentry_l1d_flush"], "EPT disabled");
        assert_eq!(parameters.text(), text);
    }

    #[test]
    fn what_depends_on_the_paging_is_kept_with_the_paging_alone() {
        let found = Parameters::of_text(FOUND);
        assert_eq!(found.with("ept", "N").text(), "ept=N, nested=0");
        assert_eq!(found.with("ept", "Y"), found);
    }

    #[test]
    fn what_the_module_has_otherwise_is_named() {
        let found = Parameters::of_text(FOUND);
        let arrived = Parameters::of_text("ept=Y, nested=1, vmentry_l1d_flush=cond");
        let missing = found.missing_in(&arrived);
        let texts: Vec<String> = missing.into_iter().map(assignment).collect();
        assert_eq!(texts, ["nested=0", "pml=Y"]);
    }
}
