//! Where in the scenario file each cell's values stand: kept beside the plan, so that the plan stays free of it.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::knobs::Knob;

/// A field of a cell or an experiment that a host may be unable to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `guest.vcpus`.
    Vcpus,
    /// `guest.pinning`.
    Pinning,
    /// `guest.halt-poll`.
    HaltPoll,
    /// `guest.scheduling`.
    Scheduling,
    /// `guest.memory`.
    Memory,
    /// `guest.backing`.
    Backing,
    /// `guest.mergeable`.
    Mergeable,
    /// `guest.numa-node`.
    NumaNode,
    /// `guest.page-size`.
    PageSize,
    /// `guest.disk-backing`.
    DiskBacking,
    /// `guest.disk`.
    Disk,
    /// `guest.disk-queues`.
    DiskQueues,
    /// `guest.disk-read-only`.
    DiskReadOnly,
    /// `guest.disk-io-cpus`.
    DiskIoCpus,
    /// `guest.net`.
    Net,
    /// `guest.net-backend`.
    NetBackend,
    /// `guest.net-io-cpu`.
    NetIoCpu,
    /// `baseline.backing`.
    BaselineBacking,
    /// A `[[neighbour]]` table, by its place.
    Neighbour(usize),
    /// A key of `[host]`.
    Host(Knob),
    /// The workload's name.
    Workload,
    /// The kind of an `[[experiment]]`.
    Experiment,
}

/// The places of all cells' values in one scenario file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpanMap {
    /// The file's name, as the user gave it.
    pub file_name: String,
    /// Its text.
    pub source_text: String,
    /// By the cell's label, which outlives [`crate::plan::Plan::filter`].
    cells: BTreeMap<String, BTreeMap<Field, Range<usize>>>,
}

impl SpanMap {
    pub(crate) fn new(file_name: &str, source_text: &str) -> Self {
        Self {
            file_name: file_name.to_owned(),
            source_text: source_text.to_owned(),
            cells: BTreeMap::new(),
        }
    }

    pub(crate) fn insert(&mut self, label: &str, spans: BTreeMap<Field, Range<usize>>) {
        self.cells.insert(label.to_owned(), spans);
    }

    pub(crate) fn contains(&self, label: &str) -> bool {
        self.cells.contains_key(label)
    }

    /// Bytes of the file where the cell of this label gets its `field` from; where the file leaves it at the default,
    /// the name of the workload.
    #[must_use]
    pub fn get(&self, label: &str, field: Field) -> Range<usize> {
        self.cells
            .get(label)
            .and_then(|spans| spans.get(&field).or_else(|| spans.get(&Field::Workload)))
            .cloned()
            .unwrap_or(0..0)
    }
}
