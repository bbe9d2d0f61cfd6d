//! Values that are written in more than one way: what each takes, how it is read, and its part of the JSON Schema.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::units::{duration_text, parse_duration, parse_size, serde_error};

/// Number of vCPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VcpusSpec {
    /// As many as the host has CPUs for vtax.
    All,
    /// This many.
    Count(u32),
}

/// Size of guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemorySpec {
    /// Bytes in all.
    Total(u64),
    /// Bytes of each vCPU's arena.
    PerVcpu(u64),
}

/// Where vCPU threads may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PinningSpec {
    None,
    OneToOne,
    List(Vec<u32>),
    AllOn(u32),
}

/// What holds a disk's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DiskBackingSpec {
    Memory,
    Scratch,
    Path(String),
}

/// The longest that something may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LatencySpec {
    Any,
    /// Nanoseconds.
    AtMost(u64),
}

impl LatencySpec {
    /// As a scenario writes it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Any => "any".to_owned(),
            Self::AtMost(nanos) => duration_text(*nanos),
        }
    }
}

/// A figure in a metric's own unit, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FigureSpec(pub String);

impl<'de> Deserialize<'de> for FigureSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Figure;
        impl Visitor<'_> for Figure {
            type Value = FigureSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a figure such as \"5MiB\", \"10ms\", \"1%\" or 1.5")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<FigureSpec, E> {
                Ok(FigureSpec(text.trim().to_owned()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<FigureSpec, E> {
                Ok(FigureSpec(number.to_string()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<FigureSpec, E> {
                Ok(FigureSpec(number.to_string()))
            }
        }
        deserializer.deserialize_any(Figure)
    }
}

impl JsonSchema for FigureSpec {
    fn schema_name() -> Cow<'static, str> {
        "Figure".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "number" }, { "type": "string" }],
            "examples": ["5MiB", "10ms", "1%", 1.5],
        })
    }
}

impl<'de> Deserialize<'de> for VcpusSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Vcpus;
        impl Visitor<'_> for Vcpus {
            type Value = VcpusSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of vCPUs or \"all\"")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<VcpusSpec, E> {
                u32::try_from(number)
                    .map(VcpusSpec::Count)
                    .map_err(|_| E::custom(format_args!("{number} is no number of vCPUs")))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<VcpusSpec, E> {
                match text {
                    "all" => Ok(VcpusSpec::All),
                    _ => Err(E::custom(format_args!("`{text}` is no number of vCPUs"))),
                }
            }
        }
        deserializer.deserialize_any(Vcpus)
    }
}

impl JsonSchema for VcpusSpec {
    fn schema_name() -> Cow<'static, str> {
        "Vcpus".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "integer", "minimum": 1 }, { "const": "all" }],
            "examples": [2, "all"],
        })
    }
}

impl<'de> Deserialize<'de> for MemorySpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Memory;
        impl Visitor<'_> for Memory {
            type Value = MemorySpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a size such as \"64MiB\" or \"32MiB per vcpu\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<MemorySpec, E> {
                match text.trim_end().strip_suffix("per vcpu") {
                    Some(arena) => parse_size(arena).map(MemorySpec::PerVcpu),
                    None => parse_size(text).map(MemorySpec::Total),
                }
                .map_err(|error| serde_error(&error))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<MemorySpec, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Memory)
    }
}

impl JsonSchema for MemorySpec {
    fn schema_name() -> Cow<'static, str> {
        "Memory".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(B|KiB|MiB|GiB|TiB)\s*(per vcpu\s*)?$",
            "examples": ["64MiB", "32MiB per vcpu"],
        })
    }
}

impl<'de> Deserialize<'de> for PinningSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pinning;
        impl<'de> Visitor<'de> for Pinning {
            type Value = PinningSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"none\", \"one-to-one\", a list of host CPUs or { all-on = CPU }")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<PinningSpec, E> {
                match text {
                    "none" => Ok(PinningSpec::None),
                    "one-to-one" => Ok(PinningSpec::OneToOne),
                    _ => Err(E::custom(format_args!("`{text}` is no way of pinning"))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PinningSpec, A::Error> {
                let mut cpus = Vec::new();
                while let Some(cpu) = list.next_element()? {
                    cpus.push(cpu);
                }
                Ok(PinningSpec::List(cpus))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PinningSpec, A::Error> {
                let mut cpu = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key != "all-on" {
                        return Err(A::Error::custom(format_args!(
                            "`{key}` is no way of pinning"
                        )));
                    }
                    cpu = Some(map.next_value()?);
                }
                cpu.map(PinningSpec::AllOn)
                    .ok_or_else(|| A::Error::custom("the table has no key `all-on`"))
            }
        }
        deserializer.deserialize_any(Pinning)
    }
}

impl JsonSchema for PinningSpec {
    fn schema_name() -> Cow<'static, str> {
        "Pinning".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let cpu = json_schema!({ "type": "integer", "minimum": 0 });
        json_schema!({
            "anyOf": [
                { "enum": ["none", "one-to-one"] },
                { "type": "array", "items": cpu, "minItems": 1 },
                {
                    "type": "object",
                    "properties": { "all-on": cpu },
                    "required": ["all-on"],
                    "additionalProperties": false,
                },
            ],
            "examples": ["one-to-one", "none", [0, 1], { "all-on": 0 }],
        })
    }
}

impl<'de> Deserialize<'de> for DiskBackingSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Backing;
        impl<'de> Visitor<'de> for Backing {
            type Value = DiskBackingSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"memory\", \"scratch\" or { path = \"…\" }")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<DiskBackingSpec, E> {
                match text {
                    "memory" => Ok(DiskBackingSpec::Memory),
                    "scratch" => Ok(DiskBackingSpec::Scratch),
                    _ => Err(E::custom(format_args!("`{text}` is no backing of a disk"))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DiskBackingSpec, A::Error> {
                let mut path = None;
                while let Some(key) = map.next_key::<String>()? {
                    if key != "path" {
                        return Err(A::Error::custom(format_args!(
                            "`{key}` is no backing of a disk"
                        )));
                    }
                    path = Some(map.next_value()?);
                }
                path.map(DiskBackingSpec::Path)
                    .ok_or_else(|| A::Error::custom("the table has no key `path`"))
            }
        }
        deserializer.deserialize_any(Backing)
    }
}

impl JsonSchema for DiskBackingSpec {
    fn schema_name() -> Cow<'static, str> {
        "DiskBacking".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "enum": ["memory", "scratch"] },
                {
                    "type": "object",
                    "properties": { "path": { "type": "string", "minLength": 1 } },
                    "required": ["path"],
                    "additionalProperties": false,
                },
            ],
            "examples": ["memory", "scratch", { "path": "/dev/vg0/test" }],
        })
    }
}

impl<'de> Deserialize<'de> for LatencySpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Latency;
        impl Visitor<'_> for Latency {
            type Value = LatencySpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a time such as \"10us\", or \"any\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<LatencySpec, E> {
                match text {
                    "any" => Ok(LatencySpec::Any),
                    _ => parse_duration(text)
                        .map(LatencySpec::AtMost)
                        .map_err(|error| serde_error(&error)),
                }
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<LatencySpec, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Latency)
    }
}

impl JsonSchema for LatencySpec {
    fn schema_name() -> Cow<'static, str> {
        "Latency".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(ns|us|ms|s|min|h)\s*$" },
                { "const": "any" },
            ],
            "examples": ["10us", "0us", "any"],
        })
    }
}
