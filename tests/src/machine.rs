//! All of a machine that a run of vtax may change or leave something in, to be compared with what it was before.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::binary;

/// Folders whose files hold settings: what stands in each is compared byte for byte.
const SETTINGS: [&str; 5] = [
    "/sys/kernel/mm/transparent_hugepage",
    "/sys/kernel/mm/hugepages/hugepages-2048kB",
    "/sys/kernel/mm/hugepages/hugepages-1048576kB",
    "/sys/kernel/mm/ksm",
    "/sys/module/kvm/parameters",
];

/// Counts that the kernel keeps in the same folders, and that nobody sets.
const COUNTS: [&str; 8] = [
    "pages_shared",
    "pages_sharing",
    "pages_unshared",
    "pages_volatile",
    "pages_scanned",
    "pages_skipped",
    "full_scans",
    "general_profit",
];

/// Settings and huge-page pools with their bytes, control groups, mounts (a network namespace that has a name is one),
/// network links, loop devices, and processes of the vtax under test.
#[must_use]
pub fn machine() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for folder in SETTINGS {
        for name in names(Path::new(folder)) {
            let path = format!("{folder}/{name}");
            let counts = COUNTS.contains(&name.as_str()) || name.starts_with("stable_node");
            if !counts && let Ok(text) = fs::read_to_string(&path) {
                found.insert(path, text);
            }
        }
    }
    groups(Path::new("/sys/fs/cgroup"), &mut found);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    found.insert("mounts".to_owned(), mounts);
    let links = names(Path::new("/sys/class/net"));
    found.insert("links".to_owned(), links.join(" "));
    for disk in names(Path::new("/sys/block")) {
        let path = format!("/sys/block/{disk}/loop/backing_file");
        if let Ok(text) = fs::read_to_string(&path) {
            found.insert(path, text);
        }
    }
    for process in names(Path::new("/proc")) {
        let program = fs::read_link(format!("/proc/{process}/exe"));
        if program.is_ok_and(|program| program == binary::vtax()) {
            let line = fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
            found.insert(format!("process {process}"), line.replace('\0', " "));
        }
    }
    found
}

/// What differs between two states of the machine, a line each.
#[must_use]
pub fn differences(was: &BTreeMap<String, String>, is: &BTreeMap<String, String>) -> Vec<String> {
    let gone = was.keys().filter(|name| !is.contains_key(*name));
    let other = is
        .iter()
        .filter(|(name, text)| was.get(*name) != Some(text));
    gone.map(|name| format!("{name} is gone"))
        .chain(other.map(|(name, text)| format!("{name}: {text:?}, was {:?}", was.get(name))))
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The control groups below a folder that have vtax's name, each by its path: others come and go with whoever made them.
fn groups(folder: &Path, found: &mut BTreeMap<String, String>) {
    for name in names(folder) {
        let path = folder.join(&name);
        if path.is_dir() && !path.is_symlink() {
            if name.starts_with("vtax-") {
                found.insert(path.display().to_string(), String::new());
            }
            groups(&path, found);
        }
    }
}
