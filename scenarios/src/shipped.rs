//! The scenarios that ship inside the binary: what a user copies and edits.

use toml::de::{DeTable, DeValue};

use crate::diagnostic::ScenarioError;
use crate::load::{Loaded, Overrides, parse};
use crate::tree;

/// A scenario that ships with vtax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// The name that `vtax run NAME` takes; the scenario's own name.
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
}

macro_rules! shipped {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(Shipped { name: $name, text: include_str!(concat!("../", $folder, $name, ".toml")) }),*]
    };
}

/// All of them, the default one first.
static SHIPPED: &[Shipped] = shipped!["":
    "quick",
    "cpu-97",
    "memory-latency",
    "hugepages",
    "thp",
    "pinning",
    "rate-all-cores",
    "io",
    "latency",
    "network",
    "noisy-neighbours",
    "jitter",
    "many-guests",
    "growth",
];

/// The published claims, in the order in which they are tested.
static CLAIMS: &[Shipped] = shipped!["claims/":
    "cpu-bound-97",
    "memory-latency-95",
    "memory-latency-shadow",
    "huge-pages-2m",
    "huge-pages-1g",
    "virtio-rate",
    "virtio-cpu-time",
    "idle-cost",
    "vmm-memory",
    "pinning-jitter",
    "cpu-weights",
    "quota-contains",
    "ksm-memory",
    "ksm-no-loss",
    "memory-growth",
    "memory-growth-pause",
    "crash-leaves-others",
    "isolation",
    "sriov-latency",
    "iommu-isolation",
    "luks-cost",
    "kvm-against-emulation",
];

impl Shipped {
    /// What it is for, out of its text.
    #[must_use]
    pub fn description(&self) -> String {
        let (document, _) = DeTable::parse_recoverable(self.text);
        match tree::entry(document.get_ref(), "description").map(|(_, node)| node.get_ref()) {
            Some(DeValue::String(text)) => text.trim().to_owned(),
            _ => String::new(),
        }
    }

    /// Its plan.
    ///
    /// # Errors
    /// Where the overrides do not suit it; the files themselves are sound.
    pub fn load(&self, overrides: &Overrides) -> Result<Loaded, ScenarioError> {
        parse(&format!("{}.toml", self.name), self.text, overrides)
    }
}

/// All shipped scenarios, the default one first.
#[must_use]
pub fn list() -> &'static [Shipped] {
    SHIPPED
}

/// The published claims, each of them a scenario.
#[must_use]
pub fn claims() -> &'static [Shipped] {
    CLAIMS
}

/// The shipped scenario of this name, or the claim.
#[must_use]
pub fn shipped(name: &str) -> Option<&'static Shipped> {
    SHIPPED
        .iter()
        .chain(CLAIMS)
        .find(|scenario| scenario.name == name)
}
