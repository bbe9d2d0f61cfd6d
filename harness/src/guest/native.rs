//! The native side: the payload called in this process, on the guest's own pages.

use std::arch::asm;

use super::image::Image;
use super::layout;
use super::mailbox::Mailbox;
use super::{Completion, Executor, Failure};

/// The calling thread in the place of a vCPU.
#[derive(Debug)]
pub struct NativeCpu<'a> {
    payload: u64,
    stack: u64,
    mailbox: Mailbox<'a>,
}

impl<'a> NativeCpu<'a> {
    /// The native twin of a vCPU: same mailbox, same stack.
    ///
    /// The image must be loaded in the mailbox's RAM, which the borrow keeps mapped.
    #[must_use]
    pub fn new(image: &Image, mailbox: Mailbox<'a>, vcpu: u32) -> Self {
        Self {
            payload: image.header.payload,
            stack: layout::payload_stack(vcpu),
            mailbox,
        }
    }
}

impl Executor for NativeCpu<'_> {
    fn execute(&mut self) -> Result<Completion, Failure> {
        // SAFETY: `payload` is the image's `extern "sysv64" fn(*mut Mailbox)`, inside the image that was loaded at its
        // own address; RAM is mapped executable while `mailbox` borrows it. It runs on the vCPU's payload stack, which
        // nobody uses meanwhile (a vCPU and its twin take turns on one thread) and which has room for a signal frame;
        // R12, callee-saved, keeps the old stack pointer.
        unsafe {
            asm!(
                "mov r12, rsp",
                "mov rsp, {stack}",
                "call {payload}",
                "mov rsp, r12",
                stack = in(reg) self.stack,
                payload = in(reg) self.payload,
                in("rdi") self.mailbox.address(),
                out("r12") _,
                clobber_abi("sysv64"),
            );
        }
        Ok(Completion::Clean)
    }
}
