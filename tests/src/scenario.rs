//! Scenarios that are over in a moment.

/// Two cells, four short boots each: enough that a busy machine does not spoil them all. Such a run says little about
/// the machine, so its claim had better be modest.
#[must_use]
pub fn tiny(claim: &str) -> String {
    format!(
        r#"schema = 1
name = "tiny"

[guest]
memory = "16MiB"

[measure]
precision = "20%"
block = "10ms"
rounds = 3
pilot-boots = 4
max-boots = 4

[claim]
ratio = "{claim}"
over = "all"

[[workload]]
name = "cpu-hash"

[[workload]]
name = "mem-latency"
params = {{ size = "16KiB" }}
"#
    )
}

/// A claim that no machine fulfils: each page that a guest touches first is mapped twice, by the host for the guest and
/// by the host for itself.
pub const SLOW: &str = r#"schema = 1
name = "slow"

[guest]
memory = "16MiB"

[measure]
precision = "20%"
block = "10ms"
rounds = 2
pilot-boots = 5
max-boots = 5

[claim]
ratio = "100%"

[[workload]]
name = "mem-first-touch"
params = { size = "4MiB" }
"#;

/// One cell that measures until its budget of a minute is used up, unless something stops it.
pub const LONG: &str = r#"schema = 1
name = "long"

[guest]
memory = "16MiB"

[measure]
precision = "0.01%"
block = "10ms"
rounds = 2
pilot-boots = 1000

[[workload]]
name = "cpu-hash"
"#;

/// A healthy cell beside these workloads, which fail. Many in one run would each cost a boot, no more.
#[must_use]
pub fn healthy_and(faults: &[&str]) -> String {
    let faults: String = faults
        .iter()
        .map(|name| format!("\n[[workload]]\nname = \"{name}\"\n"))
        .collect();
    tiny("10%").replace("name = \"tiny\"", "name = \"faulty\"") + &faults
}
