//! The energy that the host's processors take, where they count it (Linux powercap, `Documentation/power/powercap`).

use std::time::Instant;

use crate::host::root::HostRoot;

const ZONES: &str = "sys/class/powercap";

/// The counters of all processor packages.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    root: &'a HostRoot,
    packages: Vec<String>,
}

impl<'a> Meter<'a> {
    /// Finds the packages.
    ///
    /// # Errors
    /// Why the host counts no energy, or does not let this process read it.
    pub fn find(root: &'a HostRoot) -> Result<Self, String> {
        let zones = root.entries(ZONES).unwrap_or_default();
        // `intel-rapl:0` is a package, `intel-rapl:0:0` a part of one; AMD's processors come under the same name.
        let packages: Vec<String> = zones
            .into_iter()
            .filter(|name| name.starts_with("intel-rapl:") && name.matches(':').count() == 1)
            .collect();
        if packages.is_empty() {
            return Err(
                "this host counts no energy (no RAPL under /sys/class/powercap; on bare metal `modprobe intel_rapl_msr`)"
                    .to_owned(),
            );
        }
        let meter = Self { root, packages };
        meter.joules()?;
        Ok(meter)
    }

    /// Mean power while `work` runs, in watts. It runs in any case.
    ///
    /// # Errors
    /// A counter cannot be read, or began anew meanwhile.
    pub fn watts(&self, work: impl FnOnce()) -> Result<f64, String> {
        let (start, before) = (Instant::now(), self.joules());
        work();
        let (seconds, after) = (start.elapsed().as_secs_f64(), self.joules());
        let (before, after) = (before?, after?);
        if after < before {
            return Err("a counter of energy began anew in between".to_owned());
        }
        Ok((after - before) / seconds)
    }

    fn joules(&self) -> Result<f64, String> {
        self.packages
            .iter()
            .map(|package| {
                let path = format!("{ZONES}/{package}/energy_uj");
                let micros: f64 = self.root.number(&path).map_err(|error| error.to_string())?;
                Ok(micros / 1e6)
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;

    #[test]
    fn packages_are_added_up_and_their_parts_are_not() {
        let fake = Tree::new(&[]);
        for (zone, micros) in [
            ("intel-rapl:0", "5000000"),
            ("intel-rapl:1", "7000000"),
            ("intel-rapl:0:0", "900"),
        ] {
            fake.write(&format!("{ZONES}/{zone}/energy_uj"), micros);
        }
        let root = fake.root();
        let meter = Meter::find(&root).unwrap();
        assert_eq!(meter.joules(), Ok(12.0));
        let later = || fake.write(&format!("{ZONES}/intel-rapl:0/energy_uj"), "9000000");
        assert!(meter.watts(later).unwrap() > 0.0);
        let anew = || fake.write(&format!("{ZONES}/intel-rapl:0/energy_uj"), "0");
        assert!(meter.watts(anew).unwrap_err().contains("anew"));
    }

    #[test]
    fn a_host_without_counters_says_so() {
        let reason = Meter::find(&Tree::new(&[]).root()).unwrap_err();
        assert!(reason.contains("powercap"), "{reason}");
    }
}
