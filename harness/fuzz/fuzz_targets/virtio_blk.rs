//! A driver that does anything to virtio-blk.

#![no_main]

mod driver;

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use vtax::guest::embedded::devices::blk::copying::Copying;
use vtax::guest::embedded::devices::blk::identity;
use vtax::guest::embedded::devices::disk::Disk;
use vtax::guest::embedded::devices::memory::GuestMemory;
use vtax::guest::embedded::devices::mmio::Transport;
use vtax::guest::embedded::devices::server::{Condition, Inline};

fuzz_target!(|steps: Vec<driver::Step>| {
    let (Ok(disk), Ok(memory)) = (
        Disk::memory(64 << 10),
        GuestMemory::anonymous(driver::MEMORY),
    ) else {
        return;
    };
    let disk = Arc::new(disk);
    let condition: Arc<Condition> = Arc::default();
    let lanes = (0..2)
        .map(|_| Inline::new(Copying::new(Arc::clone(&disk)), Arc::clone(&condition)))
        .collect();
    let device = Transport::new(identity(&disk, 2), memory.clone(), lanes, condition);
    driver::drive(&device, &memory, &steps);
});
