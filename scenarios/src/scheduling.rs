//! How the host's scheduler treats vCPU threads.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// The highest real-time priority of Linux; the lowest is 1.
const HIGHEST: u8 = 99;

/// The scheduling policy of vCPU threads (sched(7)). Native blocks run on the same threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduling {
    /// The usual fair share.
    Other,
    /// A fair share, without being woken early.
    Batch,
    /// Only what nobody else wants.
    Idle,
    /// Real time: until it sleeps, before all of a lower priority. From 1 to 99.
    Fifo(u8),
    /// Real time, in turns with others of the same priority.
    Rr(u8),
}

impl std::fmt::Display for Scheduling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Other => f.write_str("other"),
            Self::Batch => f.write_str("batch"),
            Self::Idle => f.write_str("idle"),
            Self::Fifo(priority) => write!(f, "fifo {priority}"),
            Self::Rr(priority) => write!(f, "rr {priority}"),
        }
    }
}

impl Scheduling {
    /// The real-time priority; `None`: it is not real time.
    #[must_use]
    pub const fn priority(self) -> Option<u8> {
        match self {
            Self::Fifo(priority) | Self::Rr(priority) => Some(priority),
            Self::Other | Self::Batch | Self::Idle => None,
        }
    }
}

/// The policy as a scenario writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SchedulingSpec(pub Scheduling);

impl<'de> Deserialize<'de> for SchedulingSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Policy;
        impl<'de> Visitor<'de> for Policy {
            type Value = SchedulingSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(
                    "\"other\", \"batch\", \"idle\", { fifo = PRIORITY } or { rr = PRIORITY }",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<SchedulingSpec, E> {
                match text {
                    "other" => Ok(SchedulingSpec(Scheduling::Other)),
                    "batch" => Ok(SchedulingSpec(Scheduling::Batch)),
                    "idle" => Ok(SchedulingSpec(Scheduling::Idle)),
                    _ => Err(E::custom(format_args!("`{text}` is no scheduling policy"))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SchedulingSpec, A::Error> {
                let mut policy = None;
                while let Some(key) = map.next_key::<String>()? {
                    let make = match key.as_str() {
                        "fifo" => Scheduling::Fifo,
                        "rr" => Scheduling::Rr,
                        _ => {
                            return Err(A::Error::custom(format_args!(
                                "`{key}` is no scheduling policy with a priority"
                            )));
                        }
                    };
                    let priority = map.next_value()?;
                    if !(1..=HIGHEST).contains(&priority) {
                        return Err(A::Error::custom(format_args!(
                            "{priority} is no real-time priority: these are from 1 to {HIGHEST}"
                        )));
                    }
                    policy = Some(make(priority));
                }
                policy
                    .map(SchedulingSpec)
                    .ok_or_else(|| A::Error::custom("the table has neither `fifo` nor `rr`"))
            }
        }
        deserializer.deserialize_any(Policy)
    }
}

impl JsonSchema for SchedulingSpec {
    fn schema_name() -> Cow<'static, str> {
        "Scheduling".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let priority = json_schema!({ "type": "integer", "minimum": 1, "maximum": HIGHEST });
        let table = |name: &str| {
            json_schema!({
                "type": "object",
                "properties": { name: priority },
                "required": [name],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "anyOf": [{ "enum": ["other", "batch", "idle"] }, table("fifo"), table("rr")],
            "examples": ["batch", { "fifo": 10 }],
        })
    }
}
