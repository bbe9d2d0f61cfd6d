//! What a user may write. The JSON Schema of these types drives the check of keys, the hints of errors and the
//! completion in editors.
//!
//! Every table is optional but `[[workload]]`; what is left out takes the default that its description names. Tables
//! are tagged externally and never flattened, because spans survive neither.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;
use vtax_workloads::{CATALOGUE, Param, ParamKind};

use crate::claim::ClaimSpec;
use crate::experiment::ExperimentSpec;
use crate::knobs::HostSpec;
use crate::matrix_schema;
use crate::neighbour::spec::NeighbourSpec;
use crate::plan::{Backing, Completion, DiskDevice, NetBackend, NetLink, PageSize};
use crate::scheduling::SchedulingSpec;
use crate::units::{Duration, Percent, Size, duration_text, size_text};
use crate::values::{DiskBackingSpec, MemorySpec, PinningSpec, VcpusSpec};

/// Version of the file format.
pub const SCHEMA: u32 = 1;

/// A list of CPUs, for example.
const ONE_CPU: [u32; 1] = [1];

/// A value with its place in the file, where it was written at all.
pub(crate) type Given<T> = Option<Spanned<T>>;

/// A scenario: what to measure, on which guests, how precisely, and what is claimed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// Version of this file format: 1.
    #[schemars(with = "u32", range(min = 1, max = 1), example = 1)]
    pub schema: Given<u32>,
    /// A short name for results and file names, such as `quick`.
    #[schemars(with = "String", example = &"quick")]
    pub name: Given<String>,
    /// What it is for.
    #[serde(default)]
    #[schemars(example = &"How close is this host's guest to bare metal?")]
    pub description: String,
    /// Seed of every random choice. Default: 1. `--seed` overrides it.
    #[serde(default)]
    #[schemars(with = "u64", example = 1)]
    pub seed: Given<u64>,
    /// The guest of every cell. Experiments make guests of their own, which it does not reach.
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "read for its types; cells take theirs from `Settings`"
    )]
    pub guest: GuestSpec,
    /// The native side.
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "read for its types; cells take theirs from `Settings`"
    )]
    pub baseline: BaselineSpec,
    /// How the host is set while cells are measured. Experiments run on the host as it is.
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "read for its types; cells take theirs from `Settings`"
    )]
    pub host: HostSpec,
    /// Guests that run beside the measured one, during native blocks too: one `[[neighbour]]` table for each kind. Beside
    /// experiments there are none.
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "read for its types; cells take theirs from `Settings`"
    )]
    pub neighbour: Vec<NeighbourSpec>,
    /// How precisely and for how long to measure.
    #[serde(default)]
    pub measure: MeasureSpec,
    /// What is claimed. Default: that all work keeps 97 % of native; nothing where `[matrix]` varies settings, since then
    /// guests are compared with guests.
    #[serde(default)]
    pub claim: ClaimSpec,
    /// What runs, one `[[workload]]` table each. Only a scenario of experiments, or one whose claim is not testable yet,
    /// does without.
    #[serde(default)]
    #[schemars(with = "Vec<WorkloadSpec>", length(min = 1))]
    #[expect(
        dead_code,
        reason = "read for its types; `workload` reads the values with their places"
    )]
    pub workload: Option<Vec<WorkloadSpec>>,
    /// What is tried as a whole, one `[[experiment]]` table each. Of the rest only `[measure]` and `[claim]` are about
    /// experiments too. Default: nothing.
    #[serde(default)]
    #[schemars(with = "Vec<ExperimentSpec>")]
    pub experiment: Vec<Spanned<ExperimentSpec>>,
    /// Measures every combination of the values given here. A key is the path of a field of `[guest]`, `[baseline]`,
    /// `[host]` or `[measure]`, such as `"guest.backing"`, of a workload's parameter, such as
    /// `"workload.mem-latency.size"`, or of a neighbour's key, such as `"neighbour.burner.count"`. Lists of an experiment's
    /// parameters are written in its own table.
    #[serde(default)]
    #[schemars(with = "MatrixSpec")]
    #[expect(dead_code, reason = "`matrix` reads it")]
    pub matrix: IgnoredAny,
}

/// The fields that the matrix may vary.
#[derive(Debug, Deserialize)]
pub(crate) struct Settings {
    #[serde(default)]
    pub guest: GuestSpec,
    #[serde(default)]
    pub baseline: BaselineSpec,
    #[serde(default)]
    pub host: HostSpec,
    #[serde(default)]
    pub measure: MeasureSpec,
    #[serde(default)]
    pub neighbour: Vec<NeighbourSpec>,
}

