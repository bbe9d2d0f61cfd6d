//! The guest image on real KVM: same bytes, same address, exceptions by name, timer and IPIs.

use vtax::guest::embedded::{self, Vm, VmConfig};
use vtax::guest::image::Image;
use vtax::guest::layout;
use vtax::guest::mailbox::{Answer, Mailbox, Request};
use vtax::guest::native::NativeCpu;
use vtax::guest::ram::{Ram, RamConfig};
use vtax::guest::{Completion, Executor};
use vtax_scenarios::plan::{Backing, PageSize, Topology};
use vtax_workloads::abi::Op;
use vtax_workloads::machine::RAM_BASE;

#[test]
fn smoke() {
    let image = Image::embedded().unwrap();
    let ram = Ram::map(&RamConfig { address: RAM_BASE, len: 16 << 20, backing: Backing::Small, prefault: true, numa_node: None }).unwrap();
    let kvm = embedded::open().unwrap();
    let vm = Vm::create(&kvm, &ram, &image, VmConfig { page_size: PageSize::Size4K, topology: Topology { sockets: 1, cores: 1, threads: 1 }, vcpus: 1, interrupts: false }).unwrap();
    let mut vcpu = vm.vcpu(0).unwrap();
    let mailbox = Mailbox::new(&ram, layout::mailbox(0));
    let mut native = NativeCpu::new(&image, mailbox, 0);
    let request = Request { op: Op::Identity, workload: 0, arena: RAM_BASE + layout::arena(16 << 20, 1, 0), arena_len: 2 << 20, iterations: 1000, planted: 0, params: [0; 4], seed: 1 };
    mailbox.put(&request).unwrap();
    native.execute().unwrap();
    let a = mailbox.take().unwrap();
    println!("native {a:x?} expected {:x}", image.text_hash);
    mailbox.put(&request).unwrap();
    for _ in 0..3 {
    match vcpu.execute() { Ok(_) => {}, Err(e) => panic!("{e}") }
    }
    let b = mailbox.take().unwrap();
    println!("guest {b:x?}");
    assert_eq!(a, b);
}
