//! `[[neighbour]]` tables as they are written, and what they mean.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Content, Neighbour, NeighbourDisk, NeighbourPinning, Work};
use crate::check::{memory, mergeable, out_of_range, span, value};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::plan::Backing;
use crate::schema::Given;
use crate::tree::{self, Node};
use crate::units::{Duration, Percent, Size, duration_text, percent_text, size_text};
use crate::values::MemorySpec;

/// The table's key.
pub(crate) const TABLE: &str = "neighbour";

const MOST_COPIES: u32 = 1024;
/// Weights as cgroup v2 has them in `cpu.weight` and `io.weight` (Linux, admin-guide/cgroup-v2.rst).
const WEIGHTS: (u32, u32) = (1, 10_000);
const DEFAULT_WEIGHT: u32 = 100;
const DEFAULT_PERIOD_NANOS: u64 = 100_000_000;
/// A guest is made in about a millisecond.
const LEAST_PERIOD_NANOS: u64 = 1_000_000;
const MOST_PERIOD_NANOS: u64 = 60_000_000_000;

/// A guest beside the measured one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct NeighbourSpec {
    /// What it does all the time: `"cpu"` computes, `"memory"` streams through its memory, `"cache"` updates random words
    /// of a table as large as the host's last-level cache, `"io"` reads a disk of its own, `"dirty"` writes one word of each
    /// page, `"idle"` halts. `"triple-fault"` and `"wild"` (accesses beyond its memory) die of it and are started anew;
    /// `"exit-storm"` leaves for the VMM without end.
    #[schemars(with = "Work")]
    pub work: Given<Work>,
    /// Its name, as in the matrix: `"neighbour.NAME.count"`. Default: its work.
    #[serde(default)]
    #[schemars(with = "String", example = &"burner")]
    pub name: Given<String>,
    /// How many of them; 0 is none. Default: 1.
    #[serde(default)]
    #[schemars(with = "u32", range(max = 1024), example = 1)]
    pub count: Given<u32>,
    /// Guest RAM of each, a multiple of 2 MiB from 16 MiB up. Default: 64 MiB.
    #[serde(default)]
    #[schemars(with = "MemorySpec")]
    pub memory: Given<MemorySpec>,
    /// What backs that memory on the host. Default: 4k.
    #[serde(default)]
    #[schemars(with = "Backing")]
    pub backing: Given<Backing>,
    /// Where they may run: `"none"`, `"with-vcpus"` (on the measured guest's CPUs), or a list of host CPUs, one for each
    /// copy and from the first again. Default: none.
    #[serde(default)]
    #[schemars(with = "NeighbourPinningSpec")]
    pub pinning: Given<NeighbourPinningSpec>,
    /// Weight of each one's control group for CPU time, from 1 to 10000. Default: as a new group has it, which is 100.
    #[serde(default)]
    #[schemars(with = "u32", range(min = 1, max = 10_000), example = 200)]
    pub cpu_weight: Given<u32>,
    /// Most CPU time of each, as a share of one CPU. Default: no limit.
    #[serde(default)]
    #[schemars(with = "Percent", example = &"50%")]
    pub cpu_quota: Given<Percent>,
    /// Most memory of each one's process, its guest's RAM included. Default: no limit.
    #[serde(default)]
    #[schemars(with = "Size", example = &"128MiB")]
    pub memory_limit: Given<Size>,
    /// Host CPUs to which each one's control group is confined: no thread of its process runs elsewhere. Default: those
    /// that vtax may use.
    #[serde(default)]
    #[schemars(with = "Vec<u32>", length(min = 1), example = two_cpus())]
    pub cpuset: Given<Vec<u32>>,
    /// Weight of each one's control group for the block device under its scratch disk, from 1 to 10000. It takes a device
    /// that is shared by weight: by the scheduler bfq, which knows weights up to 1000, or by blk-iocost. How closely they
    /// keep to it depends on their tunables, and on whether the device is what guests wait for. Default: as a new group has
    /// it, which is 100.
    #[serde(default)]
    #[schemars(with = "u32", range(min = 1, max = 10_000), example = 200)]
    pub io_weight: Given<u32>,
    /// Whether KSM may merge its memory with that of others (`MADV_MERGEABLE`). Default: false.
    #[serde(default)]
    #[schemars(with = "bool", example = true)]
    pub mergeable: Given<bool>,
    /// Fills its memory before it starts, by shares: `zero` pages, pages that are `common` to all neighbours, and for the
    /// rest pages that each has alone. Default: its memory is not filled.
    #[serde(default)]
    #[schemars(with = "ContentSpec")]
    pub content: Given<ContentSpec>,
    /// What holds the disk's data of `work = "io"`: memory of its process, or a scratch file in the run directory.
    /// Default: memory.
    #[serde(default)]
    #[schemars(with = "NeighbourDisk")]
    pub disk_backing: Given<NeighbourDisk>,
    /// From one start to the next of a guest that dies on purpose. Default: 100 ms.
    #[serde(default)]
    #[schemars(with = "Duration", example = &"100ms")]
    pub period: Given<Duration>,
}

