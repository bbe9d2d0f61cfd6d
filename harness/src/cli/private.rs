//! What is nobody's business in a file that is sent away: names of hosts, users and folders, addresses, serial numbers.
//!
//! What may be told is listed, not what may not, wherever texts are free: paths and options of the kernel.

use regex_lite::{Captures, Regex};

/// What stands in place of what is private.
const REMOVED: &str = "(removed)";

/// A private word shorter than this could be a part of any other.
const SHORTEST: usize = 3;

/// Options of the kernel that a measurement may depend on; one that ends in `.` stands for all parameters of a module. Values of
/// others may name disks, servers and secrets.
const OPTIONS: [&str; 52] = [
    "amd_iommu",
    "amd_pstate",
    "audit",
    "cgroup_disable",
    "cgroup_enable",
    "cgroup_no_v1",
    "clocksource",
    "cpufreq.",
    "cpuidle.",
    "default_hugepagesz",
    "hugepages",
    "hugepagesz",
    "idle",
    "init_on_alloc",
    "init_on_free",
    "intel_idle.",
    "intel_iommu",
    "intel_pstate",
    "iommu",
    "iommu.",
    "irqaffinity",
    "isolcpus",
    "kthread_cpus",
    "kvm-amd.",
    "kvm-intel.",
    "kvm.",
    "kvm_amd.",
    "kvm_intel.",
    "l1tf",
    "maxcpus",
    "mds",
    "mem",
    "mitigations",
    "nmi_watchdog",
    "nohz",
    "nohz_full",
    "nosmt",
    "nr_cpus",
    "numa_balancing",
    "preempt",
    "processor.",
    "psi",
    "pti",
    "rcu_nocbs",
    "retbleed",
    "spec_store_bypass_disable",
    "spectre_v2",
    "systemd.unified_cgroup_hierarchy",
    "transparent_hugepage",
    "tsc",
    "tsx",
    "tsx_async_abort",
];

/// Paths that are the same on every host.
const PUBLIC_PATHS: [&str; 2] = ["/sys/", "/proc/"];

/// Directories of devices in which names are not a user's.
const PUBLIC_DEVICES: [&str; 3] = ["cpu", "net", "vfio"];

/// Addresses: of network cards with six or more bytes, IPv4, IPv6; UUIDs, which name disks.
const ADDRESSES: &str = r"(?ix)
    \b [0-9a-f]{2} ([:-][0-9a-f]{2}){5,} \b
    | \b [0-9]{1,3} (\.[0-9]{1,3}){3} \b
    | \b [0-9a-f]{1,4} (:[0-9a-f]{0,4}){3,7}
    | \b [0-9a-f]{1,4} :: [0-9a-f]{1,4} \b
    | \b [0-9a-f]{8} (-[0-9a-f]{4}){3} -[0-9a-f]{12} \b
";

/// An absolute path, with what stands before it; one in quotes goes to their end, blanks and all.
const PATH: &str = r#"(")(/[^"]+)|(^|[\s'`(=,:])(/[^\s"'`(),;:]+)"#;

/// What is private on this host.
#[derive(Debug)]
pub struct Private {
    words: Vec<String>,
    addresses: Regex,
    path: Regex,
}

impl Private {
    /// The names by which this host and its user are known.
    ///
    /// # Errors
    /// A pattern is none; they are constants.
    pub fn of_this_host() -> Result<Self, regex_lite::Error> {
        let system = rustix::system::uname();
        let names = [system.nodename(), system.domainname()].map(|name| name.to_string_lossy());
        let short = |name: &str| name.split('.').next().map(str::to_owned);
        let of_environment = ["HOME", "USER", "LOGNAME", "SUDO_USER"]
            .into_iter()
            .filter_map(|name| std::env::var(name).ok());
        let words = names
            .iter()
            .flat_map(|name| [Some(name.clone().into_owned()), short(name)])
            .flatten()
            .chain(of_environment);
        Self::named(words.collect())
    }

    fn named(mut words: Vec<String>) -> Result<Self, regex_lite::Error> {
        // The superuser is nobody in particular, and neither is a host without a name of its own.
        words.retain(|word| {
            word.len() >= SHORTEST && !["root", "/root", "(none)", "localhost"].contains(&&**word)
        });
        // A home contains its user's name: the longer first.
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        Ok(Self {
            words,
            addresses: Regex::new(ADDRESSES)?,
            path: Regex::new(PATH)?,
        })
    }

