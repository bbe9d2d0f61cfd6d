//! Control groups that vtax makes, for guests whose CPU time is weighed or capped and whose memory is limited.
//!
//! ```text
//! Cgroups::of (where groups may be made) ──make(name, limits)──► Group ──enter / add──► … ──drop──► removed
//! ```
//!
//! In version 1 a group is a directory in each hierarchy that it needs, below the group of this process. In version 2 it
//! is one directory below the nearest group above that hands the controllers on: a group that has processes of its own
//! may not (Linux, admin-guide/cgroup-v2.rst, "No Internal Process Constraint").

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use procfs::{ProcessCGroups, process::MountInfos};
use rustix::fs::Access;

use super::cgroup::{Levels, file};
use super::root::{HostRoot, ReadError};

/// How the names of all of vtax's groups begin; the process that made them follows.
const PREFIX: &str = "vtax-";

/// What version 1 calls a weight of 100.
const SHARES_OF_100: u64 = 1024;

/// The period of a quota in microseconds, the kernel's default.
const PERIOD_MICROS: f64 = 100_000.0;

/// The kernel takes no smaller quota.
const LEAST_QUOTA_MICROS: f64 = 1000.0;

/// How long a group may take to become empty once its processes have ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a group could not be made, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// There is no place for it.
    #[error(
        "vtax may not make a control group with the {0} controller here; run as root, or where one is delegated to you"
    )]
    NoPlace(&'static str),
    /// The kernel refused.
    #[error("{what} {}: {source}", .path.display())]
    Refused {
        /// What was tried.
        what: String,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What a group is to enforce.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Weight, from 1 to 10,000, where 100 is that of any new group.
    pub cpu_weight: Option<u32>,
    /// CPU time per wall-clock time, in CPUs.
    pub cpu_quota: Option<f64>,
    /// Most bytes of memory.
    pub memory: Option<u64>,
}

/// Where groups can be made, by controller.
#[derive(Clone, Debug, Default)]
pub struct Cgroups {
    root: HostRoot,
    cpu: Option<Place>,
    memory: Option<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// Below the host's root.
    directory: String,
    unified: bool,
}

impl Cgroups {
    /// Looks where this process may make groups.
    ///
    /// # Errors
    /// The mounts or the present group cannot be read.
    pub fn of(root: &HostRoot) -> Result<Self, ReadError> {
        let mounts: MountInfos = root.parsed("proc/self/mountinfo", "a list of mounts")?;
        let groups: ProcessCGroups = root.parsed("proc/self/cgroup", "a list of control groups")?;
        let place = |controllers: &[&str]| {
            let levels = Levels::of(&mounts, &groups, controllers[0]);
            let mut levels = levels
                .directories
                .iter()
                .zip(std::iter::repeat(levels.unified));
            levels
                .by_ref()
                .find(|(directory, unified)| !unified || hands_on(root, directory, controllers))
                .map(|(directory, unified)| Place {
                    directory: file(directory, ""),
                    unified,
                })
                .filter(|place| {
                    rustix::fs::access(root.path(&place.directory), Access::WRITE_OK).is_ok()
                })
        };
        // In version 2 a process is in one group, so that both controllers should come with it.
        let both = place(&["cpu", "memory"]).filter(|place| place.unified);
        Ok(Self {
            cpu: both.clone().or_else(|| place(&["cpu"])),
            memory: both.or_else(|| place(&["memory"])),
            root: root.clone(),
        })
    }

    /// Whether groups can weigh and cap CPU time.
    #[must_use]
    pub fn weighs_cpu(&self) -> bool {
        self.cpu.is_some()
    }

    /// Whether groups can limit memory.
    #[must_use]
    pub fn limits_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// The name of group `number` of this process.
    #[must_use]
    pub fn name(number: u32) -> String {
        format!("{PREFIX}{}-{number}", std::process::id())
    }

    /// Makes a group, with a directory for CPU time in any case where it can be had: processes in groups of their own get
    /// a share each, however many threads they have. `None` where nothing is asked of it and there is no place for it.
    ///
    /// # Errors
    /// [`CgroupError`]; nothing is left of it then.
    pub fn make(&self, name: &str, limits: &Limits) -> Result<Option<Group>, CgroupError> {
        let wants_cpu = limits.cpu_weight.is_some() || limits.cpu_quota.is_some();
        let mut places: Vec<&Place> = Vec::new();
        match &self.cpu {
            Some(place) => places.push(place),
            None if wants_cpu => return Err(CgroupError::NoPlace("cpu")),
            None => {}
        }
        if limits.memory.is_some() {
            let place = self.memory.as_ref().ok_or(CgroupError::NoPlace("memory"))?;
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let mut group = Group {
            root: self.root.clone(),
            directories: Vec::new(),
        };
        for place in places {
            let directory = format!("{}/{name}", place.directory);
            fs::create_dir(self.root.path(&directory)).map_err(refused(
                "making the control group",
                &self.root.path(&directory),
            ))?;
            group.directories.push(Place {
                directory,
                unified: place.unified,
            });
        }
        group.limit(self, limits)?;
        Ok((!group.directories.is_empty()).then_some(group))
    }

    /// Removes what processes of vtax that are gone have left, and says what that was: their groups are empty, or will be
    /// in a moment, since guests die with them.
    pub fn sweep(&self) -> Vec<PathBuf> {
        let mut removed = Vec::new();
        for place in self.cpu.iter().chain(&self.memory) {
            for name in self.root.entries(&place.directory).unwrap_or_default() {
                let owner = name
                    .strip_prefix(PREFIX)
                    .and_then(|rest| rest.split_once('-'))
                    .map(|(owner, _)| owner)
                    .filter(|owner| owner.parse::<u32>().is_ok());
                if owner.is_some_and(|owner| !self.root.exists(&format!("proc/{owner}"))) {
                    let path = self.root.path(&format!("{}/{name}", place.directory));
                    // One that is in use after all is refused, and stays.
                    if remove(&path).is_ok() {
                        removed.push(path);
                    }
                }
            }
        }
        removed
    }
}

/// Removes a group. The kernel may see its last process a moment longer than its parent does.
fn remove(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(path) {
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(()),
        }
    }
}

/// Whether the group's children may have these controllers.
fn hands_on(root: &HostRoot, directory: &Path, controllers: &[&str]) -> bool {
    let text = root
        .text(&file(directory, "cgroup.subtree_control"))
        .unwrap_or_default();
    let handed: Vec<&str> = text.split_whitespace().collect();
    controllers.iter().all(|wanted| handed.contains(wanted))
}

fn refused(what: &str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let (what, path) = (what.to_owned(), path.to_owned());
    move |source| CgroupError::Refused { what, path, source }
}

/// A group that vtax has made; removed when dropped, which takes that all its processes have ended.
#[derive(Debug)]
pub struct Group {
    root: HostRoot,
    /// One for each hierarchy of version 1, or the only one of version 2.
    directories: Vec<Place>,
}

impl Group {
    fn limit(&self, cgroups: &Cgroups, limits: &Limits) -> Result<(), CgroupError> {
        let of = |parent: &Option<Place>| {
            let parent = parent.as_ref()?;
            let below = format!("{}/", parent.directory);
            self.directories
                .iter()
                .find(|own| own.directory.starts_with(&below) && own.unified == parent.unified)
        };
        if let Some(place) = of(&cgroups.cpu) {
            if let Some(weight) = limits.cpu_weight {
                let weight = u64::from(weight);
                match place.unified {
                    true => self.write(place, "cpu.weight", &weight.to_string())?,
                    false => {
                        let shares = (weight * SHARES_OF_100 / 100).max(2);
                        self.write(place, "cpu.shares", &shares.to_string())?;
                    }
                }
            }
            if let Some(quota) = limits.cpu_quota {
                let micros = (quota * PERIOD_MICROS).round().max(LEAST_QUOTA_MICROS);
                match place.unified {
                    true => self.write(place, "cpu.max", &format!("{micros} {PERIOD_MICROS}"))?,
                    false => {
                        self.write(place, "cpu.cfs_period_us", &PERIOD_MICROS.to_string())?;
                        self.write(place, "cpu.cfs_quota_us", &micros.to_string())?;
                    }
                }
            }
        }
        if let (Some(place), Some(bytes)) = (of(&cgroups.memory), limits.memory) {
            let name = match place.unified {
                true => "memory.max",
                false => "memory.limit_in_bytes",
            };
            self.write(place, name, &bytes.to_string())?;
        }
        Ok(())
    }

    fn write(&self, place: &Place, name: &str, value: &str) -> Result<(), CgroupError> {
        let path = self.root.path(&format!("{}/{name}", place.directory));
        fs::write(&path, value).map_err(refused(&format!("writing {value} to"), &path))
    }

    /// Where the group is, in each hierarchy.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let directories = self.directories.iter();
        directories
            .map(|place| self.root.path(&place.directory))
            .collect()
    }

    /// The files through which a process that has one thread only joins the group by writing 0. That is the quick way: the
    /// kernel stops no other process for it, as it does where someone moves a process by its id.
    #[must_use]
    pub fn entrances(&self) -> Vec<PathBuf> {
        let directories = self.directories.iter();
        directories
            .map(|place| {
                let name = match place.unified {
                    true => "cgroup.procs",
                    false => "tasks",
                };
                self.root.path(&format!("{}/{name}", place.directory))
            })
            .collect()
    }

    /// Moves a process into the group, with all its threads.
    ///
    /// # Errors
    /// The kernel refuses, or there is no such process.
    pub fn add(&self, process: u32) -> Result<(), CgroupError> {
        self.directories
            .iter()
            .try_for_each(|place| self.write(place, "cgroup.procs", &process.to_string()))
    }

    /// Removes the group. The kernel may see its last process a moment longer than its parent does.
    ///
    /// # Errors
    /// It is in use, or cannot be removed for another reason.
    pub fn remove(mut self) -> Result<(), CgroupError> {
        self.take_away()
    }

    fn take_away(&mut self) -> Result<(), CgroupError> {
        while let Some(place) = self.directories.last() {
            let path = self.root.path(&place.directory);
            remove(&path).map_err(refused("removing the control group", &path))?;
            self.directories.pop();
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What stays is removed by the next run (`Cgroups::sweep`).
        let _ = self.take_away();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;

    const V1: &[(&str, &str)] = &[
        (
            "proc/self/mountinfo",
            "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
             36 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        ),
        ("proc/self/cgroup", "4:memory:/job\n1:cpu:/\n0::/\n"),
        ("sys/fs/cgroup/cpu/", ""),
        ("sys/fs/cgroup/memory/job/", ""),
    ];

    const V2: &[(&str, &str)] = &[
        (
            "proc/self/mountinfo",
            "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        ),
        ("proc/self/cgroup", "0::/user.slice/job\n"),
        ("sys/fs/cgroup/cgroup.subtree_control", "cpu memory io\n"),
        (
            "sys/fs/cgroup/user.slice/cgroup.subtree_control",
            "cpu memory\n",
        ),
        ("sys/fs/cgroup/user.slice/job/cgroup.subtree_control", ""),
    ];

    const ALL: Limits = Limits {
        cpu_weight: Some(200),
        cpu_quota: Some(0.5),
        memory: Some(1 << 30),
    };

    /// A real group's files go with it; those of a fake one have to go first.
    fn remove(group: Group) {
        for path in group.paths() {
            for entry in fs::read_dir(path).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
        group.remove().unwrap();
    }

    #[test]
    fn version_1_has_a_directory_for_each_controller() {
        let tree = Tree::new(V1);
        let root = tree.root();
        let cgroups = Cgroups::of(&root).unwrap();
        assert!(cgroups.weighs_cpu() && cgroups.limits_memory());
        let group = cgroups.make("vtax-1-0", &ALL).unwrap().unwrap();
        let text = |path: &str| root.text(&format!("sys/fs/cgroup/{path}")).unwrap();
        assert_eq!(text("cpu/vtax-1-0/cpu.shares"), "2048");
        assert_eq!(text("cpu/vtax-1-0/cpu.cfs_period_us"), "100000");
        assert_eq!(text("cpu/vtax-1-0/cpu.cfs_quota_us"), "50000");
        assert_eq!(
            text("memory/job/vtax-1-0/memory.limit_in_bytes"),
            "1073741824"
        );
        group.add(77).unwrap();
        assert_eq!(text("memory/job/vtax-1-0/cgroup.procs"), "77");
        assert!(group.entrances()[0].ends_with("cpu/vtax-1-0/tasks"));
        remove(group);
        assert!(!root.exists("sys/fs/cgroup/cpu/vtax-1-0"));
        assert!(!root.exists("sys/fs/cgroup/memory/job/vtax-1-0"));
    }

    #[test]
    fn version_2_goes_where_the_controllers_are_handed_on() {
        let tree = Tree::new(V2);
        let root = tree.root();
        let cgroups = Cgroups::of(&root).unwrap();
        let group = cgroups.make("vtax-1-0", &ALL).unwrap().unwrap();
        let text = |name: &str| {
            root.text(&format!("sys/fs/cgroup/user.slice/vtax-1-0/{name}"))
                .unwrap()
        };
        assert_eq!(text("cpu.weight"), "200");
        assert_eq!(text("cpu.max"), "50000 100000");
        assert_eq!(text("memory.max"), "1073741824");
        assert_eq!(group.paths().len(), 1);
        remove(group);
        assert!(!root.exists("sys/fs/cgroup/user.slice/vtax-1-0"));
    }

    #[test]
    fn without_a_place_nothing_is_made_and_a_limit_is_refused() {
        let tree = Tree::new(&V2[..2]);
        tree.write("sys/fs/cgroup/user.slice/job/cgroup.subtree_control", "");
        let cgroups = Cgroups::of(&tree.root()).unwrap();
        assert!(!cgroups.weighs_cpu() && !cgroups.limits_memory());
        assert!(cgroups.make("x", &Limits::default()).unwrap().is_none());
        let error = cgroups.make("x", &ALL).unwrap_err().to_string();
        assert!(error.contains("the cpu controller"), "{error}");
    }

    #[test]
    fn a_value_that_the_kernel_refuses_leaves_no_group() {
        let tree = Tree::new(V1);
        let cgroups = Cgroups::of(&tree.root()).unwrap();
        // The memory directory of that name is there already.
        tree.write("sys/fs/cgroup/memory/job/vtax-1-0/", "");
        let error = cgroups.make("vtax-1-0", &ALL).unwrap_err().to_string();
        assert!(error.starts_with("making the control group"), "{error}");
        assert!(!tree.root().exists("sys/fs/cgroup/cpu/vtax-1-0"));
    }

    #[test]
    fn groups_of_processes_that_are_gone_are_swept() {
        let tree = Tree::new(V1);
        for name in ["vtax-7-0", "vtax-8-1", "vtax-x-1", "other"] {
            tree.write(&format!("sys/fs/cgroup/cpu/{name}/"), "");
        }
        tree.write("proc/8/", "");
        let removed = Cgroups::of(&tree.root()).unwrap().sweep();
        assert_eq!(removed, [tree.root().path("sys/fs/cgroup/cpu/vtax-7-0")]);
        let left = tree.root().entries("sys/fs/cgroup/cpu").unwrap();
        assert_eq!(left, ["other", "vtax-8-1", "vtax-x-1"]);
    }

    #[test]
    fn the_real_kernel_takes_it() {
        let cgroups = Cgroups::of(&HostRoot::default()).unwrap();
        if !cgroups.weighs_cpu() {
            eprintln!("SKIPPED the_real_kernel_takes_it: no cgroup may be made here");
            return;
        }
        let limits = Limits {
            memory: None,
            ..ALL
        };
        let group = cgroups
            .make(&format!("{}-test", Cgroups::name(9999)), &limits)
            .unwrap()
            .unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        group.add(child.id()).unwrap();
        let of = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        assert!(of.contains("-9999-test"), "{of}");
        child.kill().unwrap();
        child.wait().unwrap();
        let paths = group.paths();
        group.remove().unwrap();
        assert!(paths.iter().all(|path| !path.exists()));
    }
}
