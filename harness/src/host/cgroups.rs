//! Control groups that vtax makes, for guests whose CPU time is weighed or capped, that are confined to some CPUs, whose memory
//! is limited or whose I/O is weighed.
//!
//! ```text
//! Cgroups::of (where groups may be made) ──make(name, limits)──► Group ──enter / add──► … ──drop──► removed
//! ```
//!
//! In version 1 a group is a directory in each hierarchy that it needs, below the group of this process. In version 2 it
//! is one directory below the nearest group that hands the controllers on: a group that has processes of its own may not
//! (Linux, admin-guide/cgroup-v2.rst, "No Internal Process Constraint"). Where this process's own group was delegated to it
//! (`systemd-run --scope -p Delegate=yes`), it moves into a leaf of that group and makes the others beside the leaf: what
//! lies above is the manager's (systemd, CGROUP_DELEGATION.md).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use procfs::{ProcessCGroups, process::MountInfos};
use rustix::fs::Access;

use super::cgroup::{Levels, below_root, file};
pub use super::limits::{Controller, Limits};
use super::process::running;
use super::root::{HostRoot, ReadError};

/// How the names of all of vtax's groups begin; the process that made them follows.
const PREFIX: &str = "vtax-";

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
    /// The controller is there, but not this part of it.
    #[error("control groups of this kernel have no {0}")]
    NoFile(&'static str),
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

impl CgroupError {
    /// Whether the host lacks something, rather than that anything failed.
    #[must_use]
    pub fn is_lack(&self) -> bool {
        matches!(self, Self::NoPlace(_) | Self::NoFile(_))
    }
}

/// Where groups can be made.
#[derive(Clone, Debug, Default)]
pub struct Cgroups {
    root: HostRoot,
    /// One for each hierarchy of version 1, then the groups of version 2 above this process, the nearest first.
    places: Vec<Place>,
}

/// A directory of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// Below the host's root.
    directory: String,
    unified: bool,
    /// This process is in it, and has to leave it for a leaf before it hands its controllers on.
    own: bool,
    /// What can be asked of the groups in it.
    controllers: BTreeSet<Controller>,
}

impl Cgroups {
    /// Looks where this process may make groups.
    ///
    /// # Errors
    /// The mounts or the present group cannot be read.
    pub fn of(root: &HostRoot) -> Result<Self, ReadError> {
        let mounts: MountInfos = root.parsed("proc/self/mountinfo", "a list of mounts")?;
        let groups: ProcessCGroups = root.parsed("proc/self/cgroup", "a list of control groups")?;
        // A hierarchy may have several controllers.
        let mut legacy: BTreeMap<PathBuf, BTreeSet<Controller>> = BTreeMap::new();
        for controller in Controller::ALL {
            let levels = Levels::legacy(&mounts, &groups, controller.legacy_name());
            if let Some(own) = levels.and_then(|levels| levels.directories.into_iter().next()) {
                legacy.entry(own).or_default().insert(controller);
            }
        }
        let unified = Levels::unified(&mounts, &groups).directories;
        let own = unified.first().and_then(|own| delegated(root, own));
        let unified = unified.iter().map(|directory| Place {
            directory: below_root(directory),
            unified: true,
            own: false,
            controllers: handed_on(root, directory),
        });
        let places = legacy
            .into_iter()
            .map(|(directory, controllers)| Place {
                directory: below_root(&directory),
                unified: false,
                own: false,
                controllers,
            })
            .chain(own)
            .chain(unified)
            .filter(|place| {
                let path = root.path(&place.directory);
                !place.controllers.is_empty() && rustix::fs::access(path, Access::WRITE_OK).is_ok()
            })
            .collect();
        Ok(Self {
            root: root.clone(),
            places,
        })
    }

    /// Whether groups can be made with this controller.
    #[must_use]
    pub fn has(&self, controller: Controller) -> bool {
        let mut places = self.places.iter();
        places.any(|place| place.controllers.contains(&controller))
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
        let places = self.places(limits)?;
        let mut group = Group {
            root: self.root.clone(),
            places: Vec::new(),
        };
        for place in places {
            if place.own {
                self.leave(place)?;
            }
            let directory = format!("{}/{name}", place.directory);
            fs::create_dir(self.root.path(&directory)).map_err(refused(
                "making the control group",
                &self.root.path(&directory),
            ))?;
            group.places.push(Place {
                directory,
                own: false,
                ..place.clone()
            });
        }
        group.limit(limits)?;
        Ok((!group.places.is_empty()).then_some(group))
    }