    /// The text without anything private.
    #[must_use]
    pub fn without(&self, text: &str) -> String {
        let text = self.path.replace_all(text, |found: &Captures<'_>| {
            let part = |number| found.get(number).map_or("", |part| part.as_str());
            let (before, path) = match part(2) {
                "" => (part(3), part(4)),
                quoted => (part(1), quoted),
            };
            if is_public(path) {
                format!("{before}{path}")
            } else {
                format!("{before}{REMOVED}")
            }
        });
        let mut text = self.addresses.replace_all(&text, REMOVED).into_owned();
        for word in &self.words {
            text = text.replace(word.as_str(), REMOVED);
        }
        text
    }
}

/// Whether the path names nothing of a user's: the kernel's own files, and devices by the kernel's own names.
fn is_public(path: &str) -> bool {
    if PUBLIC_PATHS.iter().any(|root| path.starts_with(root)) {
        return true;
    }
    let Some(device) = path.strip_prefix("/dev/") else {
        return false;
    };
    match device.split_once('/') {
        None => true,
        Some((directory, _)) => PUBLIC_DEVICES.contains(&directory),
    }
}

/// The kernel's command line with the values of those options alone that a measurement may depend on.
#[must_use]
pub fn kernel_options(line: &str) -> String {
    let shown = |option: &str| match option.split_once('=') {
        Some((name, _)) if !is_listed(name) => format!("{name}={REMOVED}"),
        _ => option.to_owned(),
    };
    let options: Vec<String> = line.split_whitespace().map(shown).collect();
    options.join(" ")
}

fn is_listed(name: &str) -> bool {
    OPTIONS
        .iter()
        .any(|listed| *listed == name || (listed.ends_with('.') && name.starts_with(listed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_paths_are_removed_wherever_they_stand() {
        let private = Private::named(vec![
            "eva".to_owned(),
            "host7.example.org".to_owned(),
            "host7".to_owned(),
            "root".to_owned(),
        ])
        .unwrap();
        for (text, expected) in [
            ("disk of eva on host7", "disk of (removed) on (removed)"),
            ("cannot read \"/home/eva/x y\"", "cannot read \"(removed)\""),
            ("path = /dev/vg0/customer", "path = (removed)"),
            ("at /dev/disk/by-id/nvme-S4EV, and", "at (removed), and"),
            ("eth0 02:00:5e:10:00:01, up", "eth0 (removed), up"),
            ("BOOTIF=01-02-00-5e-10-00-01", "BOOTIF=(removed)"),
            ("via 192.168.7.12:22", "via (removed):22"),
            ("fe80::1 and 2001:db8:0:1::17", "(removed) and (removed)"),
            (
                "UUID 0a1b2c3d-0001-0002-0003-0a1b2c3d4e5f",
                "UUID (removed)",
            ),
            ("host7.example.org", "(removed)"),
        ] {
            assert_eq!(private.without(text), expected);
        }
    }

    #[test]
    fn what_tells_of_the_machine_alone_stays() {
        let private = Private::named(vec!["root".to_owned(), "eva".to_owned()]).unwrap();
        for text in [
            "echo 512 | sudo tee /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            "/dev/kvm, /dev/net/tun, /dev/nvme0n1 (/proc/self/numa_maps)",
            "2026-12-01T02:00:59Z",
            "0000:41:00.0 3.5 GB/s EPT/NPT 6.18.44-fc-v669",
            "Intel(R) Xeon(R) Gold 6330 CPU @ 2.00GHz, microcode 0xd0003b9",
            "09780d9c5a0728d8b04e9bc437810a13aa08896794edcd5f49edf788db0b8170",
            "run as root",
        ] {
            assert_eq!(private.without(text), text);
        }
    }

    #[test]
    fn of_the_kernel_s_options_those_are_shown_that_matter() {
        let line = "BOOT_IMAGE=/vmlinuz root=LABEL=customer ro isolcpus=2-3 kvm_intel.ept=0 \
                    ip=10.0.0.7::10.0.0.1 token=abc nosmt";
        assert_eq!(
            kernel_options(line),
            "BOOT_IMAGE=(removed) root=(removed) ro isolcpus=2-3 kvm_intel.ept=0 ip=(removed) token=(removed) nosmt"
        );
        assert!(OPTIONS.is_sorted());
    }
}
