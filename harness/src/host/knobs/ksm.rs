//! Kernel same-page merging (Documentation/admin-guide/mm/ksm.rst).

use vtax_scenarios::plan::Obstacle;

use super::super::root::HostRoot;
use super::simple::{Form, SWITCH, Simple};
use super::{HostKnob, Part, Wanted};

const ELSEWISE: &str = "run a kernel with CONFIG_KSM, as root";
const ADVISED: &str = "sys/kernel/mm/ksm/pages_to_scan";

/// Whether it merges.
pub(super) const RUN: Simple = Simple {
    what: "KSM",
    file: "sys/kernel/mm/ksm/run",
    form: Form::Words(&[("off", "0"), ("on", "1"), ("unmerge", "2")]),
    elsewise: ELSEWISE,
};

/// How much it looks at before it sleeps.
pub(super) const PAGES_TO_SCAN: Simple = Simple {
    what: "KSM",
    file: ADVISED,
    form: Form::Same,
    elsewise: ELSEWISE,
};

/// How long it sleeps.
pub(super) const SLEEP: Simple = Simple {
    what: "KSM",
    file: "sys/kernel/mm/ksm/sleep_millisecs",
    form: Form::Time(1_000_000),
    elsewise: ELSEWISE,
};

/// Whether it merges pages of different nodes. EBUSY while anything is merged.
pub(super) const MERGE_ACROSS_NODES: Simple = Simple {
    what: "KSM across NUMA nodes",
    file: "sys/kernel/mm/ksm/merge_across_nodes",
    form: SWITCH,
    elsewise: "run a kernel with CONFIG_KSM and CONFIG_NUMA, as root",
};

const ADVISOR: Simple = Simple {
    what: "KSM advisor",
    file: "sys/kernel/mm/ksm/advisor_mode",
    form: Form::Same,
    elsewise: "run Linux 6.8 or later with CONFIG_KSM, as root",
};

/// Who sets how much it scans. A change of advisor sets `pages_to_scan` anew.
#[derive(Debug)]
pub(super) struct Advisor;

impl HostKnob for Advisor {
    fn parts(&self, host: &HostRoot) -> Result<Vec<Part>, Obstacle> {
        ADVISOR.parts(host)
    }

    fn texts(&self, wanted: &Wanted<'_>) -> Result<Vec<String>, Obstacle> {
        ADVISOR.texts(wanted)
    }

    fn value(&self, parts: &[Part], texts: &[String]) -> String {
        ADVISOR.value(parts, texts)
    }

    fn choices(&self, host: &HostRoot) -> Vec<String> {
        ADVISOR.choices(host)
    }

    fn elsewise(&self) -> &'static str {
        ADVISOR.elsewise()
    }

    fn carried(&self, host: &HostRoot) -> Vec<Part> {
        host.exists(ADVISED)
            .then(|| Part::file(ADVISED))
            .into_iter()
            .collect()
    }
}
