//! A driver that does anything to virtio-mem, whose host wants it to have all of its region.

#![no_main]

mod driver;

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vtax::guest::embedded::devices::mem::sizes::Sizes;
use vtax::guest::embedded::devices::mem::{BLOCK_BYTES, Plugging, Region, identity};
use vtax::guest::embedded::devices::memory::GuestMemory;
use vtax::guest::embedded::devices::mmio::Transport;
use vtax::guest::embedded::devices::server::{Condition, Inline};
use vtax::guest::ram::{Ram, RamConfig};
use vtax_scenarios::plan::Backing;
use vtax_workloads::machine::RAM_BASE;

const REGION: Region = Region {
    offset: BLOCK_BYTES,
    len: 4 * BLOCK_BYTES,
};

fuzz_target!(|steps: Vec<driver::Step>| {
    let ram = RamConfig {
        address: RAM_BASE,
        len: REGION.offset + REGION.len,
        backing: Backing::Small,
        numa_node: None,
    };
    let (Ok(ram), Ok(memory)) = (Ram::map(&ram), GuestMemory::anonymous(driver::MEMORY)) else {
        return;
    };
    let condition: Arc<Condition> = Arc::default();
    let sizes = Arc::new(Sizes::new(REGION));
    sizes.request(REGION.len);
    let service = Plugging::new(Arc::clone(&sizes), ram, Arc::default());
    let lanes = vec![Inline::new(service, Arc::clone(&condition))];
    let device = Transport::new(identity(sizes), memory.clone(), lanes, condition);
    driver::drive(&device, &memory, &steps);
});
