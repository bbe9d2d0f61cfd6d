//! What an I/O thread may ask of the kernel: the guest that it serves is not trusted, so it is left with little.
//!
//! ```text
//! confine (in the thread, once it is ready) ──► seccomp filter ──► allowed: as ever
//!                                                     └─ anything else: SIGSYS ──► fails with EPERM, and is noted
//! ```
//!
//! A refused call fails and the thread lives: the run goes on, and reports the call as an error of its cell
//! ([`take_refused`]). Killing the process instead would leave the host with the settings of the run.

use std::collections::BTreeMap;
use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicI64, Ordering};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// What every such thread needs: events, sleeping, memory for itself, and to end.
const NEEDED: [i64; 18] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_munmap,
    libc::SYS_close,
    // In a debug build the standard library looks at each descriptor that it closes.
    libc::SYS_fcntl,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_gettid,
    libc::SYS_exit,
];

/// Calls that may not ask for executable memory; their third argument says.
const MAPPING: [i64; 2] = [libc::SYS_mmap, libc::SYS_mprotect];

/// A system call's number, or [`NONE`].
static REFUSED: AtomicI64 = AtomicI64::new(NONE);
const NONE: i64 = -1;

/// Why a thread is not confined.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The filter could not be made or loaded.
    #[error(
        "an I/O thread could not be confined (seccomp): {0}; does the kernel have CONFIG_SECCOMP_FILTER?"
    )]
    Seccomp(#[from] seccompiler::Error),
    /// The signal could not be handled.
    #[error("the handler of refused system calls could not be installed: {0}")]
    Signal(io::Error),
}

impl From<seccompiler::BackendError> for FilterError {
    fn from(error: seccompiler::BackendError) -> Self {
        Self::Seccomp(error.into())
    }
}

/// Leaves the calling thread with the system calls that every I/O thread needs and with these, until it ends.
///
/// # Errors
/// [`FilterError`].
pub fn confine(also: &[i64]) -> Result<(), FilterError> {
    handle_refusals()?;
    mask_signals()?;
    let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
    let writable_only = || argument(2, SeccompCmpOp::MaskedEq(executable), 0);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = NEEDED
        .iter()
        .chain(also)
        .map(|&number| (number, Vec::new()))
        .collect();
    for number in MAPPING {
        rules.insert(number, vec![writable_only()?]);
    }
    // The standard library looks whether a descriptor is open before it closes it, where it checks itself.
    let looks = argument(1, SeccompCmpOp::Eq, u64::from(libc::F_GETFD.unsigned_abs()))?;
    rules.insert(libc::SYS_fcntl, vec![looks]);
    let filter: BpfProgram = SeccompFilter::new(
        rules,
        SeccompAction::Trap,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?
    .try_into()?;
    Ok(seccompiler::apply_filter(&filter)?)
}

/// A rule for a call whose argument of this index must compare so.
fn argument(
    index: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(
        index,
        SeccompCmpArgLen::Qword,
        operator,
        value,
    )?])
}

/// The number of a system call that an I/O thread of this process was refused since the last question.
pub fn take_refused() -> Option<i64> {
    Some(REFUSED.swap(NONE, Ordering::Relaxed)).filter(|&number| number != NONE)
}

/// Signals of the process are for its other threads; those that an instruction causes cannot be put off.
fn mask_signals() -> Result<(), FilterError> {
    let own = [
        libc::SIGSYS,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGTRAP,
        libc::SIGABRT,
    ];
    // SAFETY: sigset_t is plain data, which sigfillset initialises; all pointers are to locals.
    let result = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        for signal in own {
            libc::sigdelset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())
    };
    match result {
        0 => Ok(()),
        error => Err(FilterError::Signal(io::Error::from_raw_os_error(error))),
    }
}

/// Makes SIGSYS note the call and let it fail, in the whole process; once.
fn handle_refusals() -> Result<(), FilterError> {
    static INSTALLED: Once = Once::new();
    let mut result = Ok(());
    INSTALLED.call_once(|| {
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = refuse;
        // SAFETY: sigaction is plain data, zero is an empty mask; `refuse` has the signature that SA_SIGINFO wants and does
        // nothing that is unsafe in a signal handler.
        let failed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) != 0
        };
        if failed {
            result = Err(FilterError::Signal(io::Error::last_os_error()));
        }
    });
    result
}

/// On SIGSYS: notes the call, whose number is still in RAX, and makes it return EPERM.
extern "C" fn refuse(_signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    const SYS_SECCOMP: i32 = 1;
    // SAFETY: the kernel hands over a siginfo_t and, on x86-64, a ucontext_t, which live as long as the handler runs.
    let (code, registers) = unsafe {
        (
            (*info).si_code,
            &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs,
        )
    };
    const RAX: usize = libc::REG_RAX as usize;
    if code == SYS_SECCOMP {
        REFUSED.store(registers[RAX], Ordering::Relaxed);
        registers[RAX] = -i64::from(libc::EPERM);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::testing::PROGRAMS;
    use super::*;

    /// In a process of its own: what is noted there is not another test's.
    #[test]
    fn a_confined_thread_is_refused_the_rest_and_lives() {
        const CHILD: &str = "VTAX_TEST_CONFINED";
        if std::env::var_os(CHILD).is_none() {
            let name = "guest::embedded::devices::filter::tests::a_confined_thread_is_refused_the_rest_and_lives";
            let _alone = PROGRAMS
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name, "--nocapture"])
                .env(CHILD, "1")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{text}");
            assert!(text.contains("confined and alive"), "{text}");
            return;
        }
        let result = std::thread::spawn(|| {
            confine(&[]).unwrap();
            assert!(take_refused().is_none());
            let opened = std::fs::File::open("/proc/self/status").map(drop);
            let still_allowed = vec![0_u8; 1 << 20].len();
            // SAFETY: no memory is touched: the call only maps fresh pages, if it is let.
            let executable = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    4096,
                    libc::PROT_READ | libc::PROT_EXEC,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            (opened, still_allowed, executable == libc::MAP_FAILED)
        })
        .join()
        .unwrap();
        assert_eq!(result.0.unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!((result.1, result.2), (1 << 20, true));
        assert_eq!(take_refused(), Some(libc::SYS_mmap));
        assert_eq!(take_refused(), None);
        std::fs::File::open("/proc/self/status").unwrap();
        println!("confined and alive");
    }
}