    /// Moves this process from its own group into a leaf of it, and has the group hand its controllers on. The leaf goes with
    /// the group, whose manager removes both when they are empty.
    fn leave(&self, place: &Place) -> Result<(), CgroupError> {
        if handed_on(&self.root, Path::new(&place.directory)).is_superset(&place.controllers) {
            return Ok(());
        }
        let own = self.root.path(&place.directory);
        let leaf = own.join(format!("{PREFIX}{}-self", std::process::id()));
        match fs::create_dir(&leaf) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(refused("making the control group", &leaf)(error));
            }
            _ => {}
        }
        let entrance = leaf.join("cgroup.procs");
        fs::write(&entrance, std::process::id().to_string())
            .map_err(refused("joining", &entrance))?;
        let names: Vec<String> = (place.controllers.iter())
            .map(|controller| format!("+{}", controller.name()))
            .collect();
        let control = own.join("cgroup.subtree_control");
        fs::write(&control, names.join(" ")).map_err(refused("handing on by", &control))
    }

    /// Where a group with these limits is made.
    fn places(&self, limits: &Limits) -> Result<Vec<&Place>, CgroupError> {
        // Which controllers these are does not depend on the version.
        let files = limits.files(true);
        let mut wanted: BTreeSet<Controller> = files.iter().map(|(of, ..)| *of).collect();
        if self.has(Controller::Cpu) {
            wanted.insert(Controller::Cpu);
        }
        let (unified, legacy): (Vec<_>, Vec<_>) =
            self.places.iter().partition(|place| place.unified);
        let mut places: Vec<&Place> = legacy
            .into_iter()
            .filter(|place| !place.controllers.is_disjoint(&wanted))
            .collect();
        for place in &places {
            wanted.retain(|controller| !place.controllers.contains(controller));
        }
        if let Some(first) = wanted.first() {
            // In version 2 a process is in one group, so that all must come with it. The higher a group the more it hands on.
            let all = unified
                .into_iter()
                .find(|place| place.controllers.is_superset(&wanted));
            let missing = wanted.iter().find(|controller| !self.has(**controller));
            places.push(all.ok_or(CgroupError::NoPlace(missing.unwrap_or(first).name()))?);
        }
        Ok(places)
    }

    /// Removes what processes of vtax that are gone have left, and says what that was: their groups are empty, or will be
    /// in a moment, since guests die with them.
    pub fn sweep(&self) -> Vec<PathBuf> {
        let mut removed = Vec::new();
        for place in &self.places {
            for name in self.root.entries(&place.directory).unwrap_or_default() {
                let owner = name
                    .strip_prefix(PREFIX)
                    .and_then(|rest| rest.split_once('-'))
                    .map(|(owner, _)| owner)
                    .and_then(|owner| owner.parse().ok());
                if owner.is_some_and(|owner| running(&self.root, owner).is_none()) {
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

/// This process's own group of version 2, where it was delegated to it, and nobody else is in it.
fn delegated(root: &HostRoot, directory: &Path) -> Option<Place> {
    let place = below_root(directory);
    let marked = ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0; 1];
        let read = rustix::fs::getxattr(root.path(&place), *name, &mut value);
        read.is_ok() && value == *b"1"
    });
    let words = |name| root.text(&file(directory, name)).unwrap_or_default();
    let alone = words("cgroup.procs") == std::process::id().to_string();
    if !marked || !alone || !words("cgroup.subtree_control").is_empty() {
        return None;
    }
    let has = words("cgroup.controllers");
    let has: Vec<&str> = has.split_whitespace().collect();
    Some(Place {
        directory: place,
        unified: true,
        own: true,
        controllers: (Controller::ALL.into_iter())
            .filter(|controller| has.contains(&controller.name()))
            .collect(),
    })
}

/// The controllers that the children of a group of version 2 have.
fn handed_on(root: &HostRoot, directory: &Path) -> BTreeSet<Controller> {
    let text = root
        .text(&file(directory, "cgroup.subtree_control"))
        .unwrap_or_default();
    let handed: Vec<&str> = text.split_whitespace().collect();
    Controller::ALL
        .into_iter()
        .filter(|controller| handed.contains(&controller.name()))
        .collect()
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
    places: Vec<Place>,
}

impl Group {
    fn limit(&self, limits: &Limits) -> Result<(), CgroupError> {
        for place in &self.places {
            if !place.unified && place.controllers.contains(&Controller::Cpuset) {
                self.furnish(place)?;
            }
            for (controller, name, value) in limits.files(place.unified) {
                if place.controllers.contains(&controller) {
                    self.write(place, name, &value)?;
                }
            }
        }
        Ok(())
    }

    /// Gives a new cpuset of version 1 the CPUs and the memory of the group above: it has none, and so nobody may join it
    /// (Linux, admin-guide/cgroup-v1/cpusets.rst).
    fn furnish(&self, place: &Place) -> Result<(), CgroupError> {
        let (above, _) = place.directory.rsplit_once('/').unwrap_or_default();
        for (name, effective) in [
            ("cpuset.cpus", "cpuset.effective_cpus"),
            ("cpuset.mems", "cpuset.effective_mems"),
        ] {
            let path = self.root.path(&format!("{above}/{effective}"));
            let value = fs::read_to_string(&path).map_err(refused("reading", &path))?;
            self.write(place, name, value.trim())?;
        }
        Ok(())
    }

    fn write(&self, place: &Place, name: &'static str, value: &str) -> Result<(), CgroupError> {
        let path = self.root.path(&format!("{}/{name}", place.directory));
        fs::write(&path, value).map_err(|error| match path.exists() {
            // The kernel answers that the file may not be made.
            false => CgroupError::NoFile(name),
            true => refused(&format!("writing {value} to"), &path)(error),
        })
    }

    /// Where the group is, in each hierarchy.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let places = self.places.iter();
        places
            .map(|place| self.root.path(&place.directory))
            .collect()
    }

    /// The files through which a process that has one thread only joins the group by writing 0. That is the quick way: the
    /// kernel stops no other process for it, as it does where someone moves a process by its id.
    #[must_use]
    pub fn entrances(&self) -> Vec<PathBuf> {
        let places = self.places.iter();
        places
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
        self.places
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
        while let Some(place) = self.places.last() {
            let path = self.root.path(&place.directory);
            remove(&path).map_err(refused("removing the control group", &path))?;
            self.places.pop();
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
#[path = "cgroups_tests.rs"]
mod tests;
