//! QEMU's microvm as a rival: where its threads run, and which of its slots a device is in.

use anyhow::{Context as _, bail};
use rustix::thread::{CpuSet, Pid, sched_setaffinity};
use vtax::guest::qemu::{QemuGuest, VIRTIO_MMIO, VIRTIO_MMIO_SLOTS, VIRTIO_MMIO_STRIDE};

/// Sends the vCPU's thread to the first CPU, and all others to the second. QEMU must name its threads (`-name
/// …,debug-threads=on`).
pub fn pin(guest: &QemuGuest, cpus: [u32; 2]) -> anyhow::Result<()> {
    for task in std::fs::read_dir(format!("/proc/{}/task", guest.pid()))? {
        let task = task?;
        let name = std::fs::read_to_string(task.path().join("comm"))?;
        let cpu = cpus[usize::from(!name.contains("KVM"))];
        let mut set = CpuSet::new();
        set.set(usize::try_from(cpu)?);
        let thread: i32 = task.file_name().to_string_lossy().parse()?;
        let thread = Pid::from_raw(thread).context("a thread without a number")?;
        sched_setaffinity(Some(thread), &set)?;
    }
    Ok(())
}

/// Tries `work` with the registers of one slot after the other: which one microvm gives a device is its own affair.
pub fn find<F>(mut work: impl FnMut(u64) -> anyhow::Result<F>) -> anyhow::Result<F> {
    for slot in (0..VIRTIO_MMIO_SLOTS).rev() {
        match work(VIRTIO_MMIO + slot * VIRTIO_MMIO_STRIDE) {
            Err(_) if slot > 0 => {}
            result => return result,
        }
    }
    bail!("QEMU's microvm has no slots")
}
