//! Which device is behind a disk, and where its interrupts arrive.
//!
//! ```text
//! file ──► device number ──► /sys/dev/block ─┬─ partition: its disk
//!                                            ├─ mapped, array: what it is made of
//!                                            ├─ loop: the file behind it
//!                                            └─ a device: its controller's interrupts ──► /proc/irq
//! ```
//!
//! Sources: Linux, Documentation/ABI/testing/sysfs-bus-pci (`msi_irqs`), Documentation/core-api/irq/irq-affinity.rst.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, fstat, major, minor};
use vtax_reports::native_disk::{Device, Found, Interrupt};
use vtax_reports::record::Reading;

use super::root::HostRoot;

/// Devices on devices on devices; no sane host has more of them.
const DEEPEST: usize = 8;

/// The devices behind a file or block device.
#[must_use]
pub fn behind(root: &HostRoot, file: BorrowedFd<'_>) -> Found<Vec<Device>> {
    let stat = match fstat(file) {
        Ok(stat) => stat,
        Err(error) => {
            return Found::Unavailable(format!("the disk says nothing of itself: {error}"));
        }
    };
    match devices(root, &number(&stat), DEEPEST) {
        Ok(devices) => Found::Value(devices),
        Err(reason) => Found::Unavailable(reason),
    }
}

/// The number of the device that a file lies on, or that it is, such as `254:0`.
fn number(stat: &Stat) -> String {
    let device = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => stat.st_rdev,
        _ => stat.st_dev,
    };
    format!("{}:{}", major(device), minor(device))
}

fn devices(root: &HostRoot, number: &str, deepest: usize) -> Result<Vec<Device>, String> {
    let link = root.path(&format!("sys/dev/block/{number}"));
    let own = fs::canonicalize(link).map_err(|error| match error.kind() {
        // Some file systems (tmpfs, btrfs, overlayfs, those of networks) are no block device's.
        io::ErrorKind::NotFound => {
            format!("the disk's file system names the device {number}, which is no block device")
        }
        _ => format!("/sys/dev/block/{number}: {error}"),
    })?;
    let disk = match own.join("partition").exists() {
        true => own.parent().map_or(own.clone(), Path::to_path_buf),
        false => own,
    };
    if deepest == 0 {
        return Err(format!("{} lies on too many others", name(&disk)));
    }
    let below = fs::read_dir(disk.join("slaves"));
    let below: Vec<PathBuf> = below
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    let mut numbers = Vec::new();
    for part in below {
        let dev = part.join("dev");
        let text =
            fs::read_to_string(&dev).map_err(|error| format!("{}: {error}", dev.display()))?;
        numbers.push(text.trim().to_owned());
    }
    if let Ok(file) = fs::read_to_string(disk.join("loop/backing_file")) {
        let file = file.trim();
        let stat = rustix::fs::stat(root.path(file.trim_start_matches('/')))
            .map_err(|error| format!("{}, the file behind {}: {error}", file, name(&disk)))?;
        numbers.push(self::number(&stat));
    }
    if numbers.is_empty() {
        return Ok(vec![Device {
            name: name(&disk),
            interrupts: interrupts(root, &disk),
        }]);
    }
    let mut all = Vec::new();
    for number in numbers {
        all.extend(devices(root, &number, deepest - 1)?);
    }
    all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    all.dedup();
    Ok(all)
}

/// The interrupts of the nearest of a device's parents that has some: its controller.
fn interrupts(root: &HostRoot, disk: &Path) -> Found<Vec<Interrupt>> {
    let parents = || {
        disk.ancestors()
            .take_while(|it| !it.ends_with("sys/devices"))
    };
    let own = parents().find_map(|parent| {
        let by_message = fs::read_dir(parent.join("msi_irqs")).ok();
        let mut numbers: Vec<u32> = by_message
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        if numbers.is_empty() {
            let line = fs::read_to_string(parent.join("irq")).ok();
            numbers.extend(line.and_then(|text| text.trim().parse::<u32>().ok()));
            numbers.retain(|&number| number > 0);
        }
        (!numbers.is_empty()).then_some(numbers)
    });
    // Devices that are no PCI function's (virtio-mmio, for one) show in the names of their handlers alone.
    let by_name = || {
        let known: Vec<(u32, String)> = root
            .entries("proc/irq")
            .unwrap_or_default()
            .iter()
            .filter_map(|entry| entry.parse().ok())
            .map(|number| (number, handlers(root, number)))
            .collect();
        parents().find_map(|parent| {
            let name = name(parent);
            let numbers: Vec<u32> = known
                .iter()
                .filter(|(_, handler)| {
                    let rest = handler.strip_prefix(&name);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
                })
                .map(|&(number, _)| number)
                .collect();
            (!numbers.is_empty()).then_some(numbers)
        })
    };
    let Some(mut numbers) = own.or_else(by_name) else {
        return Found::Unavailable(format!(
            "neither /sys nor the names in /proc/irq say which interrupts are those of {}",
            name(disk)
        ));
    };
    numbers.sort_unstable();
    let reading = |number: u32, file: &str| match root.text(&format!("proc/irq/{number}/{file}")) {
        Ok(text) => Reading::Value(text),
        Err(error) => Reading::Unavailable(error.to_string()),
    };
    Found::Value(
        numbers
            .into_iter()
            .map(|number| Interrupt {
                number,
                name: handlers(root, number),
                allowed: reading(number, "smp_affinity_list"),
                effective: reading(number, "effective_affinity_list"),
            })
            .collect(),
    )
}

