//! On which CPUs the calling thread may run.

use std::marker::PhantomData;

use rustix::{
    io::Errno,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use super::root::format_list;

/// Why a thread could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum AffinityError {
    /// An empty list was given.
    #[error("no CPU was named to bind the thread to")]
    NoCpu,
    /// The number is beyond what a CPU set holds.
    #[error("CPU {0} cannot be named: CPU sets end at {max}", max = CpuSet::MAX_CPU - 1)]
    BeyondSet(u32),
    /// The kernel refused the CPUs.
    #[error(
        "the thread cannot run on CPU {cpus} ({errno}); this process may use CPU {allowed}: \
         choose from these, or widen its cpuset (`taskset -p`, cgroup cpuset.cpus)"
    )]
    Refused {
        /// The CPUs asked for.
        cpus: String,
        /// The CPUs allowed now.
        allowed: String,
        /// What the kernel answered.
        errno: Errno,
    },
    /// The present affinity could not be read.
    #[error("the CPUs of this thread could not be read: {0}")]
    Unreadable(Errno),
}

/// CPUs that the calling thread may run on, ascending.
pub fn allowed_cpus() -> Result<Vec<u32>, AffinityError> {
    let set = sched_getaffinity(None).map_err(AffinityError::Unreadable)?;
    Ok(members(&set))
}

/// A thread bound to CPUs; dropping it gives the thread its former CPUs back.
///
/// It stays on the thread that made it.
#[derive(Debug)]
pub struct Pinned {
    former: CpuSet,
    _this_thread_only: PhantomData<*const ()>,
}

impl Pinned {
    /// Binds the calling thread to `cpus`. On return it runs on one of them.
    pub fn to(cpus: &[u32]) -> Result<Self, AffinityError> {
        let former = sched_getaffinity(None).map_err(AffinityError::Unreadable)?;
        let mut wanted = CpuSet::new();
        for &cpu in cpus {
            let place = cpu as usize;
            if place >= CpuSet::MAX_CPU {
                return Err(AffinityError::BeyondSet(cpu));
            }
            wanted.set(place);
        }
        if cpus.is_empty() {
            return Err(AffinityError::NoCpu);
        }
        let refused = |errno| AffinityError::Refused {
            cpus: format_list(&members(&wanted)),
            allowed: format_list(&members(&former)),
            errno,
        };
        sched_setaffinity(None, &wanted).map_err(refused)?;
        // The kernel quietly drops CPUs that are offline or outside the cpuset.
        let got = sched_getaffinity(None).map_err(AffinityError::Unreadable)?;
        let pinned = Self {
            former,
            _this_thread_only: PhantomData,
        };
        if got == wanted {
            Ok(pinned)
        } else {
            Err(refused(Errno::INVAL))
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Fails only where all former CPUs went offline meanwhile; the kernel then chooses.
        let _ = sched_setaffinity(None, &self.former);
    }
}

fn members(set: &CpuSet) -> Vec<u32> {
    (0..)
        .zip(0..CpuSet::MAX_CPU)
        .filter(|&(_, place)| set.is_set(place))
        .map(|(cpu, _)| cpu)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_and_restores() {
        let before = allowed_cpus().unwrap();
        let last = *before.last().unwrap();
        {
            let _pinned = Pinned::to(&[last]).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [last]);
            assert_eq!(rustix::thread::sched_getcpu(), last as usize);
        }
        assert_eq!(allowed_cpus().unwrap(), before);
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named_and_nothing_changes() {
        let before = allowed_cpus().unwrap();
        let error = Pinned::to(&[before[0], 1023]).unwrap_err().to_string();
        assert!(error.contains("1023"), "{error}");
        assert!(error.contains(&format_list(&before)), "{error}");
        assert_eq!(allowed_cpus().unwrap(), before);
        assert!(matches!(Pinned::to(&[]), Err(AffinityError::NoCpu)));
        assert!(matches!(
            Pinned::to(&[5000]),
            Err(AffinityError::BeyondSet(5000))
        ));
    }
}
