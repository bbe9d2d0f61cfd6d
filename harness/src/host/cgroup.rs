//! The control group of this process: which version, and what it limits.

use std::path::{Path, PathBuf};

use procfs::process::{MountInfo, MountInfos};
use procfs::{ProcessCGroup, ProcessCGroups};

use super::root::{HostRoot, ReadError};

/// Limits of the control group and of all groups above it: the tightest counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Cgroup {
    /// Which hierarchies are mounted.
    pub version: Version,
    /// CPU time per wall-clock time, in CPUs; `None` is no quota.
    pub cpus: Option<f64>,
    /// Limit on memory in bytes; `None` is no limit.
    pub memory_limit: Option<u64>,
    /// Bytes that may still be taken under that limit; page cache that can be dropped counts as free.
    pub memory_left: Option<u64>,
}

/// Which cgroup hierarchies are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Version 1 controllers alone.
    V1,
    /// The unified hierarchy alone.
    V2,
    /// Version 1 controllers with a unified hierarchy beside them.
    Hybrid,
    /// None.
    NotMounted,
}

impl std::fmt::Display for Version {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Hybrid => "v1 and v2",
            Self::NotMounted => "not mounted",
        })
    }
}

impl Cgroup {
    /// The control group of this process.
    pub fn of(root: &HostRoot) -> Result<Self, ReadError> {
        let mounts: MountInfos = root.parsed("proc/self/mountinfo", "a list of mounts")?;
        let groups: ProcessCGroups = root.parsed("proc/self/cgroup", "a list of control groups")?;
        let has = |fs_type| mounts.iter().any(|mount| mount.fs_type == fs_type);
        let version = match (has("cgroup"), has("cgroup2")) {
            (true, false) => Version::V1,
            (false, true) => Version::V2,
            (true, true) => Version::Hybrid,
            (false, false) => Version::NotMounted,
        };

        let cpus = Levels::of(&mounts, &groups, "cpu").tightest(|dir, unified| {
            if unified {
                quota(&root.text(&file(dir, "cpu.max")).ok()?)
            } else {
                let quota: f64 = root.number(&file(dir, "cpu.cfs_quota_us")).ok()?;
                let period: f64 = root.number(&file(dir, "cpu.cfs_period_us")).ok()?;
                (quota > 0.0).then_some(quota / period)
            }
        });
        let memory = Levels::of(&mounts, &groups, "memory");
        let names = |unified| match unified {
            true => ("memory.max", "memory.current", "inactive_file"),
            false => (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            ),
        };
        let limit_of = |dir: &Path, unified| -> Option<u64> {
            // `max`, and version 1's huge number near 2^63, mean no limit.
            let limit = root.number(&file(dir, names(unified).0)).ok()?;
            (limit < 1 << 60).then_some(limit)
        };
        let left_of = |dir: &Path, unified| -> Option<u64> {
            let (_, usage, reclaimable) = names(unified);
            let used: u64 = root.number(&file(dir, usage)).ok()?;
            let cache = root
                .text(&file(dir, "memory.stat"))
                .ok()
                .and_then(|text| field(&text, reclaimable))
                .unwrap_or(0);
            Some(limit_of(dir, unified)?.saturating_sub(used.saturating_sub(cache)))
        };
        Ok(Self {
            version,
            cpus,
            memory_limit: memory.tightest(limit_of),
            memory_left: memory.tightest(left_of),
        })
    }
}

/// The directories of this process's group and of the groups above it, for one controller.
pub(super) struct Levels {
    /// Own group first.
    pub directories: Vec<PathBuf>,
    /// Whether this is the hierarchy of version 2.
    pub unified: bool,
}

impl Levels {
    /// A version 1 hierarchy that holds the controller comes first, as in the kernel: a controller is in one only.
    pub(super) fn of(mounts: &MountInfos, groups: &ProcessCGroups, controller: &str) -> Self {
        Self::legacy(mounts, groups, controller).unwrap_or_else(|| Self::unified(mounts, groups))
    }

