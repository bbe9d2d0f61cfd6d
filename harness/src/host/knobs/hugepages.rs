//! Huge pages that the host reserves (Documentation/admin-guide/mm/hugetlbpage.rst).
//!
//! Always node by node: what the kernel makes of a number for the whole host could not be put back as it was.

use vtax_scenarios::plan::Obstacle;

use super::super::root::HostRoot;
use super::{HostKnob, Part, Wanted, absent};

/// Huge pages of one size.
#[derive(Debug)]
pub(super) struct Hugepages {
    kibibytes: u32,
}

/// Pages of 2 MiB.
pub(super) const OF_2M: Hugepages = Hugepages { kibibytes: 2048 };
/// Pages of 1 GiB.
pub(super) const OF_1G: Hugepages = Hugepages {
    kibibytes: 1_048_576,
};

impl HostKnob for Hugepages {
    fn parts(&self, host: &HostRoot) -> Result<Vec<Part>, Obstacle> {
        let pages = format!("hugepages/hugepages-{}kB/nr_hugepages", self.kibibytes);
        let nodes = host
            .list("sys/devices/system/node/has_memory")
            .unwrap_or_default();
        let mut files: Vec<String> = nodes
            .iter()
            .map(|node| format!("sys/devices/system/node/node{node}/{pages}"))
            .filter(|file| host.exists(file))
            .collect();
        if files.is_empty() {
            // A kernel without NUMA shows no nodes.
            let whole = format!("sys/kernel/mm/{pages}");
            files.extend(host.exists(&whole).then_some(whole));
        }
        if files.is_empty() {
            return Err(absent(
                &format!("huge pages of {} KiB", self.kibibytes),
                self.elsewise(),
            ));
        }
        Ok(files.into_iter().map(Part::file).collect())
    }

    /// A number for the whole host is spread evenly over its nodes; the first ones take what is left over.
    fn texts(&self, wanted: &Wanted<'_>) -> Result<Vec<String>, Obstacle> {
        let nodes = wanted.parts.len();
        let numbers: Vec<u64> = wanted
            .value
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        let pages = match numbers.as_slice() {
            [all] if !wanted.value.starts_with('[') => {
                let count = nodes as u64;
                (0..count)
                    .map(|node| all / count + u64::from(node < all % count))
                    .collect()
            }
            _ if numbers.len() == nodes => numbers,
            _ => {
                return Err(Obstacle {
                    reason: format!(
                        "{} names {} NUMA nodes, this host has {nodes} with memory",
                        wanted.value,
                        numbers.len()
                    ),
                    remedy: "write a number for each node, or one for the whole host".to_owned(),
                });
            }
        };
        Ok(pages.iter().map(u64::to_string).collect())
    }

    fn value(&self, _parts: &[Part], texts: &[String]) -> String {
        match texts {
            [one] => one.clone(),
            nodes => format!("[{}]", nodes.join(", ")),
        }
    }

    fn elsewise(&self) -> &'static str {
        "run a kernel with CONFIG_HUGETLBFS on a CPU with pages of that size, as root"
    }
}
