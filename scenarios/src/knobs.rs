//! `[host]`: what a cell wants the host to be set to while it is measured. The harness knows the files behind each knob.
//!
//! Values are kept as a user writes them, a text for each knob: so a plan, a diff and a report name them alike.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::plan::Pinning;
use crate::schema::Given;
use crate::spans::Field;
use crate::units::{Duration, duration_text};
use crate::values::LatencySpec;

const MICROSECOND: u64 = 1_000;
const SECOND: u64 = 1_000_000_000;

/// What can be set on a host. In the order in which knobs are set: one that brings CPUs or changes defaults of another
/// comes before it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Knob {
    /// Simultaneous multithreading.
    Smt,
    /// EPT or NPT.
    TwoDimensionalPaging,
    /// The longest time for which KVM polls for a halted vCPU.
    HaltPoll,
    /// By which factor KVM lengthens the polling.
    HaltPollGrow,
    /// What the polling grows from.
    HaltPollGrowStart,
    /// By which factor KVM shortens the polling.
    HaltPollShrink,
    /// The cpufreq governor.
    Governor,
    /// Turbo or boost frequencies.
    Turbo,
    /// The longest wake-up of the idle states that CPUs may enter.
    CStateLatency,
    /// Transparent huge pages.
    Thp,
    /// What the kernel does for want of a transparent huge page.
    ThpDefrag,
    /// Reserved pages of 2 MiB.
    #[serde(rename = "hugepages-2m")]
    Hugepages2m,
    /// Reserved pages of 1 GiB.
    #[serde(rename = "hugepages-1g")]
    Hugepages1g,
    /// Whether KSM merges across NUMA nodes. Before `ksm`: it can be changed only while nothing is merged.
    KsmMergeAcrossNodes,
    /// Who sets how much KSM scans. Before what it would set.
    KsmAdvisor,
    /// Pages that KSM looks at before it sleeps.
    KsmPagesToScan,
    /// How long it sleeps.
    KsmSleep,
    /// Kernel same-page merging.
    Ksm,
    /// Automatic NUMA balancing.
    NumaBalancing,
    /// The NMI watchdog.
    NmiWatchdog,
    /// Interrupts off the CPUs of the vCPUs.
    IrqsAway,
}

impl Knob {
    /// All of them, in the order in which they are set.
    pub const ALL: [Self; 21] = [
        Self::Smt,
        Self::TwoDimensionalPaging,
        Self::HaltPoll,
        Self::HaltPollGrow,
        Self::HaltPollGrowStart,
        Self::HaltPollShrink,
        Self::Governor,
        Self::Turbo,
        Self::CStateLatency,
        Self::Thp,
        Self::ThpDefrag,
        Self::Hugepages2m,
        Self::Hugepages1g,
        Self::KsmMergeAcrossNodes,
        Self::KsmAdvisor,
        Self::KsmPagesToScan,
        Self::KsmSleep,
        Self::Ksm,
        Self::NumaBalancing,
        Self::NmiWatchdog,
        Self::IrqsAway,
    ];

    /// As a scenario names it, under `[host]`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Smt => "smt",
            Self::TwoDimensionalPaging => "two-dimensional-paging",
            Self::HaltPoll => "halt-poll",
            Self::HaltPollGrow => "halt-poll-grow",
            Self::HaltPollGrowStart => "halt-poll-grow-start",
            Self::HaltPollShrink => "halt-poll-shrink",
            Self::Governor => "governor",
            Self::Turbo => "turbo",
            Self::CStateLatency => "c-state-latency",
            Self::Thp => "thp",
            Self::ThpDefrag => "thp-defrag",
            Self::Hugepages2m => "hugepages-2m",
            Self::Hugepages1g => "hugepages-1g",
            Self::KsmMergeAcrossNodes => "ksm-merge-across-nodes",
            Self::KsmAdvisor => "ksm-advisor",
            Self::KsmPagesToScan => "ksm-pages-to-scan",
            Self::KsmSleep => "ksm-sleep",
            Self::Ksm => "ksm",
            Self::NumaBalancing => "numa-balancing",
            Self::NmiWatchdog => "nmi-watchdog",
            Self::IrqsAway => "irqs-away",
        }
    }
}

impl std::fmt::Display for Knob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The knobs that a cell sets, each to the text that a scenario gives it; all others stay as the host has them.
pub type HostSettings = BTreeMap<Knob, String>;

/// What a host says of a knob.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnobFact {
    /// Its present value; `None`: it has none here, and `obstacle` says why.
    pub present: Option<String>,
    /// Why vtax cannot change it here; `None`: it can.
    pub obstacle: Option<Obstacle>,
    /// The values that it takes, where the host lists them.
    pub choices: Vec<String>,
}

/// Why something cannot be changed on a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Obstacle {
    /// What is in the way.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

