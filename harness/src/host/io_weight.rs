//! By what a block device is shared among control groups: the scheduler bfq, or blk-iocost.
//!
//! To both a group of weight 200 is entitled to twice of what one of weight 100 has, and both take 100 for a group that
//! nobody has weighed. So a scenario's weight is written down as it is, though bfq takes no more than 1000: what is more is
//! not testable with it, rather than another ratio than was asked for. With any other scheduler a weight says nothing.
//!
//! What becomes of the weights is then the host's: bfq keeps to them for random requests with `strict_guarantees` alone,
//! which is off by default, and its `low_latency`, which is on, prefers processes that look interactive.
//!
//! Sources: Linux, block/bfq-iosched.rst ("Tunables", "Group scheduling with BFQ") and admin-guide/cgroup-v2.rst ("IO
//! Interface Files").

use std::path::{Path, PathBuf};

use procfs::process::MountInfos;

use super::cgroup::file;
use super::root::HostRoot;

/// Where the kernel has all block devices by number.
const DEVICES: &str = "sys/dev/block";

/// What shares a block device by weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharer {
    /// The I/O scheduler bfq, with version 1 and 2 of control groups.
    Bfq,
    /// The cost model blk-iocost, with version 2.
    Iocost,
}

impl Sharer {
    /// The highest weight that it takes; the least is 1.
    #[must_use]
    pub const fn most(self) -> u32 {
        match self {
            Self::Bfq => 1000,
            Self::Iocost => 10_000,
        }
    }

    /// The file of a control group that holds the weight.
    pub(super) const fn file(self, unified: bool) -> &'static str {
        match (self, unified) {
            (Self::Bfq, false) => "blkio.bfq.weight",
            (Self::Bfq, true) => "io.bfq.weight",
            (Self::Iocost, _) => "io.weight",
        }
    }

    /// What shares the device with this number, such as `8:1`.
    #[must_use]
    pub fn of(root: &HostRoot, device: &str) -> Option<Self> {
        let own = format!("{DEVICES}/{device}");
        // A partition has no queue of its own.
        let disk = match root.exists(&format!("{own}/partition")) {
            true => format!("{own}/.."),
            false => own,
        };
        let scheduler = root.selected(&format!("{disk}/queue/scheduler"));
        if scheduler.is_ok_and(|name| name == "bfq") {
            return Some(Self::Bfq);
        }
        if has_cost_model(root, &root.text(&format!("{disk}/dev")).ok()?) {
            return Some(Self::Iocost);
        }
        // A mapped device or an array leaves it to those that it is made of: all of them, or there is no telling.
        let parts = root.entries(&format!("{disk}/slaves")).ok()?;
        let mut shared = parts.iter().map(|part| {
            let number = root.text(&format!("{disk}/slaves/{part}/dev")).ok()?;
            Self::of(root, &number)
        });
        let first = shared.next()??;
        shared.all(|other| other == Some(first)).then_some(first)
    }

    /// That of the host's block devices which takes the highest weights.
    #[must_use]
    pub fn best(root: &HostRoot) -> Option<Self> {
        let devices = root.entries(DEVICES).unwrap_or_default();
        devices
            .iter()
            .filter_map(|device| Self::of(root, device))
            .max()
    }
}

/// Whether blk-iocost is enabled for the disk with this number.
fn has_cost_model(root: &HostRoot, disk: &str) -> bool {
    let mounts: Option<MountInfos> = root.parsed("proc/self/mountinfo", "a list of mounts").ok();
    let unified = mounts.and_then(|mounts| {
        mounts
            .into_iter()
            .find(|mount| mount.fs_type == "cgroup2" && mount.root == "/")
    });
    // The file is in the root group alone.
    let text = unified.and_then(|mount| root.text(&file(&mount.mount_point, "io.cost.qos")).ok());
    text.is_some_and(|text| {
        text.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(disk) && words.any(|word| word == "enable=1")
        })
    })
}

/// Why a weight would say nothing.
#[derive(Debug, thiserror::Error)]
pub enum IoWeightError {
    /// Where the files are kept is not one block device that vtax could find, but memory, say, or several.
    #[error("{} is not on a block device that vtax knows how to find; choose another --out directory", .0.display())]
    NoDevice(PathBuf),
    /// Nothing shares the device.
    #[error(
        "the block device {device} under {} is not shared by weight; as root, select bfq as its scheduler, or enable \
         blk-iocost for it", .directory.display()
    )]
    NotShared {
        /// The directory of the files.
        directory: PathBuf,
        /// The device's number.
        device: String,
    },
    /// It takes no such weight.
    #[error("the block device under {} is shared by weights up to {most}, not {weight}", .directory.display())]
    TooHigh {
        /// The directory of the files.
        directory: PathBuf,
        /// The highest weight.
        most: u32,
        /// What was asked for.
        weight: u32,
    },
}