/// The guest of every cell.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct GuestSpec {
    /// Number of vCPUs, or `"all"`: as many as the host has CPUs for vtax. Default: 1.
    #[schemars(with = "VcpusSpec")]
    pub vcpus: Given<VcpusSpec>,
    /// How the vCPUs appear to the guest. Default: one socket with one thread per core.
    #[schemars(with = "TopologySpec")]
    pub topology: Given<TopologySpec>,
    /// Guest RAM, a multiple of 2 MiB from 16 MiB up; or what each vCPU's arena shall have, such as `"32MiB per vcpu"`.
    /// Default: 64 MiB.
    #[schemars(with = "MemorySpec")]
    pub memory: Given<MemorySpec>,
    /// What backs guest RAM on the host: 4 KiB pages, transparent huge pages, 2 MiB or 1 GiB pages of hugetlbfs.
    /// Default: 4k.
    #[schemars(with = "Backing")]
    pub backing: Given<Backing>,
    /// Whether the host populates what of guest RAM the workload uses before the guest starts. Without, the host gives each
    /// page when it is touched first, which is during the warm-up, so that what is measured then is the same. It is the same
    /// for `mem-first-touch` too, which gives all its pages back to the host before each block. Default: true.
    #[schemars(with = "bool", example = true)]
    pub prefault: Given<bool>,
    /// Whether KSM may merge guest RAM with memory of others (`MADV_MERGEABLE`). Where KSM runs and the guest or a neighbour
    /// offers it memory, each boot waits until it has looked through that before it measures. Default: false.
    #[schemars(with = "bool", example = true)]
    pub mergeable: Given<bool>,
    /// NUMA node that guest RAM is bound to. Default: none.
    #[schemars(with = "u32", example = 0)]
    pub numa_node: Given<u32>,
    /// Page size of the guest's own page tables. Default: 2M.
    #[schemars(with = "PageSize")]
    pub page_size: Given<PageSize>,
    /// Where vCPU threads may run: `"none"`, `"one-to-one"`, a list with one host CPU for each vCPU, or
    /// `{ all-on = CPU }`. Default: one-to-one.
    #[schemars(with = "PinningSpec")]
    pub pinning: Given<PinningSpec>,
    /// How the host schedules vCPU threads: `"other"`, `"batch"`, `"idle"`, or in real time `{ fifo = PRIORITY }` or
    /// `{ rr = PRIORITY }`, from 1 to 99. Native blocks run on the same threads. Default: as vtax itself is scheduled.
    #[schemars(with = "SchedulingSpec")]
    pub scheduling: Given<SchedulingSpec>,
    /// How long KVM polls for a wake-up of a halted vCPU before its thread sleeps, up to 10 ms; `"0us"` never polls. Default:
    /// as the host is set (the parameter `halt_poll_ns` of the module kvm).
    #[schemars(with = "Duration", example = &"200us")]
    pub halt_poll: Given<Duration>,
    /// The guest's disk: none, virtio-blk over MMIO, or an emulated ATA disk that is driven by port I/O. Default: none.
    #[schemars(with = "DiskSpec")]
    pub disk: Given<DiskSpec>,
    /// What holds the disk's data: memory of vtax, a scratch file that vtax makes in the run directory and removes, or
    /// `{ path = "…" }`, a file or block device of yours. Default: memory.
    #[schemars(with = "DiskBackingSpec")]
    pub disk_backing: Given<DiskBackingSpec>,
    /// Size of the disk, a multiple of 1 MiB. Default: 64 MiB; at a path, all that is there.
    #[schemars(with = "Size", example = &"64MiB")]
    pub disk_size: Given<Size>,
    /// Whether vtax accesses a file or block device past the host's page cache (`O_DIRECT`), on both sides alike.
    /// Default: true.
    #[schemars(with = "bool", example = true)]
    pub disk_direct: Given<bool>,
    /// Queues of a virtio-blk disk, each with an I/O thread of its own; vCPU i uses queue i. Default: one for each vCPU.
    #[schemars(with = "u32", range(min = 1, max = 64), example = 1)]
    pub disk_queues: Given<u32>,
    /// How the guest of a virtio-blk disk learns of an answer: by an interrupt, or by polling. Default: interrupt.
    #[schemars(with = "Completion")]
    pub disk_completion: Given<Completion>,
    /// How long an I/O thread of a virtio-blk disk polls for further requests before it sleeps. Default: 32 us.
    #[schemars(with = "Duration", example = &"32us")]
    pub disk_poll: Given<Duration>,
    /// A host CPU for each queue's I/O thread. Default: wherever the scheduler puts them.
    #[schemars(with = "Vec<u32>", example = ONE_CPU)]
    pub disk_io_cpus: Given<Vec<u32>>,
    /// Whether the disk is read-only for the guest. Default: false.
    #[schemars(with = "bool", example = true)]
    pub disk_read_only: Given<bool>,
    /// Whether vtax may overwrite the first `disk-size` bytes of the disk's path. Without it nothing is written there.
    /// Default: false.
    #[schemars(with = "bool", example = true)]
    pub disk_overwrite: Given<bool>,
    /// The guest's network link: none, or virtio-net over MMIO. Default: none.
    #[schemars(with = "NetSpec")]
    pub net: Given<NetSpec>,
    /// What the link is made of on the host, in a network namespace that vtax makes and removes: the guest's tap alone, or
    /// a bridge between it and its peer. Default: namespace.
    #[schemars(with = "NetLink")]
    pub net_link: Given<NetLink>,
    /// Who serves the guest's network card: the host's kernel (`vhost`, by /dev/vhost-net), an I/O thread of the VMM (`vmm`), or
    /// the kernel where it can, else the VMM (`auto`). Default: auto.
    #[schemars(with = "NetBackend")]
    pub net_backend: Given<NetBackend>,
    /// How the guest learns of a frame: by an interrupt, or by polling. The native twin does likewise. Default: interrupt.
    #[schemars(with = "Completion")]
    pub net_completion: Given<Completion>,
    /// How long the thread that serves virtio-net polls for further frames before it sleeps; vhost-net rounds up to whole
    /// microseconds. Default: 0 us.
    #[schemars(with = "Duration", example = &"32us")]
    pub net_poll: Given<Duration>,
    /// The host CPU of the thread that serves virtio-net. Default: wherever the scheduler puts it.
    #[schemars(with = "u32", example = 1)]
    pub net_io_cpu: Given<u32>,
}