/// How the host is set while cells are measured. vtax puts all of it back at the end. What is left out stays as it is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct HostSpec {
    /// Transparent huge pages: for all memory, for what asks for them, or for none.
    #[schemars(with = "ThpSpec")]
    pub thp: Given<ThpSpec>,
    /// What the kernel does where there is no free huge page.
    #[schemars(with = "DefragSpec")]
    pub thp_defrag: Given<DefragSpec>,
    /// Pages of 2 MiB to reserve: for the whole host, or a list with a number for each NUMA node.
    #[schemars(with = "PagesSpec")]
    pub hugepages_2m: Given<PagesSpec>,
    /// Pages of 1 GiB to reserve: for the whole host, or a list with a number for each NUMA node.
    #[schemars(with = "PagesSpec")]
    pub hugepages_1g: Given<PagesSpec>,
    /// Kernel same-page merging: off, which leaves merged pages merged; on; or unmerge, which parts them.
    #[schemars(with = "KsmSpec")]
    pub ksm: Given<KsmSpec>,
    /// Pages that KSM looks at before it sleeps. Not with `ksm-advisor = "scan-time"`, which sets it itself.
    #[schemars(with = "u32", range(min = 1), example = 1000)]
    pub ksm_pages_to_scan: Given<u32>,
    /// How long KSM sleeps between scans, in whole milliseconds.
    #[schemars(with = "Duration", example = &"20ms")]
    pub ksm_sleep: Given<Duration>,
    /// Whether KSM merges pages of different NUMA nodes. Can be changed only while nothing is merged.
    #[schemars(with = "bool", example = false)]
    pub ksm_merge_across_nodes: Given<bool>,
    /// Who sets how much KSM scans: `ksm-pages-to-scan`, or the kernel, towards a time for one scan of all memory.
    #[schemars(with = "AdvisorSpec")]
    pub ksm_advisor: Given<AdvisorSpec>,
    /// The longest time for which KVM polls for any halted vCPU. `guest.halt-poll` is the same for one guest, and needs no
    /// root.
    #[schemars(with = "Duration", example = &"200us")]
    pub halt_poll: Given<Duration>,
    /// The factor by which KVM lengthens its polling.
    #[schemars(with = "u32", example = 2)]
    pub halt_poll_grow: Given<u32>,
    /// The time from which KVM's polling grows.
    #[schemars(with = "Duration", example = &"10us")]
    pub halt_poll_grow_start: Given<Duration>,
    /// The divisor by which KVM shortens its polling; 0: to nothing.
    #[schemars(with = "u32", example = 2)]
    pub halt_poll_shrink: Given<u32>,
    /// The cpufreq governor of all CPUs.
    #[schemars(with = "String", example = &"performance")]
    pub governor: Given<String>,
    /// Whether CPUs may run above their nominal frequency.
    #[schemars(with = "bool", example = false)]
    pub turbo: Given<bool>,
    /// The longest that any CPU may take to wake from an idle state (C-state), in whole microseconds up to 1 s: the kernel
    /// enters no state that takes longer. `"0us"`: CPUs poll; `"any"`: no limit.
    #[schemars(with = "LatencySpec")]
    pub c_state_latency: Given<LatencySpec>,
    /// Whether the second hardware thread of each core is used.
    #[schemars(with = "bool", example = false)]
    pub smt: Given<bool>,
    /// Whether interrupts are kept off the CPUs of the vCPUs.
    #[schemars(with = "bool", example = true)]
    pub irqs_away: Given<bool>,
    /// Whether a performance counter watches each CPU for hangs. It takes a counter away.
    #[schemars(with = "bool", example = false)]
    pub nmi_watchdog: Given<bool>,
    /// Whether the kernel moves pages towards the NUMA node that uses them.
    #[schemars(with = "bool", example = false)]
    pub numa_balancing: Given<bool>,
    /// Whether KVM translates guest addresses by EPT or NPT; without, by shadow paging. Reloads KVM's module, which takes
    /// a host where no other guest runs.
    #[schemars(with = "bool", example = false)]
    pub two_dimensional_paging: Given<bool>,
}