/// What a neighbour's memory holds.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(example = serde_json::json!({ "zero": "10%", "common": "40%" }))]
pub(crate) struct ContentSpec {
    /// Share of zero pages. Default: 0 %.
    #[schemars(with = "Percent", example = &"10%")]
    pub zero: Option<Percent>,
    /// Share of pages that all neighbours have alike. Default: 0 %.
    #[schemars(with = "Percent", example = &"40%")]
    pub common: Option<Percent>,
}

/// Where neighbours may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NeighbourPinningSpec {
    None,
    WithVcpus,
    List(Vec<u32>),
}

impl<'de> Deserialize<'de> for NeighbourPinningSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pinning;
        impl<'de> Visitor<'de> for Pinning {
            type Value = NeighbourPinningSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"none\", \"with-vcpus\" or a list of host CPUs")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<NeighbourPinningSpec, E> {
                match text {
                    "none" => Ok(NeighbourPinningSpec::None),
                    "with-vcpus" => Ok(NeighbourPinningSpec::WithVcpus),
                    _ => Err(E::custom(format_args!("`{text}` is no way of pinning"))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<NeighbourPinningSpec, A::Error> {
                let mut cpus = Vec::new();
                while let Some(cpu) = list.next_element()? {
                    cpus.push(cpu);
                }
                Ok(NeighbourPinningSpec::List(cpus))
            }
        }
        deserializer.deserialize_any(Pinning)
    }
}

/// An array would need more of `syn` than schemars asks for, so that this crate would not build by itself.
fn two_cpus() -> [u32; 2] {
    [0, 1]
}

impl JsonSchema for NeighbourPinningSpec {
    fn schema_name() -> Cow<'static, str> {
        "NeighbourPinning".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "enum": ["none", "with-vcpus"] },
                { "type": "array", "items": { "type": "integer", "minimum": 0 }, "minItems": 1 },
            ],
            "examples": ["none", "with-vcpus", [0, 1]],
        })
    }
}

/// The names of the document's neighbours, in order.
pub(crate) fn names(document: &DeTable<'_>) -> Vec<String> {
    let list = tree::entry(document, TABLE).map(|(_, node)| node.get_ref());
    let Some(DeValue::Array(items)) = list else {
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| name(item.get_ref()))
        .collect()
}

/// The name of a `[[neighbour]]` table: what it says, or else its work.
pub(crate) fn name(item: &DeValue<'_>) -> Option<String> {
    let DeValue::Table(table) = item else {
        return None;
    };
    let text = |key| match tree::entry(table, key)?.1.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        _ => None,
    };
    text("name").or_else(|| text("work"))
}

/// The list of tables with a name in each, so that the matrix finds a table whose work it has changed.
pub(crate) fn named<'i>(list: &Node<'i>) -> Node<'i> {
    let mut list = list.clone();
    if let DeValue::Array(items) = list.get_mut() {
        for item in items.iter_mut() {
            let own = name(item.get_ref());
            if let (DeValue::Table(table), Some(own)) = (item.get_mut(), own) {
                // Of no length, so that an error about the work does not find the name in its place.
                let span = match tree::entry(table, "name") {
                    Some((_, node)) => node.span(),
                    None => {
                        tree::entry(table, "work").map_or(0..0, |(key, _)| key.start..key.start)
                    }
                };
                let node = Spanned::new(span, DeValue::String(own.into()));
                tree::set(table, &["name"], node);
            }
        }
    }
    list
}