/// A guest's network link.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NetSpec {
    /// No network.
    None,
    /// virtio-net over MMIO.
    VirtioNet,
}

/// A guest's disk.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DiskSpec {
    /// No disk.
    None,
    /// virtio-blk over MMIO.
    VirtioBlk,
    /// An emulated ATA disk that is driven by port I/O.
    AtaPio,
}

impl DiskSpec {
    pub(crate) fn device(self) -> Option<DiskDevice> {
        match self {
            Self::None => None,
            Self::VirtioBlk => Some(DiskDevice::VirtioBlk),
            Self::AtaPio => Some(DiskDevice::AtaPio),
        }
    }
}

/// The native side.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct BaselineSpec {
    /// What backs the native side's memory. Default: `"same"`, the very pages of the guest.
    #[schemars(with = "BaselineBacking")]
    pub backing: Given<BaselineBacking>,
}

/// What backs the native side's memory.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub(crate) enum BaselineBacking {
    /// The very pages of the guest.
    #[serde(rename = "same")]
    Same,
    /// 4 KiB pages of its own.
    #[serde(rename = "4k")]
    Small,
    /// Transparent huge pages of its own.
    #[serde(rename = "thp")]
    Thp,
    /// 2 MiB pages of its own from hugetlbfs.
    #[serde(rename = "2M")]
    Huge2M,
    /// 1 GiB pages of its own from hugetlbfs.
    #[serde(rename = "1G")]
    Huge1G,
}

impl BaselineBacking {
    pub(crate) fn own(self) -> Option<Backing> {
        match self {
            Self::Same => None,
            Self::Small => Some(Backing::Small),
            Self::Thp => Some(Backing::Thp),
            Self::Huge2M => Some(Backing::Huge2M),
            Self::Huge1G => Some(Backing::Huge1G),
        }
    }
}

/// How precisely and for how long to measure.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct MeasureSpec {
    /// Wanted half-width of the ratio's interval, relative. Default: 0.5 %. `--precision` overrides it. Where guests are
    /// compared with guests, by the claim or since the matrix varies settings, the budget alone says how many boots there are.
    #[schemars(with = "Percent", example = &"0.5%")]
    pub precision: Given<Percent>,
    /// Confidence of the interval. Default: 95 %.
    #[schemars(with = "Percent", example = &"95%")]
    pub confidence: Given<Percent>,
    /// Wall-clock time of the whole run. Default: 60 s. `--budget` overrides it.
    #[schemars(with = "Duration", example = &"60s")]
    pub budget: Given<Duration>,
    /// Length that each timed block aims at, from 10 ms up. Default: 12 ms.
    #[schemars(with = "Duration", example = &"12ms")]
    pub block: Given<Duration>,
    /// Rounds per boot, each with one native, one guest and one control block. Default: 3.
    #[schemars(with = "u32", range(min = 1, max = 10_000), example = 3)]
    pub rounds: Given<u32>,
    /// Boots of the pilot stage, whose variance sizes the rest. Default: 10.
    #[schemars(with = "u32", range(min = 2, max = 10_000), example = 10)]
    pub pilot_boots: Given<u32>,
    /// Most boots of one cell. Default: 1000, or `pilot-boots` where that is more.
    #[schemars(with = "u32", range(min = 2, max = 1_000_000), example = 1000)]
    pub max_boots: Given<u32>,
}

