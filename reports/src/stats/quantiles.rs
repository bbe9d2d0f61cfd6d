//! Latency quantiles of workloads that time each operation.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::record::Side;

/// The latencies of a run in nanoseconds, by cell id and side: one histogram per boot.
pub type LatencyLog = BTreeMap<(u32, Side), Vec<Histogram<u64>>>;