    /// Those of the version 1 hierarchy that holds the controller.
    pub(super) fn legacy(
        mounts: &MountInfos,
        groups: &ProcessCGroups,
        controller: &str,
    ) -> Option<Self> {
        let mount = mounts.iter().find(|mount| {
            mount.fs_type == "cgroup" && mount.super_options.contains_key(controller)
        })?;
        let own = |group: &&ProcessCGroup| group.controllers.iter().any(|name| name == controller);
        Some(Self {
            directories: levels(mount, groups.0.iter().find(own)?),
            unified: false,
        })
    }

    /// Those of version 2; none where it is not mounted.
    pub(super) fn unified(mounts: &MountInfos, groups: &ProcessCGroups) -> Self {
        let mount = mounts.iter().find(|mount| mount.fs_type == "cgroup2");
        let group = groups.0.iter().find(|group| group.hierarchy == 0);
        Self {
            directories: mount
                .zip(group)
                .map_or_else(Vec::new, |(mount, group)| levels(mount, group)),
            unified: true,
        }
    }

    /// The smallest limit of all levels. A level without the file (the root group has none) limits nothing.
    fn tightest<T: PartialOrd>(&self, limit: impl Fn(&Path, bool) -> Option<T>) -> Option<T> {
        self.directories
            .iter()
            .filter_map(|directory| limit(directory, self.unified))
            .reduce(|least, next| if next < least { next } else { least })
    }
}

/// The group's directory and those above it.
fn levels(mount: &MountInfo, group: &ProcessCGroup) -> Vec<PathBuf> {
    // In a container the mount shows a part of the hierarchy: its root is cut off the group's path.
    let below = Path::new(&group.pathname);
    let below = below.strip_prefix(&mount.root).unwrap_or(below);
    let below = below.strip_prefix("/").unwrap_or(below);
    below
        .ancestors()
        .map(|level| mount.mount_point.join(level))
        .collect()
}

/// The path below the host's root.
pub(super) fn below_root(path: &Path) -> String {
    let path = path.strip_prefix("/").unwrap_or(path);
    path.to_string_lossy().into_owned()
}

/// The file's path below the host's root.
pub(super) fn file(directory: &Path, name: &str) -> String {
    below_root(&directory.join(name))
}

/// CPUs of a `cpu.max` such as `150000 100000`; `max` is no quota.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_tightest_level_of_version_2_counts() {
        let tree = Tree::new(&[
            ("proc/self/mountinfo", V2),
            ("proc/self/cgroup", "0::/user.slice/job\n"),
            ("sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "1000000\n"),
            ("sys/fs/cgroup/user.slice/memory.current", "700000\n"),
            (
                "sys/fs/cgroup/user.slice/memory.stat",
                "anon 1\ninactive_file 100000\n",
            ),
            ("sys/fs/cgroup/user.slice/job/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/user.slice/job/memory.max", "2000000\n"),
            ("sys/fs/cgroup/user.slice/job/memory.current", "1900000\n"),
        ]);
        assert_eq!(
            Cgroup::of(&tree.root()).unwrap(),
            Cgroup {
                version: Version::V2,
                cpus: Some(1.5),
                memory_limit: Some(1_000_000),
                memory_left: Some(100_000),
            }
        );
    }

    #[test]
    fn version_1_in_a_container() {
        let tree = Tree::new(&[
            (
                "proc/self/mountinfo",
                "33 31 0:30 /docker/7f /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                 36 31 0:33 /docker/7f /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                 41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            ),
            (
                "proc/self/cgroup",
                "4:memory:/docker/7f\n1:cpu,cpuacct:/docker/7f/a\n0::/\n",
            ),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "4096\n"),
        ]);
        assert_eq!(
            Cgroup::of(&tree.root()).unwrap(),
            Cgroup {
                version: Version::Hybrid,
                cpus: Some(0.5),
                memory_limit: None,
                memory_left: None,
            }
        );
    }
}