/// Resolves all tables.
pub(crate) fn neighbours(specs: &[NeighbourSpec], errors: &mut Diagnostics) -> Vec<Neighbour> {
    let mut found: Vec<Neighbour> = Vec::new();
    for spec in specs {
        let Some(neighbour) = neighbour(spec, errors) else {
            continue;
        };
        let written = span(&spec.name).filter(|at| !at.is_empty());
        let at = written.or(span(&spec.work)).unwrap_or(0..0);
        if found.iter().any(|other| other.name == neighbour.name) {
            errors.push(
                Diagnostic::new(
                    at,
                    format!("two neighbours are called `{}`", neighbour.name),
                )
                .help("write a name of its own in one of them, or one table with a higher `count`"),
            );
        }
        found.push(neighbour);
    }
    found
}

fn neighbour(spec: &NeighbourSpec, errors: &mut Diagnostics) -> Option<Neighbour> {
    let work = *spec.work.as_ref()?.get_ref();
    let backing = value(&spec.backing, Backing::Small);
    let memory = memory(&spec.memory, 1, backing == Backing::Huge1G, errors);
    only_for(
        &spec.disk_backing,
        "disk-backing",
        work == Work::Io,
        work,
        errors,
    );
    only_for(&spec.period, "period", work.dies(), work, errors);
    only_for(&spec.content, "content", work.keeps_content(), work, errors);
    only_for(&spec.io_weight, "io-weight", work == Work::Io, work, errors);
    let disk = value(&spec.disk_backing, NeighbourDisk::Memory);
    if work == Work::Io
        && disk == NeighbourDisk::Memory
        && let Some(at) = span(&spec.io_weight)
    {
        errors.push(
            Diagnostic::new(at, "a disk in memory asks no block device for anything")
                .help("write disk-backing = \"scratch\", or leave io-weight out"),
        );
    }
    let mergeable = mergeable(&spec.mergeable, backing, errors);
    let pinning = pinning(&spec.pinning, errors);
    Some(Neighbour {
        name: own_name(spec, work, errors),
        work,
        count: number(&spec.count, 1, "count", (0, MOST_COPIES), errors),
        memory,
        backing,
        cpuset: cpuset(&spec.cpuset, &pinning, errors),
        pinning,
        cpu_weight: weight(&spec.cpu_weight, "cpu-weight", errors),
        cpu_quota: cpu_quota(&spec.cpu_quota, errors),
        memory_limit: memory_limit(&spec.memory_limit, memory, errors),
        io_weight: weight(&spec.io_weight, "io-weight", errors),
        mergeable,
        content: content(&spec.content, errors),
        disk,
        period_nanos: period(&spec.period, errors),
    })
}

fn own_name(spec: &NeighbourSpec, work: Work, errors: &mut Diagnostics) -> String {
    let Some(name) = &spec.name else {
        return work.name().to_owned();
    };
    let text = name.get_ref();
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if text.is_empty() || text.len() > 32 || !text.chars().all(fits) {
        errors.push(
            Diagnostic::new(name.span(), "this cannot be a neighbour's name").help(
                "write up to 32 letters, digits, `-` and `_`: it is part of a path in [matrix]",
            ),
        );
    }
    text.clone()
}

/// Reports a key that says nothing about this kind of work.
fn only_for<T>(given: &Given<T>, key: &str, suits: bool, work: Work, errors: &mut Diagnostics) {
    let Some(given) = given.as_ref().filter(|_| !suits) else {
        return;
    };
    let works = Work::ALL.into_iter().filter(|work| match key {
        "content" => work.keeps_content(),
        "period" => work.dies(),
        _ => *work == Work::Io,
    });
    let works: Vec<String> = works.map(|work| format!("\"{}\"", work.name())).collect();
    errors.push(
        Diagnostic::new(
            given.span(),
            format!("`{key}` means nothing with work = \"{}\"", work.name()),
        )
        .help(format!("leave it out; it is for {}", works.join(", "))),
    );
}

fn number(
    given: &Given<u32>,
    default: u32,
    key: &str,
    (least, most): (u32, u32),
    errors: &mut Diagnostics,
) -> u32 {
    let Some(given) = given else { return default };
    let number = *given.get_ref();
    if !(least..=most).contains(&number) {
        let texts = [number, least, most].map(|number| number.to_string());
        errors.push(out_of_range(given, key, &texts[0], &texts[1], &texts[2]));
    }
    number.clamp(least, most)
}

