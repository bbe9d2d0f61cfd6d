//! What this machine is, and what disturbs it. Files are read under a [`root::HostRoot`], so that all of it is
//! tested on fake trees without privilege; what only the CPU or a system call can tell is in [`probes`].

pub mod affinity;
pub mod block_device;
pub mod caches;
pub mod cgroup;
pub mod cgroups;
pub mod cpu_time;
pub mod disturbance;
pub mod doctor;
pub mod exclusive;
pub mod facts;
#[cfg(test)]
pub(crate) mod fake;
pub mod fingerprint;
pub mod io_weight;
pub mod journal;
pub mod knobs;
pub mod ksm;
pub mod kvm;
pub mod leftovers;
pub mod limits;
pub mod net;
pub mod prepared;
pub mod probes;
pub mod process;
pub mod root;
pub mod scheduling;
pub mod tsc;
