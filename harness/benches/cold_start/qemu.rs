//! QEMU's microvm with the same image: its PVH entry writes a port that ends QEMU.

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::fs::{MemfdFlags, memfd_create};

const QEMU: &str = "qemu-system-x86_64";

/// The image writes 1 to `isa-debug-exit`, which then ends QEMU with `1 << 1 | 1`.
const FIRST_INSTRUCTION_RAN: i32 = 3;

/// QEMU, and the image as a file in memory that it can open.
pub struct Qemu {
    image: std::fs::File,
}

impl Qemu {
    /// Finds QEMU.
    pub fn find() -> anyhow::Result<Self> {
        Command::new(QEMU)
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("{QEMU} cannot be run"))?;
        let mut image: std::fs::File = memfd_create("vtax-image", MemfdFlags::CLOEXEC)?.into();
        image.write_all(vtax_guest_images::BARE_ELF)?;
        Ok(Self { image })
    }

    /// Starts it once: the time from exec until it has ended.
    pub fn start(&self) -> anyhow::Result<Duration> {
        let kernel = format!("/proc/{}/fd/{}", std::process::id(), self.image.as_raw_fd());
        let mut command = Command::new(QEMU);
        command
            .args(["-M", "microvm,pit=off,pic=off,rtc=off,isa-serial=off"])
            .args(["-accel", "kvm", "-cpu", "host,-arch-capabilities"])
            .args(["-smp", "1", "-m", "16M"])
            .args(["-no-user-config", "-nodefaults", "-display", "none"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
            .args(["-kernel", &kernel])
            .stdin(Stdio::null());
        let begin = Instant::now();
        let output = command.output()?;
        let time = begin.elapsed();
        ensure!(
            output.status.code() == Some(FIRST_INSTRUCTION_RAN),
            "QEMU ended with {} before the image's first instruction: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(time)
    }
}
