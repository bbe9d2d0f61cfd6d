//! Exits, interrupts, wake-ups and timers: what has a native side is compared, what has none is a cost.

use serde_json::Value;
use vtax_tests::Stage;

/// One vCPU, and a thread on another CPU for those that need one.
const ALONE: &str = r#"schema = 1
name = "alone"

[guest]
memory = "16MiB"

[measure]
precision = "50%"
block = "10ms"
rounds = 2
pilot-boots = 3
max-boots = 3

[[workload]]
name = "lat-cpuid"

[[workload]]
name = "lat-port"

[[workload]]
name = "lat-msr"

[[workload]]
name = "lat-kick"

[[workload]]
name = "lat-inject"

[[workload]]
name = "lat-mailbox"

[[workload]]
name = "lat-clock"

[[workload]]
name = "lat-gaps"

[[workload]]
name = "lat-wake"

[[workload]]
name = "lat-timer"

[[workload]]
name = "lat-hypercall"
"#;

/// Two vCPUs that interrupt each other, with two ways of halting.
const PAIR: &str = r#"schema = 1
name = "pair"

[guest]
memory = "32MiB"
vcpus = 2

[measure]
precision = "50%"
block = "10ms"
rounds = 2
pilot-boots = 3
max-boots = 3

[[workload]]
name = "lat-ipi"
params = { to = ["running", "halted"] }

[matrix]
"guest.halt-poll" = ["0us", "200us"]
"#;

/// The results of a scenario whose claim does not matter.
fn results(stage: &Stage, text: &str) -> Value {
    stage.file("latency.toml", text);
    let outcome = stage.vtax("run latency.toml --out run").run();
    let code = outcome.code();
    assert!(matches!(code, Some(0 | 3 | 4)), "{outcome:#?}");
    stage.run_dir("run").json("results.json")
}

fn cells(results: &Value) -> &[Value] {
    results["cells"].as_array().expect("cells")
}

/// Whether the host lacks what the cell needs, such as a second CPU; it then says so.
fn lacks(cell: &Value, what: &str) -> bool {
    let reason = cell["reason"].as_str().expect("every cell has a reason");
    cell["verdict"] == "not_testable" && cell["failed"] == false && reason.contains(what)
}

#[test]
fn costs_and_comparisons_are_told_apart() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let results = results(&stage, ALONE);
    for cell in cells(&results) {
        let name = cell["workload"].as_str().expect("a name");
        if lacks(cell, "second CPU") || name == "lat-hypercall" && lacks(cell, "VT-x") {
            continue;
        }
        // Where another hypervisor lies below, it may answer CPUID, and says nothing of it.
        if name == "lat-cpuid" && lacks(cell, "does not leave the guest") {
            continue;
        }
        assert_eq!(cell["failed"], false, "{cell}");
        assert!(cell["guest"]["median"].as_f64().unwrap() > 0.0, "{cell}");
        let [is_cost, has_native] = match name {
            "lat-mailbox" | "lat-clock" | "lat-gaps" => [false, true],
            "lat-wake" | "lat-timer" => [true, true],
            _ => [true, false],
        };
        assert_eq!(cell["cost"].is_object(), is_cost, "{cell}");
        assert_eq!(cell["ratio"].is_object(), !is_cost, "{cell}");
        assert_eq!(cell["native"].is_object(), has_native, "{cell}");
        assert_eq!(cell["verdict"] == "cost", is_cost, "{cell}");
        // On a quiet machine there may be no gaps.
        if !["lat-clock", "lat-gaps"].contains(&name) {
            let quantiles = cell["quantiles"].as_array().expect("quantiles");
            assert!(!quantiles.is_empty(), "{cell}");
            for row in quantiles {
                assert_eq!(row["native"].is_object(), has_native, "{cell}");
                assert!(row["guest"]["value"].as_f64().unwrap() > 0.0, "{cell}");
            }
        }
    }
}

#[test]
fn vcpus_interrupt_each_other() {
    let Some(stage) = Stage::with_kvm() else {
        return;
    };
    let results = results(&stage, PAIR);
    assert_eq!(cells(&results).len(), 4);
    for cell in cells(&results) {
        if lacks(cell, "CPUs") {
            continue;
        }
        assert_eq!(cell["verdict"], "cost", "{cell}");
        assert!(cell["cost"]["value"].as_f64().unwrap() > 0.0, "{cell}");
    }
    // The vCPU that is interrupted has no figure of its own. Of the other's block there is the time as it was, pauses and
    // all, beside the median of its latencies.
    let samples = stage.run_dir("run").samples();
    assert!(samples.iter().all(|row| row.vcpu == 0));
    assert!(samples.iter().all(|row| {
        row.latency_ticks > 0 && row.ticks > row.iterations * u64::from(row.latency_ticks)
    }));
}

#[test]
fn a_lone_vcpu_cannot_interrupt_another() {
    let stage = Stage::new();
    stage.file("latency.toml", &PAIR.replace("vcpus = 2", "vcpus = 1"));
    let outcome = stage.vtax("scenario check latency.toml").run();
    outcome
        .exits(2)
        .complains(&["needs 2 vCPUs", "write vcpus = 2"]);
}
