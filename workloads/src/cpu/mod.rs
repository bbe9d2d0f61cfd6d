//! CPU workloads: their data fits the core's own caches.

pub(crate) mod hash;
