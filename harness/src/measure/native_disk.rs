//! What the native side of a disk workload has: what an application on the host would have in the guest's place.
//!
//! ```text
//! guest: vCPU on its CPU + I/O thread on another ──► native: one thread, on either of them, waiting as well as it can
//! ```
//!
//! The guest has the CPUs of its vCPUs and those of the disk's I/O threads, so native blocks may use all of them together;
//! guest blocks find the vCPU's thread where the scenario puts it. Where in that set a native block begins changes from round
//! to round: a completion that arrives on another CPU than the one that waits for it costs a wake-up across CPUs, and a verdict
//! that comes of that is none on the guest (`vtax_reports::placement` looks for it). The scheduler may move the thread on from
//! there, as it may an application.

use vtax_reports::native_disk::{self as record, Device, Found, Waiting};
use vtax_reports::record::Reading;
use vtax_scenarios::plan::{Completion, DiskDevice, Guest};

use crate::guest::embedded::devices::disk::Disk;
use crate::host::affinity::{AffinityError, Pinned};
use crate::host::block_device;
use crate::host::root::{HostRoot, parse_list};

/// Most CPUs that native blocks begin on: with more of them each would have too few blocks to compare.
const MOST_STARTS: usize = 4;

/// What native blocks have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeDisk {
    /// CPUs that they may run on. Ascending.
    cpus: Vec<u32>,
    /// Those of them that they begin on, in turns.
    starts: Vec<u32>,
    /// Ways of waiting that the guest has, so that native may have them too; at least one.
    pub ways: Vec<Waiting>,
    devices: Found<Vec<Device>>,
}

impl NativeDisk {
    /// For a guest with this disk, in a process that may use the CPUs `allowed`. `None` where it has none, or one in memory:
    /// to copy needs one thread, and waits for nothing.
    #[must_use]
    pub fn of(guest: &Guest, disk: &Disk, allowed: &[u32]) -> Option<Self> {
        let file = disk.file()?;
        Self::with(
            guest,
            block_device::behind(&HostRoot::default(), file),
            allowed,
        )
    }

    fn with(guest: &Guest, devices: Found<Vec<Device>>, allowed: &[u32]) -> Option<Self> {
        let disk = guest.disk.as_ref()?;
        let bound = guest.measured_cpus(allowed);
        // An ATA disk is served by the vCPU's own thread.
        let (io_cpus, io_floats) = match disk.device {
            DiskDevice::AtaPio => (&[][..], false),
            DiskDevice::VirtioBlk => (disk.io_cpus.as_slice(), disk.io_cpus.is_empty()),
        };
        let mut cpus: Vec<u32> = if bound.is_empty() || io_floats {
            allowed.to_vec()
        } else {
            Vec::new()
        };
        cpus.extend(bound.iter().chain(io_cpus));
        cpus.sort_unstable();
        cpus.dedup();
        // The nearest first: where the guest's threads are bound, where completions arrive, and one more where that is one.
        let mut starts: Vec<u32> = Vec::new();
        let arrivals = arrivals(&devices);
        for cpu in bound.iter().chain(io_cpus).chain(&arrivals) {
            if cpus.contains(cpu) && !starts.contains(cpu) {
                starts.push(*cpu);
            }
        }
        while starts.len() < cpus.len().min(2) {
            starts.extend(cpus.iter().find(|cpu| !starts.contains(cpu)));
        }
        starts.truncate(MOST_STARTS);
        let mut ways = vec![Waiting::Sleep];
        if disk.poll_nanos > 0 {
            ways.push(Waiting::PollThenSleep {
                nanos: disk.poll_nanos,
            });
        }
        if disk.device == DiskDevice::VirtioBlk && disk.completion == Completion::Poll {
            ways.push(Waiting::Poll);
        }
        Some(Self {
            cpus,
            starts,
            ways,
            devices,
        })
    }

    /// How many CPUs native blocks begin on.
    #[must_use]
    pub fn starts(&self) -> u32 {
        u32::try_from(self.starts.len()).unwrap_or(u32::MAX)
    }

    /// Sends the calling thread, that of the vCPU with this number, to where its native block number `turn` begins, and lets it
    /// go from there to any CPU of the set. Dropping what is returned sends it back.
    ///
    /// # Errors
    /// This process may not use a CPU of them any more.
    pub fn place(&self, vcpu: u32, turn: u32) -> Result<Placed, AffinityError> {
        // Several vCPUs begin apart from each other.
        let place = (vcpu.wrapping_add(turn) % self.starts().max(1)) as usize;
        let start = Pinned::to(self.starts.get(place..=place).unwrap_or_default())?;
        Ok(Placed {
            _within: Pinned::to(&self.cpus)?,
            _start: start,
        })
    }

    /// For the record, with the way of waiting that was the fastest.
    #[must_use]
    pub fn record(self, waiting: Waiting) -> record::NativeDisk {
        record::NativeDisk {
            cpus: self.cpus,
            starts: self.starts,
            waiting,
            devices: self.devices,
        }
    }
}

/// A thread during a native block. The order of fields is that in which they are dropped, and each undoes what came after the
/// one below it.
#[derive(Debug)]
pub struct Placed {
    _within: Pinned,
    _start: Pinned,
}

