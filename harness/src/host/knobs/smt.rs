//! Simultaneous multithreading (Documentation/ABI/testing/sysfs-devices-system-cpu).

use vtax_scenarios::plan::Obstacle;

use super::super::root::HostRoot;
use super::simple::{Form, Simple};
use super::{HostKnob, Part, Wanted};

/// The switch, where there is something to switch.
#[derive(Debug)]
pub(super) struct Smt(Simple);

/// Whether second hardware threads are used.
pub(super) const SMT: Smt = Smt(Simple {
    what: "SMT",
    file: "sys/devices/system/cpu/smt/control",
    form: Form::Same,
    elsewise: "run on CPUs with several hardware threads a core, and boot without nosmt=force",
});

impl HostKnob for Smt {
    fn parts(&self, host: &HostRoot) -> Result<Vec<Part>, Obstacle> {
        let parts = self.0.parts(host)?;
        match host.text(self.0.file) {
            // `notsupported`, `notimplemented`, `forceoff`: the kernel takes no other value.
            Ok(word) if word != "on" && word != "off" => Err(Obstacle {
                reason: match word.as_str() {
                    "notsupported" => "this CPU has no SMT".to_owned(),
                    "notimplemented" => "this kernel cannot switch SMT".to_owned(),
                    "forceoff" => "SMT is forced off (nosmt=force)".to_owned(),
                    _ => format!("SMT is {word} here"),
                },
                remedy: self.0.elsewise.to_owned(),
            }),
            _ => Ok(parts),
        }
    }

    fn texts(&self, wanted: &Wanted<'_>) -> Result<Vec<String>, Obstacle> {
        self.0.texts(wanted)
    }

    fn value(&self, parts: &[Part], texts: &[String]) -> String {
        self.0.value(parts, texts)
    }

    fn elsewise(&self) -> &'static str {
        self.0.elsewise
    }
}