fn weight(given: &Given<u32>, key: &str, errors: &mut Diagnostics) -> Option<u32> {
    given
        .is_some()
        .then(|| number(given, DEFAULT_WEIGHT, key, WEIGHTS, errors))
}

fn pinning(given: &Given<NeighbourPinningSpec>, errors: &mut Diagnostics) -> NeighbourPinning {
    let Some(given) = given else {
        return NeighbourPinning::None;
    };
    match given.get_ref() {
        NeighbourPinningSpec::None => NeighbourPinning::None,
        NeighbourPinningSpec::WithVcpus => NeighbourPinning::WithVcpus,
        NeighbourPinningSpec::List(cpus) => {
            if cpus.is_empty() {
                errors.push(
                    Diagnostic::new(given.span(), "this list of CPUs is empty")
                        .help("write for example pinning = [0], or pinning = \"none\""),
                );
            }
            NeighbourPinning::List(cpus.clone())
        }
    }
}

/// Ascending, each CPU once.
fn cpuset(
    given: &Given<Vec<u32>>,
    pinning: &NeighbourPinning,
    errors: &mut Diagnostics,
) -> Option<Vec<u32>> {
    let given = given.as_ref()?;
    let mut cpus = given.get_ref().clone();
    cpus.sort_unstable();
    cpus.dedup();
    if cpus.is_empty() {
        errors.push(
            Diagnostic::new(given.span(), "this list of CPUs is empty")
                .help("write for example cpuset = [0, 1], or leave it out"),
        );
    } else if let NeighbourPinning::List(pinned) = pinning
        && let Some(outside) = pinned.iter().find(|cpu| !cpus.contains(cpu))
    {
        errors.push(
            Diagnostic::new(
                given.span(),
                format!("pinning asks for CPU {outside}, which is not in this cpuset"),
            )
            .help(format!(
                "add {outside} to cpuset, or take it out of pinning"
            )),
        );
    }
    Some(cpus)
}

fn cpu_quota(given: &Given<Percent>, errors: &mut Diagnostics) -> Option<f64> {
    let given = given.as_ref()?;
    let share = given.get_ref().0;
    if !(0.01..=1.0).contains(&share) {
        let is = percent_text(share);
        errors.push(out_of_range(given, "cpu-quota", &is, "1%", "100%"));
    }
    Some(share)
}

fn memory_limit(given: &Given<Size>, memory: u64, errors: &mut Diagnostics) -> Option<u64> {
    let given = given.as_ref()?;
    let bytes = given.get_ref().0;
    if bytes <= memory {
        errors.push(
            Diagnostic::new(
                given.span(),
                format!(
                    "this neighbour's guest has {}: with a limit of {} the kernel would kill it",
                    size_text(memory),
                    size_text(bytes)
                ),
            )
            .help("write a higher memory-limit, or less memory"),
        );
    }
    Some(bytes)
}

fn content(given: &Given<ContentSpec>, errors: &mut Diagnostics) -> Option<Content> {
    let given = given.as_ref()?;
    let share = |part: Option<Percent>| part.map_or(0.0, |part| part.0);
    let content = Content {
        zero: share(given.get_ref().zero),
        common: share(given.get_ref().common),
    };
    let sum = content.zero + content.common;
    if sum > 1.0 {
        errors.push(
            Diagnostic::new(
                given.span(),
                format!("these shares come to {}", percent_text(sum)),
            )
            .help("write shares that come to 100% or less; what is left is unique to each"),
        );
    }
    Some(content)
}

fn period(given: &Given<Duration>, errors: &mut Diagnostics) -> u64 {
    let Some(given) = given else {
        return DEFAULT_PERIOD_NANOS;
    };
    let nanos = given.get_ref().0;
    if !(LEAST_PERIOD_NANOS..=MOST_PERIOD_NANOS).contains(&nanos) {
        let texts = [nanos, LEAST_PERIOD_NANOS, MOST_PERIOD_NANOS].map(duration_text);
        errors.push(out_of_range(
            given, "period", &texts[0], &texts[1], &texts[2],
        ));
    }
    nanos
}
