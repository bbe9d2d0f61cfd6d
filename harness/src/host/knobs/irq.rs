//! Interrupts off the measured CPUs (Documentation/core-api/irq/irq-affinity.rst).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use vtax_scenarios::plan::Obstacle;

use super::super::root::{HostRoot, format_list};
use super::{HostKnob, Part, Wanted, absent};

/// Where new interrupts go, as a mask in hexadecimal.
const DEFAULT: &str = "proc/irq/default_smp_affinity";

/// Every interrupt that lets itself be moved, and where new ones go.
#[derive(Debug)]
pub(super) struct IrqsAway;

impl HostKnob for IrqsAway {
    fn parts(&self, host: &HostRoot) -> Result<Vec<Part>, Obstacle> {
        let mut numbers: Vec<u32> = host
            .entries("proc/irq")
            .unwrap_or_default()
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        numbers.sort_unstable();
        // Those that belong to a CPU, or that a driver manages, are read-only.
        let movable = |file: &String| {
            fs::metadata(host.path(file)).is_ok_and(|of| of.permissions().mode() & 0o200 != 0)
        };
        let mut files: Vec<String> = numbers
            .iter()
            .map(|number| format!("proc/irq/{number}/smp_affinity_list"))
            .filter(movable)
            .collect();
        files.extend(host.exists(DEFAULT).then(|| DEFAULT.to_owned()));
        if files.is_empty() {
            return Err(absent(
                "interrupt that can be moved (/proc/irq)",
                self.elsewise(),
            ));
        }
        Ok(files.into_iter().map(Part::file).collect())
    }

    fn texts(&self, wanted: &Wanted<'_>) -> Result<Vec<String>, Obstacle> {
        let online = wanted
            .host
            .list("sys/devices/system/cpu/online")
            .map_err(|error| Obstacle {
                reason: error.to_string(),
                remedy: "mount /sys".to_owned(),
            })?;
        let without = |cpus: Vec<u32>| -> Vec<u32> {
            cpus.into_iter()
                .filter(|cpu| !wanted.measured.contains(cpu))
                .collect()
        };
        let others = without(online);
        if others.is_empty() {
            return Err(Obstacle {
                reason: "every CPU is measured, so there is none that interrupts could go to"
                    .to_owned(),
                remedy: "write fewer vcpus".to_owned(),
            });
        }
        // An interrupt stays where it was, but for the measured CPUs.
        let kept = |cpus: Option<Vec<u32>>| {
            let kept = without(cpus.unwrap_or_default());
            if kept.is_empty() {
                others.clone()
            } else {
                kept
            }
        };
        Ok(wanted
            .parts
            .iter()
            .zip(wanted.originals)
            .map(|(part, text)| {
                if part.path() == DEFAULT {
                    mask_text(&kept(mask(text)), text)
                } else {
                    format_list(&kept(super::super::root::parse_list(text)))
                }
            })
            .collect())
    }

    /// Which CPUs are measured is the cell's affair: of itself no host keeps interrupts off them.
    fn value(&self, _parts: &[Part], _texts: &[String]) -> String {
        "off".to_owned()
    }

    fn elsewise(&self) -> &'static str {
        "run as root on a kernel that shows /proc/irq"
    }

    /// A driver may keep an interrupt where it is, and the kernel tells by EIO alone.
    fn parts_may_refuse(&self) -> bool {
        true
    }
}

/// The CPUs of a mask such as `ff` or `00000001,00000003`.
fn mask(text: &str) -> Option<Vec<u32>> {
    let digits: String = text.split(',').collect();
    let mut cpus = Vec::new();
    for (place, digit) in (0..).zip(digits.chars().rev()) {
        let digit = digit.to_digit(16)?;
        cpus.extend(
            (0..4)
                .filter(|bit| digit >> bit & 1 == 1)
                .map(|bit| place * 4 + bit),
        );
    }
    Some(cpus)
}

/// The mask of these CPUs, laid out like `like`, which is as wide as the kernel writes it.
fn mask_text(cpus: &[u32], like: &str) -> String {
    let digits = (0..).zip(like.chars().rev().filter(|c| *c != ','));
    let mut masked = digits.map(|(place, _): (u32, char)| {
        let bits = (0..4).filter(|bit| cpus.contains(&(place * 4 + bit)));
        char::from_digit(bits.fold(0, |digit, bit| digit | 1 << bit), 16).unwrap_or('0')
    });
    let text: String = like
        .chars()
        .rev()
        .map(|c| {
            if c == ',' {
                c
            } else {
                masked.next().unwrap_or('0')
            }
        })
        .collect();
    text.chars().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_their_layout() {
        for (text, cpus) in [
            ("3", vec![0, 1]),
            ("ff", (0..8).collect()),
            ("00000001,80000002", vec![1, 31, 32]),
        ] {
            assert_eq!(mask(text), Some(cpus.clone()));
            assert_eq!(mask_text(&cpus, text), text);
        }
        assert_eq!(mask_text(&[1], "ff"), "02");
        assert_eq!(mask("3g"), None);
    }
}