/// One workload of the catalogue.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = parameters_of_each_workload)]
#[expect(
    dead_code,
    reason = "read for its types; `workload` reads the values with their places"
)]
pub(crate) struct WorkloadSpec {
    /// Its name in the catalogue.
    #[schemars(with = "WorkloadName")]
    pub name: Given<String>,
    /// Its parameters. A list of values makes one cell for each.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub params: BTreeMap<String, IgnoredAny>,
}

/// Measures every combination of the values given here.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "describes `[matrix]` in the JSON Schema; `matrix` reads it"
)]
pub(crate) struct MatrixSpec {
    /// Further combinations: tables of path and value. What they leave out keeps the value it has outside the matrix.
    #[serde(default)]
    include: Vec<BTreeMap<String, serde_json::Value>>,
    /// Combinations to leave out: tables of path and value, all of which must match. `workload` may be among the keys.
    #[serde(default)]
    exclude: Vec<BTreeMap<String, serde_json::Value>>,
    #[serde(flatten)]
    axes: BTreeMap<String, Vec<serde_json::Value>>,
}

/// How the vCPUs appear to the guest.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopologySpec {
    /// Sockets. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1), example = 1)]
    pub sockets: u32,
    /// Cores per socket. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1), example = 1)]
    pub cores: u32,
    /// Threads per core. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1), example = 1)]
    pub threads: u32,
}

fn one() -> u32 {
    1
}

/// A name in the catalogue.
struct WorkloadName;

impl JsonSchema for WorkloadName {
    fn schema_name() -> Cow<'static, str> {
        "WorkloadName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = CATALOGUE.iter().map(|workload| workload.name).collect();
        json_schema!({ "enum": names })
    }
}

/// Lets an editor complete the parameters that belong to the workload's name.
fn parameters_of_each_workload(schema: &mut Schema) {
    let rules: Vec<serde_json::Value> = CATALOGUE
        .iter()
        .map(|workload| {
            let params: serde_json::Map<String, serde_json::Value> = workload
                .params
                .iter()
                .map(|param| (param.name.to_owned(), parameter_schema(param)))
                .collect();
            serde_json::json!({
                "if": { "properties": { "name": { "const": workload.name } } },
                "then": { "properties": {
                    "params": { "properties": params, "additionalProperties": false },
                } },
            })
        })
        .collect();
    if !rules.is_empty() {
        schema.insert("allOf".to_owned(), rules.into());
    }
}

/// The JSON Schema of a parameter's value.
pub(crate) fn parameter_value_schema(param: &Param) -> serde_json::Value {
    match param.kind {
        ParamKind::Bytes | ParamKind::Duration => serde_json::json!({ "type": "string" }),
        ParamKind::Count => {
            serde_json::json!({ "type": "integer", "minimum": param.min, "maximum": param.max })
        }
        ParamKind::Choice(words) => serde_json::json!({ "enum": words }),
    }
}

/// The same, or of a list of them.
pub(crate) fn parameter_schema(param: &Param) -> serde_json::Value {
    let one = parameter_value_schema(param);
    serde_json::json!({
        "description": format!("{} Default: {}.", param.help, parameter_text(param, param.default)),
        "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }],
    })
}

/// A parameter's value as a user writes it.
#[must_use]
pub fn parameter_text(param: &Param, value: u64) -> String {
    match param.kind {
        ParamKind::Bytes => size_text(value),
        ParamKind::Duration => duration_text(value),
        ParamKind::Count => value.to_string(),
        ParamKind::Choice(words) => usize::try_from(value)
            .ok()
            .and_then(|index| words.get(index))
            .map_or_else(|| value.to_string(), |word| (*word).to_owned()),
    }
}

/// The JSON Schema of a scenario file (the committed `scenario.schema.json`), for completion in editors.
#[must_use]
pub fn json_schema() -> String {
    let mut schema = document_schema();
    matrix_schema::refine(&mut schema);
    format!("{schema:#}\n")
}

/// The schema with all definitions inlined, so that it can be walked beside a document.
pub(crate) fn document_schema() -> serde_json::Value {
    let mut settings = schemars::generate::SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<Document>();
    schema.insert("title".to_owned(), "vtax scenario".into());
    // Absent values are written as such: TOML has no null that could be their default.
    RecursiveTransform(|schema: &mut Schema| {
        if schema
            .get("default")
            .is_some_and(serde_json::Value::is_null)
        {
            schema.remove("default");
        }
    })
    .transform(&mut schema);
    schema.to_value()
}