/// CPUs that the devices' interrupts arrive on, ascending.
fn arrivals(devices: &Found<Vec<Device>>) -> Vec<u32> {
    let Found::Value(devices) = devices else {
        return Vec::new();
    };
    let mut cpus: Vec<u32> = devices
        .iter()
        .filter_map(|device| match &device.interrupts {
            Found::Value(interrupts) => Some(interrupts),
            Found::Unavailable(_) => None,
        })
        .flatten()
        .filter_map(|interrupt| match &interrupt.effective {
            Reading::Value(list) => parse_list(list),
            Reading::Unavailable(_) => None,
        })
        .flatten()
        .collect();
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

#[cfg(test)]
mod tests {
    use vtax_reports::native_disk::Interrupt;
    use vtax_scenarios::{Overrides, parse};

    use super::*;
    use crate::host::affinity::allowed_cpus;

    fn guest(keys: &str) -> Guest {
        let text = format!(
            "schema = 1\nname = \"s\"\n[guest]\ndisk = \"virtio-blk\"\n{keys}\n[[workload]]\nname = \"block-random\""
        );
        let plan = parse("s.toml", &text, &Overrides::default());
        plan.unwrap().plan.cells.remove(0).guest
    }

    /// A device whose interrupt arrives on this CPU.
    fn arriving_on(cpu: &str) -> Found<Vec<Device>> {
        Found::Value(vec![Device {
            name: "vda".to_owned(),
            interrupts: Found::Value(vec![Interrupt {
                number: 36,
                name: String::new(),
                allowed: Reading::Unavailable(String::new()),
                effective: Reading::Value(cpu.to_owned()),
            }]),
        }])
    }

    fn unknown() -> Found<Vec<Device>> {
        Found::Unavailable("no device".to_owned())
    }

    #[test]
    fn native_has_the_cpus_of_vcpus_and_io_threads_together() {
        let allowed: Vec<u32> = (0..8).collect();
        for (keys, arrival, cpus, starts) in [
            // A floating I/O thread may be anywhere.
            ("pinning = [0]", arriving_on("5"), &allowed[..], &[0, 5][..]),
            ("pinning = [0]", unknown(), &allowed, &[0, 1]),
            ("pinning = \"none\"", arriving_on("5"), &allowed, &[5, 0]),
            ("pinning = \"none\"", unknown(), &allowed, &[0, 1]),
            (
                "pinning = [2]\ndisk-io-cpus = [3]",
                unknown(),
                &[2, 3],
                &[2, 3],
            ),
            // An interrupt that arrives elsewhere arrives elsewhere for both sides.
            (
                "pinning = [2]\ndisk-io-cpus = [2]",
                arriving_on("5"),
                &[2],
                &[2],
            ),
            (
                "pinning = [1, 2]\nvcpus = 2\ndisk-io-cpus = [2, 3]",
                arriving_on("2-7"),
                &[1, 2, 3],
                &[1, 2, 3],
            ),
            ("pinning = [0]", arriving_on("0-7"), &allowed, &[0, 1, 2, 3]),
        ] {
            let disk = NativeDisk::with(&guest(keys), arrival, &allowed).unwrap();
            assert_eq!(
                (disk.cpus.as_slice(), disk.starts.as_slice()),
                (cpus, starts),
                "{keys}"
            );
        }
        let ata = guest("pinning = [4]")
            .disk
            .map(|disk| vtax_scenarios::plan::Disk {
                device: DiskDevice::AtaPio,
                ..disk
            });
        let guest = Guest {
            disk: ata,
            ..guest("pinning = [4]")
        };
        let disk = NativeDisk::with(&guest, unknown(), &allowed).unwrap();
        assert_eq!((disk.cpus, disk.starts), (vec![4], vec![4]));
    }

    #[test]
    fn native_waits_in_any_way_that_the_guest_has() {
        let polls = Waiting::PollThenSleep { nanos: 32_000 };
        for (keys, ways) in [
            ("", &[Waiting::Sleep, polls][..]),
            ("disk-poll = \"0us\"", &[Waiting::Sleep]),
            (
                "disk-completion = \"poll\"",
                &[Waiting::Sleep, polls, Waiting::Poll],
            ),
        ] {
            let disk = NativeDisk::with(&guest(keys), unknown(), &[0, 1]).unwrap();
            assert_eq!(disk.ways, ways, "{keys}");
        }
    }

    #[test]
    fn blocks_begin_on_each_start_in_turn_and_leave_the_thread_as_it_was() {
        let allowed = allowed_cpus().unwrap();
        let _vcpu = Pinned::to(&allowed[..1]).unwrap();
        let disk = NativeDisk::with(&guest("pinning = \"none\""), unknown(), &allowed).unwrap();
        for turn in 0..4 {
            let placed = disk.place(0, turn).unwrap();
            assert_eq!(allowed_cpus().unwrap(), allowed);
            drop(placed);
            assert_eq!(allowed_cpus().unwrap(), allowed[..1]);
        }
        let begins = |vcpu: u32, turn: u32| (vcpu + turn) % disk.starts();
        if disk.starts() > 1 {
            assert_ne!(begins(0, 0), begins(0, 1));
            assert_ne!(begins(0, 0), begins(1, 0));
        }
    }
}