/// An enumeration whose words are those that a scenario and the host use.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
        pub(crate) enum $name {
            $($(#[$word_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

words! {
    /// Transparent huge pages.
    ThpSpec {
        /// For all anonymous memory.
        Always = "always",
        /// For memory that asks for them.
        Madvise = "madvise",
        /// For none.
        Never = "never",
    }
}

words! {
    /// What the kernel does where there is no free huge page.
    DefragSpec {
        /// The fault waits for one.
        Always = "always",
        /// It takes a small page and compacts in the background.
        Defer = "defer",
        /// It waits where memory asks for huge pages, and defers elsewhere.
        DeferMadvise = "defer+madvise",
        /// It waits where memory asks for huge pages.
        Madvise = "madvise",
        /// It takes a small page.
        Never = "never",
    }
}

words! {
    /// Kernel same-page merging.
    KsmSpec {
        /// Stopped; merged pages stay merged.
        Off = "off",
        /// Running.
        On = "on",
        /// Stopped; merged pages are parted.
        Unmerge = "unmerge",
    }
}

words! {
    /// Who sets how much KSM scans.
    AdvisorSpec {
        /// The administrator.
        None = "none",
        /// The kernel, by the time of a scan.
        ScanTime = "scan-time",
    }
}

/// Huge pages to reserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PagesSpec {
    /// On the host as a whole.
    All(u32),
    /// On each NUMA node.
    Nodes(Vec<u32>),
}

impl<'de> Deserialize<'de> for PagesSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pages;
        impl<'de> Visitor<'de> for Pages {
            type Value = PagesSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of pages, or a list with one for each NUMA node")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<PagesSpec, E> {
                u32::try_from(number)
                    .map(PagesSpec::All)
                    .map_err(|_| E::custom(format_args!("{number} is no number of pages")))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PagesSpec, A::Error> {
                let mut nodes = Vec::new();
                while let Some(pages) = list.next_element()? {
                    nodes.push(pages);
                }
                Ok(PagesSpec::Nodes(nodes))
            }
        }
        deserializer.deserialize_any(Pages)
    }
}

impl JsonSchema for PagesSpec {
    fn schema_name() -> Cow<'static, str> {
        "Pages".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pages = json_schema!({ "type": "integer", "minimum": 0 });
        json_schema!({
            "anyOf": [pages, { "type": "array", "items": pages, "minItems": 1 }],
            "examples": [128, [64, 64]],
        })
    }
}

/// What the table means, and where each knob is given.
pub(crate) struct Settled {
    pub settings: HostSettings,
    pub spans: Vec<(Field, Range<usize>)>,
}

/// Resolves `[host]` for a guest with this pinning.
pub(crate) fn settle(spec: &HostSpec, pinning: &Pinning, errors: &mut Diagnostics) -> Settled {
    let mut settled = Settled {
        settings: HostSettings::new(),
        spans: Vec::new(),
    };
    let switch = |on: &bool| if *on { "on" } else { "off" }.to_owned();
    let time = |time: &Duration| duration_text(time.0);
    settled.give(Knob::Thp, &spec.thp, |word| word.word().to_owned());
    settled.give(Knob::ThpDefrag, &spec.thp_defrag, |word| {
        word.word().to_owned()
    });
    settled.give(Knob::Hugepages2m, &spec.hugepages_2m, pages_text);
    settled.give(Knob::Hugepages1g, &spec.hugepages_1g, pages_text);
    settled.give(Knob::Ksm, &spec.ksm, |word| word.word().to_owned());
    settled.give(
        Knob::KsmPagesToScan,
        &spec.ksm_pages_to_scan,
        u32::to_string,
    );
    settled.give(Knob::KsmSleep, &spec.ksm_sleep, time);
    settled.give(
        Knob::KsmMergeAcrossNodes,
        &spec.ksm_merge_across_nodes,
        switch,
    );
    settled.give(Knob::KsmAdvisor, &spec.ksm_advisor, |word| {
        word.word().to_owned()
    });
    settled.give(Knob::HaltPoll, &spec.halt_poll, time);
    settled.give(Knob::HaltPollGrow, &spec.halt_poll_grow, u32::to_string);
    settled.give(Knob::HaltPollGrowStart, &spec.halt_poll_grow_start, time);
    settled.give(Knob::HaltPollShrink, &spec.halt_poll_shrink, u32::to_string);
    settled.give(Knob::Governor, &spec.governor, String::clone);
    settled.give(Knob::Turbo, &spec.turbo, switch);
    settled.give(
        Knob::CStateLatency,
        &spec.c_state_latency,
        LatencySpec::text,
    );
    settled.give(Knob::Smt, &spec.smt, switch);
    settled.give(Knob::NmiWatchdog, &spec.nmi_watchdog, switch);
    settled.give(Knob::NumaBalancing, &spec.numa_balancing, switch);
    settled.give(
        Knob::TwoDimensionalPaging,
        &spec.two_dimensional_paging,
        switch,
    );
    // `false` leaves them where they are, like a table without the key.
    let away = spec.irqs_away.clone().filter(|away| *away.get_ref());
    settled.give(Knob::IrqsAway, &away, switch);
    check(spec, pinning, errors);
    settled
}

impl Settled {
    fn give<T>(&mut self, knob: Knob, given: &Given<T>, text: impl Fn(&T) -> String) {
        if let Some(given) = given {
            self.settings.insert(knob, text(given.get_ref()));
            self.spans.push((Field::Host(knob), given.span()));
        }
    }
}

