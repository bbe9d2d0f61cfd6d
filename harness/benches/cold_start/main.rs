//! Cold start: how long from opening /dev/kvm until the first instruction of the payload.
//!
//! ```text
//! ours     open, RAM, VM, vCPU, request ──► payload reads the TSC before its first unit of work
//! minimum  open, 4 pages, VM, vCPU      ──► a guest of five instructions reads the TSC
//! QEMU     exec ──► microvm, PVH ──► first instruction of the same image ends QEMU ──► its exit
//! ```
//!
//! Ours and the minimum start in ring 3 and take turns on one CPU, so that both meet the same machine. The first
//! instruction is timed by the guest's own TSC; where that is not the host's (VT-x and SVM give a guest an offset),
//! both are timed until they hand over to the host instead. QEMU is a process: its time is that from exec to exit,
//! less nothing. Memory is touched for the first time on every side, and every guest is new.

#[path = "../common/mod.rs"]
mod common;
mod minimum;
mod ours;
mod qemu;

use common::{Measured, print, quantile};
use vtax::guest::image::Image;
use vtax::host::affinity::{Pinned, allowed_cpus};
use vtax::host::tsc::TscClock;

/// Pairs of ours and minimum.
const PAIRS: u32 = 400;

/// QEMU boots once in so many pairs.
const PAIRS_PER_QEMU: u32 = 20;

/// A start, in TSC ticks of the host.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// Before /dev/kvm was opened.
    begin: u64,
    /// The guest's own reading.
    first_instruction: u64,
    /// After the guest handed over.
    end: u64,
}

impl Start {
    /// Whether the guest's TSC is the host's.
    fn shares_clock(&self) -> bool {
        (self.begin..self.end).contains(&self.first_instruction)
    }

    fn ticks(&self, by_guest: bool) -> u64 {
        let until = if by_guest {
            self.first_instruction
        } else {
            self.end
        };
        until - self.begin
    }
}

/// All starts, in nanoseconds but for what still needs the clock.
#[derive(Default)]
struct Starts {
    ours: Vec<Start>,
    minimum: Vec<Start>,
    qemu: Vec<f64>,
    qemu_missing: Option<anyhow::Error>,
}

fn main() -> anyhow::Result<()> {
    if !common::asked() {
        return Ok(());
    }
    let clock = TscClock::calibrate(std::time::Duration::from_millis(100))?;
    let image = Image::embedded()?;
    let cpus = allowed_cpus()?;
    let starts = {
        let _pinned = Pinned::to(&cpus[..1])?;
        measure(&image)?
    };

    let by_guest = [&starts.ours, &starts.minimum]
        .into_iter()
        .flatten()
        .all(Start::shares_clock);
    let micros = |starts: &[Start]| -> Vec<f64> {
        starts
            .iter()
            .map(|start| clock.nanos(start.ticks(by_guest)) / 1e3)
            .collect()
    };
    let (ours, minimum) = (micros(&starts.ours), micros(&starts.minimum));
    note("ours", &ours);
    note("minimum", &minimum);
    if !by_guest {
        eprintln!("the guest's TSC is not the host's: timed until the hand-over");
    }
    let ours = quantile(&ours, 0.5);
    let ratio = ours / quantile(&minimum, 0.5);
    print(
        "cold start, against a bare-ioctl minimum",
        "≤ 1.5 ×",
        Ok(Measured {
            value: format!("{ratio:.2} × ({ours:.0} µs)"),
            met: ratio <= 1.5,
        }),
    );

    note("QEMU", &starts.qemu);
    let against_qemu = match starts.qemu_missing {
        Some(reason) => Err(reason),
        None => {
            let share = quantile(&starts.qemu, 0.5) / ours;
            Ok(Measured {
                value: format!("1/{share:.0}"),
                met: share >= 20.0,
            })
        }
    };
    print("cold start, against QEMU microvm", "≤ 1/20", against_qemu);
    Ok(())
}

/// Starts guests of all kinds in turns.
fn measure(image: &Image) -> anyhow::Result<Starts> {
    let qemu = qemu::Qemu::find();
    let mut starts = Starts::default();
    for pair in 0..PAIRS {
        // Who goes first changes, so that neither always meets what the other left behind.
        for turn in [pair % 2, (pair + 1) % 2] {
            if turn == 0 {
                starts.ours.push(ours::start(image)?);
            } else {
                starts.minimum.push(minimum::start()?);
            }
        }
        if let Ok(qemu) = &qemu
            && pair % PAIRS_PER_QEMU == 0
            && starts.qemu_missing.is_none()
        {
            match qemu.start() {
                Ok(time) => starts.qemu.push(time.as_secs_f64() * 1e6),
                Err(reason) => starts.qemu_missing = Some(reason),
            }
        }
    }
    if let Err(reason) = qemu {
        starts.qemu_missing = Some(reason);
    }
    Ok(starts)
}

fn note(who: &str, micros: &[f64]) {
    eprintln!(
        "{who}: {:.0} µs (p10 {:.0}, p90 {:.0}, {} starts)",
        quantile(micros, 0.5),
        quantile(micros, 0.1),
        quantile(micros, 0.9),
        micros.len()
    );
}
