//! CPU workloads: their data fits the core's own caches.

pub(crate) mod aes;
pub(crate) mod bits;
pub(crate) mod branch;
pub(crate) mod calls;
pub(crate) mod divide;
pub(crate) mod hash;
pub(crate) mod lookup;
pub(crate) mod matmul;
