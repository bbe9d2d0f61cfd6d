//! What this machine is, and what disturbs it. Files are read under a [`root::HostRoot`], so that all of it is
//! tested on fake trees without privilege; what only the CPU or a system call can tell is in [`probes`].

pub mod affinity;
pub mod cgroup;
pub mod cgroups;
pub mod cpu_time;
pub mod disturbance;
pub mod doctor;
pub mod facts;
#[cfg(test)]
mod fake;
pub mod fingerprint;
pub mod kvm;
pub mod net;
pub mod probes;
pub mod root;
pub mod tsc;