/// A weight for the files in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoWeight {
    /// By what the device under the directory is shared.
    pub sharer: Sharer,
    /// From 1 to [`Sharer::most`].
    pub weight: u32,
}

impl IoWeight {
    /// The weight, if the block device that `directory` is on heeds it.
    ///
    /// # Errors
    /// [`IoWeightError`]: it would say nothing.
    pub fn under(root: &HostRoot, directory: &Path, weight: u32) -> Result<Self, IoWeightError> {
        let device = rustix::fs::stat(directory)
            .map(|stat| {
                let (major, minor) = (
                    rustix::fs::major(stat.st_dev),
                    rustix::fs::minor(stat.st_dev),
                );
                format!("{major}:{minor}")
            })
            .ok()
            .filter(|device| root.exists(&format!("{DEVICES}/{device}")))
            .ok_or_else(|| IoWeightError::NoDevice(directory.to_owned()))?;
        let Some(sharer) = Sharer::of(root, &device) else {
            return Err(IoWeightError::NotShared {
                directory: directory.to_owned(),
                device,
            });
        };
        let most = sharer.most();
        if weight > most {
            return Err(IoWeightError::TooHigh {
                directory: directory.to_owned(),
                most,
                weight,
            });
        }
        Ok(Self { sharer, weight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;

    const BFQ: &str = "none mq-deadline [bfq]\n";
    const NONE: &str = "[none] mq-deadline bfq\n";

    /// A disk with this scheduler.
    fn disk(tree: &Tree, number: &str, scheduler: &str) {
        let directory = format!("{DEVICES}/{number}");
        tree.write(&format!("{directory}/dev"), number);
        tree.write(&format!("{directory}/queue/scheduler"), scheduler);
    }

    #[test]
    fn a_disk_is_shared_by_its_scheduler_or_by_its_cost_model() {
        let tree = Tree::new(&[
            (
                "proc/self/mountinfo",
                "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            ),
            (
                "sys/fs/cgroup/io.cost.qos",
                "8:16 enable=1 ctrl=auto rpct=95.00\n8:32 enable=0 ctrl=auto rpct=95.00\n",
            ),
        ]);
        for (number, scheduler) in [("8:0", BFQ), ("8:16", NONE), ("8:32", NONE), ("8:48", NONE)] {
            disk(&tree, number, scheduler);
        }
        let root = tree.root();
        let of = |number| Sharer::of(&root, number);
        assert_eq!(of("8:0"), Some(Sharer::Bfq));
        assert_eq!(of("8:16"), Some(Sharer::Iocost));
        assert_eq!([of("8:32"), of("8:48"), of("9:9")], [None; 3]);
        assert_eq!(Sharer::best(&root), Some(Sharer::Iocost));
        assert_eq!(Sharer::best(&Tree::new(&[]).root()), None);
    }

    #[test]
    fn a_partition_is_shared_as_its_disk_and_a_mapped_device_as_its_parts() {
        let tree = Tree::new(&[]);
        disk(&tree, "8:0", BFQ);
        disk(&tree, "8:16", NONE);
        tree.write(&format!("{DEVICES}/8:0/sda1/partition"), "1\n");
        let root = tree.root();
        let by_number = |number: &str| root.path(&format!("{DEVICES}/{number}"));
        std::os::unix::fs::symlink(by_number("8:0/sda1"), by_number("8:1")).unwrap();
        assert_eq!(Sharer::of(&root, "8:1"), Some(Sharer::Bfq));

        disk(&tree, "254:0", "none\n");
        tree.write(&format!("{DEVICES}/254:0/slaves/sda/dev"), "8:0\n");
        assert_eq!(Sharer::of(&root, "254:0"), Some(Sharer::Bfq));
        tree.write(&format!("{DEVICES}/254:0/slaves/sdb/dev"), "8:16\n");
        assert_eq!(Sharer::of(&root, "254:0"), None);
    }

    #[test]
    fn a_weight_is_for_the_device_that_a_directory_is_on() {
        let tree = Tree::new(&[]);
        let root = tree.root();
        let directory = root.path("");
        let error = || IoWeight::under(&root, &directory, 1001).unwrap_err();
        assert!(matches!(error(), IoWeightError::NoDevice(_)));
        let stat = rustix::fs::stat(&directory).unwrap();
        let number = format!(
            "{}:{}",
            rustix::fs::major(stat.st_dev),
            rustix::fs::minor(stat.st_dev)
        );
        disk(&tree, &number, NONE);
        assert!(error().to_string().contains(&number), "{}", error());
        disk(&tree, &number, BFQ);
        assert!(error().to_string().contains("up to 1000, not 1001"));
        let expected = IoWeight {
            sharer: Sharer::Bfq,
            weight: 1000,
        };
        assert_eq!(IoWeight::under(&root, &directory, 1000).unwrap(), expected);
    }
}