/// The names of an interrupt's handlers: each has a directory.
fn handlers(root: &HostRoot, number: u32) -> String {
    let directory = format!("proc/irq/{number}");
    let mut names = root.entries(&directory).unwrap_or_default();
    names.retain(|name| root.path(&format!("{directory}/{name}")).is_dir());
    names.join(", ")
}

fn name(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::symlink;

    use super::super::fake::Tree;
    use super::*;

    /// A host with a virtio disk `vda` of one partition, and interrupts 35 and 36 on CPU 1.
    fn host(more: &[(&str, &str)]) -> Tree {
        const VDA: &str = "sys/devices/pci0000:00/0000:00:02.0/virtio1/block/vda";
        let tree = Tree::new(more);
        tree.write(&format!("{VDA}/dev"), "254:0\n");
        tree.write(&format!("{VDA}/vda1/partition"), "1\n");
        for (number, handler) in [(35, "virtio1-config"), (36, "virtio1-req.0")] {
            tree.write(&format!("proc/irq/{number}/{handler}/"), "");
            tree.write(&format!("proc/irq/{number}/smp_affinity_list"), "0-1\n");
            tree.write(&format!("proc/irq/{number}/effective_affinity_list"), "1\n");
        }
        tree.write("proc/irq/37/virtio10-req.0/", "");
        let blocks = tree.root().path("sys/dev/block");
        fs::create_dir_all(&blocks).unwrap();
        symlink(tree.root().path(VDA), blocks.join("254:0")).unwrap();
        symlink(
            tree.root().path(&format!("{VDA}/vda1")),
            blocks.join("254:1"),
        )
        .unwrap();
        tree
    }

    fn numbers(devices: &[Device]) -> Vec<u32> {
        let Found::Value(interrupts) = &devices[0].interrupts else {
            panic!("{devices:?}");
        };
        interrupts
            .iter()
            .map(|interrupt| interrupt.number)
            .collect()
    }

    #[test]
    fn interrupts_are_the_controller_s() {
        let tree = host(&[("sys/devices/pci0000:00/0000:00:02.0/msi_irqs/36", "msix\n")]);
        for number in ["254:0", "254:1"] {
            let found = devices(&tree.root(), number, DEEPEST).unwrap();
            assert_eq!(found[0].name, "vda");
            let Found::Value(interrupts) = &found[0].interrupts else {
                panic!("{found:?}");
            };
            let expected = Interrupt {
                number: 36,
                name: "virtio1-req.0".to_owned(),
                allowed: Reading::Value("0-1".to_owned()),
                effective: Reading::Value("1".to_owned()),
            };
            assert_eq!(interrupts, &[expected]);
        }
    }

    #[test]
    fn without_a_list_the_handlers_names_tell() {
        let found = devices(&host(&[]).root(), "254:1", DEEPEST).unwrap();
        assert_eq!(numbers(&found), [35, 36]);
    }

    #[test]
    fn a_volume_is_what_it_is_made_of() {
        let tree = host(&[("sys/devices/virtual/block/dm-0/dev", "253:0\n")]);
        let path = |relative: &str| tree.root().path(relative);
        let slaves = path("sys/devices/virtual/block/dm-0/slaves");
        fs::create_dir_all(&slaves).unwrap();
        symlink(path("sys/dev/block/254:1"), slaves.join("vda1")).unwrap();
        fs::write(path("sys/dev/block/254:1").join("dev"), "254:1\n").unwrap();
        symlink(
            path("sys/devices/virtual/block/dm-0"),
            path("sys/dev/block/253:0"),
        )
        .unwrap();
        let found = devices(&tree.root(), "253:0", DEEPEST).unwrap();
        assert_eq!((found.len(), found[0].name.as_str()), (1, "vda"));
        assert_eq!(numbers(&found), [35, 36]);
    }

    #[test]
    fn what_cannot_be_told_has_a_reason() {
        let tree = host(&[("sys/devices/virtual/block/zram0/dev", "252:0\n")]);
        let path = |relative: &str| tree.root().path(relative);
        symlink(
            path("sys/devices/virtual/block/zram0"),
            path("sys/dev/block/252:0"),
        )
        .unwrap();
        let found = devices(&tree.root(), "252:0", DEEPEST).unwrap();
        let Found::Unavailable(reason) = &found[0].interrupts else {
            panic!("{found:?}");
        };
        assert!(reason.contains("zram0"), "{reason}");
        let reason = devices(&tree.root(), "0:27", DEEPEST).unwrap_err();
        assert!(reason.contains("no block device"), "{reason}");
        // A disk that lies on itself.
        let slaves = path("sys/devices/virtual/block/zram0/slaves");
        fs::create_dir_all(&slaves).unwrap();
        symlink(path("sys/dev/block/252:0"), slaves.join("zram0")).unwrap();
        let reason = devices(&tree.root(), "252:0", DEEPEST).unwrap_err();
        assert!(reason.contains("too many"), "{reason}");
    }

    #[test]
    fn a_file_is_asked_for_its_device() {
        let file = tempfile::tempfile().unwrap();
        let stat = fstat(&file).unwrap();
        let tree = host(&[]);
        let number = number(&stat);
        let link = tree.root().path(&format!("sys/dev/block/{number}"));
        if !link.exists() {
            symlink(tree.root().path("sys/dev/block/254:0"), link).unwrap();
        }
        let Found::Value(found) = behind(&tree.root(), file.as_fd()) else {
            panic!("no device");
        };
        assert_eq!(found[0].name, "vda");
    }
}