fn pages_text(pages: &PagesSpec) -> String {
    match pages {
        PagesSpec::All(pages) => pages.to_string(),
        PagesSpec::Nodes(nodes) => {
            let nodes: Vec<String> = nodes.iter().map(u32::to_string).collect();
            format!("[{}]", nodes.join(", "))
        }
    }
}

/// What no host can be set to.
fn check(spec: &HostSpec, pinning: &Pinning, errors: &mut Diagnostics) {
    for (name, pages) in [
        ("hugepages-2m", &spec.hugepages_2m),
        ("hugepages-1g", &spec.hugepages_1g),
    ] {
        if let Some(pages) = pages
            && *pages.get_ref() == PagesSpec::Nodes(Vec::new())
        {
            errors.push(
                Diagnostic::new(pages.span(), format!("`{name}` names no NUMA node"))
                    .help("write a number of pages for each node, or one for the whole host"),
            );
        }
    }
    if let Some(pages) = &spec.ksm_pages_to_scan {
        if *pages.get_ref() == 0 {
            errors.push(
                Diagnostic::new(pages.span(), "KSM that looks at no page does nothing")
                    .help("write ksm = \"off\", or ksm-pages-to-scan = 100"),
            );
        }
        if spec
            .ksm_advisor
            .as_ref()
            .is_some_and(|advisor| *advisor.get_ref() == AdvisorSpec::ScanTime)
        {
            errors.push(
                Diagnostic::new(
                    pages.span(),
                    "the advisor `scan-time` sets `ksm-pages-to-scan` itself",
                )
                .help("remove it, or write ksm-advisor = \"none\""),
            );
        }
    }
    whole(
        &spec.ksm_sleep,
        "ksm-sleep",
        1_000_000,
        "milliseconds",
        errors,
    );
    whole(&spec.halt_poll, "halt-poll", 1, "nanoseconds", errors);
    whole(
        &spec.halt_poll_grow_start,
        "halt-poll-grow-start",
        1,
        "nanoseconds",
        errors,
    );
    if let Some(latency) = &spec.c_state_latency
        && let LatencySpec::AtMost(nanos) = *latency.get_ref()
        && (!nanos.is_multiple_of(MICROSECOND) || nanos > SECOND)
    {
        let whole = (nanos / MICROSECOND * MICROSECOND).clamp(MICROSECOND, SECOND);
        errors.push(
            Diagnostic::new(
                latency.span(),
                "`c-state-latency` must be a number of whole microseconds up to 1 s",
            )
            .help(format!(
                "write c-state-latency = \"{}\", or \"any\" for no limit",
                duration_text(whole)
            )),
        );
    }
    if let Some(governor) = &spec.governor {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if governor.get_ref().is_empty() || !governor.get_ref().chars().all(fits) {
            errors.push(
                Diagnostic::new(governor.span(), "this cannot be a cpufreq governor")
                    .help("write for example governor = \"performance\"; `vtax host show` lists those of this host"),
            );
        }
    }
    if let Some(away) = &spec.irqs_away
        && *away.get_ref()
        && *pinning == Pinning::None
    {
        errors.push(
            Diagnostic::new(
                away.span(),
                "interrupts can be kept off vCPUs only where these are bound to CPUs",
            )
            .help("write pinning = \"one-to-one\" in [guest], or irqs-away = false"),
        );
    }
}

/// A time that the kernel takes as a 32-bit number of `unit` nanoseconds.
fn whole(given: &Given<Duration>, name: &str, unit: u64, units: &str, errors: &mut Diagnostics) {
    let Some(given) = given else { return };
    let nanos = given.get_ref().0;
    if !nanos.is_multiple_of(unit) || u32::try_from(nanos / unit).is_err() {
        errors.push(
            Diagnostic::new(
                given.span(),
                format!("`{name}` must be a number of whole {units} below 2^32"),
            )
            .help(format!(
                "write {name} = \"{}\"",
                duration_text((nanos / unit).clamp(1, u32::MAX.into()) * unit)
            )),
        );
    }
}

/// The knobs of a cell in one line: `thp=never ksm=on`.
#[must_use]
pub fn settings_text(settings: &HostSettings) -> String {
    let texts: Vec<String> = settings
        .iter()
        .map(|(knob, value)| format!("{knob}={value}"))
        .collect();
    texts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_scenario_and_the_record() {
        let schema = crate::schema::document_schema();
        let keys = crate::keys::keys_of(&schema["properties"]["host"]);
        for knob in Knob::ALL {
            assert!(keys.contains(&knob.name()), "{knob}");
            assert_eq!(serde_json::to_value(knob).unwrap(), knob.name());
        }
        assert_eq!(keys.len(), Knob::ALL.len());
        assert!(Knob::ALL.is_sorted());
    }
}
