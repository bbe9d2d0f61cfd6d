//! What the native side had where a cell's work goes to a disk: the CPUs, the way of waiting, and the device with its
//! interrupts. Part of the record.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::Reading;

/// How the native side waits for a request to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// It sleeps at once, and the end of the request wakes it.
    Sleep,
    /// It looks for the end as long as the guest's I/O thread does, and sleeps then.
    PollThenSleep {
        /// How long it looks, in nanoseconds.
        nanos: u64,
    },
    /// It looks until the end, as a guest does whose vCPU polls for completions.
    Poll,
}

impl Waiting {
    /// In words, such as `polls for 32 µs, then sleeps`.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Sleep => "sleeps until a request ends".to_owned(),
            Self::PollThenSleep { nanos } => {
                format!("polls for {} µs, then sleeps", nanos as f64 / 1e3)
            }
            Self::Poll => "polls until a request ends".to_owned(),
        }
    }
}

/// What could be found, or why it could not. Never a silent nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Found<T> {
    /// What was found.
    Value(T),
    /// Why nothing was.
    Unavailable(String),
}

/// An interrupt of a device, as `/proc/irq` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Interrupt {
    /// Its number.
    pub number: u32,
    /// What its handlers are called, such as `virtio1-req.0`; empty where it has none.
    pub name: String,
    /// CPUs that it may arrive on, as a list such as `0-3,8` (`smp_affinity_list`).
    pub allowed: Reading,
    /// CPUs that it does arrive on (`effective_affinity_list`).
    pub effective: Reading,
}

/// A block device without others below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// Its name, such as `vda`.
    pub name: String,
    /// Its interrupts, or those of the controller that it hangs on, in order of their numbers.
    pub interrupts: Found<Vec<Interrupt>>,
}

/// What the native side of a cell had, and what its disk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NativeDisk {
    /// CPUs that native blocks may run on: those of vCPUs and I/O threads together. Ascending.
    pub cpus: Vec<u32>,
    /// Those of them that native blocks begin on, in turns from round to round.
    pub starts: Vec<u32>,
    /// How it waits: the fastest of the ways that the guest has, as the cell's first boot found it.
    pub waiting: Waiting,
    /// The devices behind the disk as the cell's first boot found them, one or, of a volume over several, all.
    pub devices: Found<Vec<Device>>,
}
