use vtax_scenarios::plan::{self, Completion, DiskBacking, DiskDevice};
use vtax_workloads::abi::{LATENCY_SLOTS, Op};
use vtax_workloads::{Body, MAX_PARAMS, default_params};

use super::*;
use crate::disks::{Disks, fits};

const MIB: u64 = 1 << 20;

fn plan(backing: DiskBacking, read_only: bool) -> plan::Disk {
    plan::Disk {
        device: DiskDevice::VirtioBlk,
        backing,
        bytes: Some(MIB),
        direct: false,
        queues: 1,
        completion: Completion::Poll,
        poll_nanos: 0,
        io_cpus: Vec::new(),
        read_only,
    }
}

/// A hundred operations of a workload; their checksum. The queue was full all the time.
fn run(
    name: &str,
    change: impl Fn(&mut [u64; MAX_PARAMS]),
    disk: Arc<Disk>,
) -> Result<u64, TwinError> {
    let (index, workload) = vtax_workloads::find(name).unwrap();
    let Body::PerSide(task) = workload.body else {
        panic!("{name} has one code for both sides");
    };
    let mut params = default_params(workload);
    change(&mut params);
    let request = Request {
        op: Op::Run,
        workload: index as u64,
        arena: 0,
        arena_len: 0,
        iterations: 100,
        run_in: 0,
        planted: 0,
        params,
        seed: 3,
    };
    let mut slots = Box::new([0; LATENCY_SLOTS]);
    let (mut len, mut dropped) = (0, 0);
    let mut latencies = Latencies::new(&mut slots, &mut len, &mut dropped);
    let mut twin = Block::new(task, disk);
    twin.set_up(&request)?;
    let checksum = twin.run(&request, &mut latencies)?;
    assert_eq!(len, 100);
    let depth = task.disk_job(&params).unwrap().depth;
    assert!(twin.fewest_under_way() + 1 >= depth);
    Ok(checksum)
}

#[test]
fn memory_and_files_bring_the_same_data_at_any_depth() {
    let folder = tempfile::tempdir().unwrap();
    let disks = Disks::new(folder.path());
    let memory = disks.get(&plan(DiskBacking::Memory, false)).unwrap();
    let scratch = disks.get(&plan(DiskBacking::Scratch, false)).unwrap();
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    for name in ["block-random", "block-sequential"] {
        let expected = run(name, |_| (), Arc::clone(&memory)).unwrap();
        for depth in [1, 32] {
            let deep = |params: &mut [u64; MAX_PARAMS]| params[1] = depth;
            assert_eq!(run(name, deep, Arc::clone(&scratch)).unwrap(), expected);
            // Writing leaves everything as it was.
            let write = |params: &mut [u64; MAX_PARAMS]| (params[0], params[1]) = (1, depth);
            run(name, write, Arc::clone(&scratch)).unwrap();
        }
        run("block-flush", |_| (), Arc::clone(&scratch)).unwrap();
        assert_eq!(run(name, |_| (), Arc::clone(&scratch)).unwrap(), expected);
    }
}

#[test]
fn a_disk_that_may_not_be_written_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine");
    std::fs::write(&path, vec![7; 2 << 20]).unwrap();
    let mine = |overwrite| DiskBacking::Path {
        path: path.display().to_string(),
        overwrite,
    };
    let disks = Disks::new(folder.path());
    for plan in [plan(mine(false), false), plan(DiskBacking::Memory, true)] {
        let disk = disks.get(&plan).unwrap();
        run("block-random", |_| (), Arc::clone(&disk)).unwrap();
        assert!(matches!(
            run("block-flush", |_| (), disk),
            Err(TwinError::Disk(_))
        ));
    }
    assert_eq!(std::fs::read(&path).unwrap(), vec![7; 2 << 20]);
}

#[test]
fn what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small");
    let plan = plan(
        DiskBacking::Path {
            path: path.display().to_string(),
            overwrite: false,
        },
        false,
    );
    let disks = Disks::new(folder.path());
    let missing = disks.get(&plan).unwrap_err().to_string();
    assert!(missing.contains("small"), "{missing}");
    std::fs::write(&path, [0; 512]).unwrap();
    let short = disks.get(&plan).unwrap_err().to_string();
    assert!(short.contains("512 bytes"), "{short}");
    let Some(job) = Task::BlockFlush.disk_job(&[0; MAX_PARAMS]) else {
        panic!("it has no job");
    };
    let tight = fits(&Disk::memory(512).unwrap(), job).unwrap_err();
    assert!(tight.to_string().contains("a larger disk"), "{tight}");
    fits(&Disk::memory(4096).unwrap(), job).unwrap();
}
