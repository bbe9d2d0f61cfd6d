//! Cold start: how long from opening /dev/kvm until the first instruction of the payload.
//!
//! ```text
//! ours     open, RAM, VM, image and tables, vCPU, request ──► the payload's first instruction reads the TSC
//! minimum  open, 4 pages, VM, vCPU                        ──► a guest of five instructions reads the TSC
//! QEMU     exec ──► microvm, PVH ──► the first instruction of the same image ends QEMU ──► its exit
//! ```
//!
//! Ours and the minimum start in ring 3 and take turns on one CPU, so that both meet the same machine; each guest is
//! new and its memory untouched. For ours, the loaded image's first instruction is replaced by the same few that the
//! minimum consists of; the unchanged image, whose payload reads the TSC before its first unit of work, is timed too
//! and noted. What a process does once, parsing the image and reading the host's CPUID, is part of its first start
//! only, and the medians do not show it. Where the guest's TSC is not the host's (VT-x and SVM give it an offset), all
//! are timed until they hand over to the host. QEMU is a process: its time is that from exec to exit, less nothing.

mod minimum;
mod ours;
mod qemu;
#[path = "../common/quantile.rs"]
mod quantile;
#[path = "../common/table.rs"]
mod table;

use ours::First;
use quantile::quantile;
use table::{Measured, print};
use vtax::guest::image::Image;
use vtax::host::affinity::{Pinned, allowed_cpus};
use vtax::host::tsc::TscClock;

/// Starts of each kind but QEMU.
const ROUNDS: usize = 400;

/// QEMU boots once in so many rounds.
const ROUNDS_PER_QEMU: usize = 20;

/// A start, in TSC ticks of the host.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// Before /dev/kvm was opened.
    begin: u64,
    /// The guest's own reading.
    reading: u64,
    /// After the guest handed over.
    end: u64,
}

impl Start {
    /// Whether the guest's TSC is the host's.
    fn shares_clock(&self) -> bool {
        (self.begin..self.end).contains(&self.reading)
    }
}

/// All starts.
#[derive(Default)]
struct Starts {
    ours: Vec<Start>,
    work: Vec<Start>,
    minimum: Vec<Start>,
    /// In microseconds.
    qemu: Vec<f64>,
    qemu_missing: Option<anyhow::Error>,
}

fn main() -> anyhow::Result<()> {
    if !table::asked() {
        return Ok(());
    }
    let clock = TscClock::calibrate(std::time::Duration::from_millis(100))?;
    let image = Image::embedded()?;
    let cpus = allowed_cpus()?;
    let starts = {
        let _pinned = Pinned::to(&cpus[..1])?;
        measure(&image)?
    };

    let by_guest = [&starts.ours, &starts.work, &starts.minimum]
        .into_iter()
        .flatten()
        .all(Start::shares_clock);
    if !by_guest {
        eprintln!("the guest's TSC is not the host's: timed until the hand-over");
    }
    let micros = |who: &str, starts: &[Start]| -> f64 {
        let until = |start: &Start| if by_guest { start.reading } else { start.end };
        let times: Vec<f64> = starts
            .iter()
            .map(|start| clock.nanos(until(start) - start.begin) / 1e3)
            .collect();
        median(who, &times)
    };
    let ours = micros("ours, until the first instruction", &starts.ours);
    micros("ours, until the first unit of work", &starts.work);
    let minimum = micros("minimum", &starts.minimum);
    print(
        "cold start, against a bare-ioctl minimum",
        "≤ 1.5 ×",
        Ok(Measured {
            value: format!("{:.2} × ({ours:.0} µs)", ours / minimum),
            met: ours <= 1.5 * minimum,
        }),
    );

    let against_qemu = match starts.qemu_missing {
        Some(reason) => Err(reason),
        None => {
            let qemu = median("QEMU", &starts.qemu);
            Ok(Measured {
                value: format!("1/{:.0}", qemu / ours),
                met: ours <= qemu / 20.0,
            })
        }
    };
    print(
        "cold start within a process, against the whole process of a QEMU microvm",
        "≤ 1/20",
        against_qemu,
    );
    Ok(())
}

/// Starts guests of all kinds in turns.
fn measure(image: &Image) -> anyhow::Result<Starts> {
    let qemu = qemu::Qemu::find();
    let mut starts = Starts::default();
    for round in 0..ROUNDS {
        // Who goes first changes, so that none always meets what the same other left behind.
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => starts.ours.push(ours::start(image, First::Instruction)?),
                1 => starts.minimum.push(minimum::start()?.0),
                _ => starts.work.push(ours::start(image, First::Work)?),
            }
        }
        if let Ok(qemu) = &qemu
            && round % ROUNDS_PER_QEMU == 0
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

/// The median, after a note with more.
fn median(who: &str, micros: &[f64]) -> f64 {
    let median = quantile(micros, 0.5);
    eprintln!(
        "{who}: {median:.0} µs (p10 {:.0}, p90 {:.0}, {} starts)",
        quantile(micros, 0.1),
        quantile(micros, 0.9),
        micros.len()
    );
    median
}
