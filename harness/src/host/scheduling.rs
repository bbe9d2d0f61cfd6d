//! The scheduling policy of the calling thread (sched(7)).

use std::io;
use std::marker::PhantomData;

use rustix::process::Resource;
use vtax_scenarios::plan::Scheduling;

use super::root::HostRoot;

/// CAP_SYS_NICE (capabilities(7)).
const SYS_NICE: u32 = 23;

/// The highest real-time priority that Linux has.
const HIGHEST: u32 = 99;

/// The kernel does not take the policy.
#[derive(Debug, thiserror::Error)]
#[error(
    "a vCPU's thread cannot be scheduled by {policy}: {source}; run as root or with a higher limit (ulimit -r), and in a \
     control group that has real-time time (cpu.rt_runtime_us)"
)]
pub struct SchedulingError {
    policy: String,
    source: io::Error,
}

/// A thread with a policy of its own, which its helpers do not inherit. It ends with the thread, or when this is dropped.
#[derive(Debug)]
pub struct Scheduled {
    former: (i32, i32),
    _this_thread_only: PhantomData<*const ()>,
}

impl Scheduled {
    /// Gives the calling thread this policy.
    ///
    /// # Errors
    /// [`SchedulingError`].
    pub fn by(policy: Scheduling) -> Result<Self, SchedulingError> {
        let failed = |source| SchedulingError {
            policy: policy.to_string(),
            source,
        };
        let former = present().map_err(failed)?;
        let (number, priority) = match policy {
            Scheduling::Other => (libc::SCHED_OTHER, 0),
            Scheduling::Batch => (libc::SCHED_BATCH, 0),
            Scheduling::Idle => (libc::SCHED_IDLE, 0),
            Scheduling::Fifo(priority) => (libc::SCHED_FIFO, i32::from(priority)),
            Scheduling::Rr(priority) => (libc::SCHED_RR, i32::from(priority)),
        };
        set(number | libc::SCHED_RESET_ON_FORK, priority).map_err(failed)?;
        Ok(Self {
            former,
            _this_thread_only: PhantomData,
        })
    }
}

impl Drop for Scheduled {
    fn drop(&mut self) {
        let (policy, priority) = self.former;
        // Without privilege the flag cannot be taken back; the thread is about to end in any case.
        if set(policy, priority).is_err() {
            let _ = set(policy | libc::SCHED_RESET_ON_FORK, priority);
        }
    }
}

/// The highest real-time priority that this process may give its threads; 0: none.
#[must_use]
pub fn realtime_priority(root: &HostRoot) -> u32 {
    let status = root.text("proc/self/status").unwrap_or_default();
    let may_always = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> SYS_NICE & 1 == 1);
    if may_always {
        return HIGHEST;
    }
    let limit = rustix::process::getrlimit(Resource::Rtprio).current;
    limit.map_or(HIGHEST, |limit| {
        u32::try_from(limit).unwrap_or(HIGHEST).min(HIGHEST)
    })
}

/// Policy and priority of the calling thread.
fn present() -> io::Result<(i32, i32)> {
    let mut param = libc::sched_param { sched_priority: 0 };
    // SAFETY: a system call on the calling thread that takes no pointer.
    let policy = unsafe { libc::sched_getscheduler(0) };
    // SAFETY: `param` is valid for the kernel to write one `sched_param` to.
    let got = unsafe { libc::sched_getparam(0, &raw mut param) };
    if policy < 0 || got < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((policy, param.sched_priority))
}

fn set(policy: i32, priority: i32) -> io::Result<()> {
    let param = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the kernel reads one `sched_param` from `param`, and changes nothing but the calling thread's scheduling.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const param) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;

    #[test]
    fn a_thread_gets_its_policy_and_gives_it_back() {
        std::thread::spawn(|| {
            let before = present().unwrap();
            let scheduled = Scheduled::by(Scheduling::Batch).unwrap();
            let reset = libc::SCHED_RESET_ON_FORK;
            assert_eq!(present().unwrap().0 & !reset, libc::SCHED_BATCH);
            let helper = std::thread::spawn(|| present().unwrap().0 & !libc::SCHED_RESET_ON_FORK);
            assert_eq!(helper.join().unwrap(), libc::SCHED_BATCH);
            drop(scheduled);
            assert_eq!(present().unwrap().0 & !reset, before.0 & !reset);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_helper_of_a_real_time_thread_is_an_ordinary_one() {
        if realtime_priority(&HostRoot::default()) == 0 {
            return;
        }
        std::thread::spawn(|| match Scheduled::by(Scheduling::Fifo(1)) {
            // A control group without real-time time refuses, and says so.
            Err(error) => assert!(error.to_string().contains("rt_runtime_us"), "{error}"),
            Ok(_scheduled) => {
                assert_eq!(present().unwrap().1, 1);
                let helper = std::thread::spawn(|| present().unwrap());
                assert_eq!(helper.join().unwrap(), (libc::SCHED_OTHER, 0));
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_capability_lifts_the_limit() {
        let tree = Tree::new(&[("proc/self/status", "CapEff:\t0000000000800000\n")]);
        assert_eq!(realtime_priority(&tree.root()), 99);
    }
}
