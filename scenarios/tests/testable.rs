//! What of a plan a host can test: one judgement, whatever the claim is about.

use vtax_scenarios::plan::{HostFacts, Knob, KnobFact, Obstacle};
use vtax_scenarios::{Loaded, Overrides, Testability, parse};

fn loaded(text: &str) -> Loaded {
    let text = format!("schema = 1\nname = \"s\"\n{text}");
    parse("s.toml", &text, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn host() -> HostFacts {
    HostFacts {
        cpus: vec![0, 1],
        numa_nodes: vec![0],
        thp: true,
        max_vcpus: 8,
        available_memory: 1 << 30,
        features: u32::MAX,
        ..HostFacts::default()
    }
}

fn of(text: &str, facts: &HostFacts) -> Testability {
    Testability::of(&loaded(text).plan, facts)
}

#[test]
fn all_that_a_cell_lacks_is_told_in_one_voice() {
    let text = "[guest]\nnuma-node = 1\npinning = [7]\n[[workload]]\nname = \"cpu-hash\"\n[[workload]]\nname = \"cpu-bits\"";
    let loaded = loaded(text);
    let found = Testability::of(&loaded.plan, &host());
    let rendered = found.render(&loaded.plan, &loaded.spans, false);
    for lack in ["NUMA node 1", "CPU 7"] {
        assert_eq!(rendered.matches(lack).count(), 1, "{rendered}");
    }
    assert!(!rendered.contains("error"), "{rendered}");
    assert!(rendered.contains("cpu-hash, and one more"), "{rendered}");
    let summary = found.summary(&loaded.plan);
    assert!(
        summary.starts_with("0 of 2 cells can be measured here; not testable here: "),
        "{summary}"
    );
    let text = found.cells_text();
    assert!(text[&0].contains("NUMA node 1") && text[&0].contains("CPU 7"));
}

#[test]
fn a_comparison_needs_both_of_a_pair() {
    let matrix = "[[workload]]\nname = \"mem-latency\"\nparams = { size = \"1MiB\" }\n[matrix]\n\"guest.backing\" = [\"4k\", \"2M\", \"thp\"]\n";
    let compare = |against: &str| {
        format!(
            "[claim]\ncompare = {{ of = {{ \"guest.backing\" = \"thp\" }}, against = {{ \"guest.backing\" = \"{against}\" }}, \
             what = \"rate\", at-least = \"99%\" }}\n{matrix}"
        )
    };
    let whole = of(&compare("2M"), &host()).whole.unwrap();
    assert!(whole.reason.contains("huge pages of 2MiB"), "{whole}");
    let possible = of(&compare("4k"), &host());
    assert_eq!((possible.cells.len(), possible.whole), (1, None));
    // A filter that took the pair away is no lack of the host.
    let plan = loaded(&compare("2M")).plan.filter("backing=4k");
    assert_eq!(Testability::of(&plan, &host()), Testability::default());
}

#[test]
fn a_claim_needs_one_of_the_cells_that_decide_it() {
    let text = |claim: &str| {
        format!(
            "{claim}\n[[workload]]\nname = \"cpu-aes\"\n[[workload]]\nname = \"mem-latency\"\nparams = {{ size = \"1MiB\" }}\n"
        )
    };
    let without_aes = HostFacts {
        features: 0,
        ..host()
    };
    let claimed = of(
        &text("[claim]\nratio = \"97%\"\nover = \"cpu\""),
        &without_aes,
    );
    assert!(claimed.whole.unwrap().reason.contains("lacks aes"));
    for other in ["[claim]\nratio = \"97%\"\nover = \"memory\"", ""] {
        let found = of(&text(other), &without_aes);
        assert_eq!((found.cells.len(), found.whole), (1, None), "{other}");
    }
}

#[test]
fn experiments_are_checked_as_cells_are() {
    let experiment = |rest: &str| format!("[[experiment]]\nkind = {rest}\n");
    let small = host();
    for (text, lack) in [
        (
            "\"boot\"\nparams = { guests = 65 }",
            "1040 MiB of memory, 1024",
        ),
        ("\"ksm\"", "no KSM"),
        ("\"density\"", "control group for CPU time"),
        ("\"weights\"", "control group for CPU time"),
        ("\"quota\"", "control group for CPU time"),
        (
            "\"growth\"\nparams = { growth = \"1GiB\" }",
            "1088 MiB of memory",
        ),
    ] {
        let found = of(&experiment(text), &small);
        let whole = found.whole.clone().unwrap_or_else(|| panic!("{text}"));
        let told = found.experiments_text()[&0].clone();
        assert!(
            told.contains(lack) && told.contains(&whole.reason),
            "{told}"
        );
    }
    for fine in [
        "\"boot\"\nparams = { guests = 64 }",
        "\"idle\"",
        "\"isolation\"",
        "\"growth\"",
    ] {
        assert_eq!(
            of(&experiment(fine), &small),
            Testability::default(),
            "{fine}"
        );
    }
    let obstacle = Obstacle {
        reason: "not root".to_owned(),
        remedy: "run as root".to_owned(),
    };
    let off = KnobFact {
        present: Some("off".to_owned()),
        obstacle: Some(obstacle),
        ..KnobFact::default()
    };
    let knobs = [Knob::Ksm, Knob::KsmPagesToScan, Knob::KsmSleep];
    let with_ksm = HostFacts {
        ksm: true,
        available_memory: 1 << 40,
        knobs: knobs.into_iter().map(|knob| (knob, off.clone())).collect(),
        ..host()
    };
    let found = of(&experiment("\"ksm\""), &with_ksm);
    assert_eq!(found.whole.unwrap().to_string(), "not root; run as root");
    let too_little = HostFacts {
        available_memory: 1 << 30,
        ..with_ksm
    };
    let lacks = &of(&experiment("\"ksm\""), &too_little).experiments[&0];
    assert!(lacks[0].reason.contains("2048 MiB of memory"), "{lacks:?}");
    let thp = "\"growth\"\nparams = { backing = \"thp\" }";
    let without_thp = HostFacts {
        thp: false,
        ..host()
    };
    assert!(of(&experiment(thp), &without_thp).whole.is_some());
}

#[test]
fn what_can_be_tried_is_tried_beside_what_cannot() {
    let text = "[[experiment]]\nkind = \"boot\"\n[[experiment]]\nkind = \"ksm\"\n[[workload]]\nname = \"cpu-hash\"\n";
    let loaded = loaded(text);
    let found = Testability::of(&loaded.plan, &host());
    assert_eq!(found.whole, None);
    assert_eq!(
        found.summary(&loaded.plan),
        "its cell can be measured here; 1 of 2 experiments can be measured here"
    );
    // The place is that of the experiment, not of the first line.
    let rendered = found.render(&loaded.plan, &loaded.spans, false);
    assert!(rendered.contains("s.toml:6:8"), "{rendered}");
}

#[test]
fn without_kvm_it_is_kvm_that_is_lacking() {
    let none = HostFacts {
        max_vcpus: 0,
        ..host()
    };
    let text = "[guest]\nhalt-poll = \"50us\"\n[[workload]]\nname = \"lat-hypercall\"\n[[experiment]]\nkind = \"idle\"\n";
    let found = of(text, &none);
    for lacks in found.cells.values().chain(found.experiments.values()) {
        assert_eq!(lacks.len(), 1, "{lacks:?}");
        assert!(lacks[0].reason.contains("cannot run a KVM guest"));
    }
    assert_eq!(found.cells.len() + found.experiments.len(), 2);
}

#[test]
fn more_than_all_of_a_guest_s_memory_is_a_mistake_in_the_file() {
    let text = "schema = 1\nname = \"s\"\n[[experiment]]\nkind = \"ksm\"\nparams = { zero-percent = [5, 70], common-percent = 40 }\n";
    let error = parse("s.toml", text, &Overrides::default()).unwrap_err();
    assert!(error.to_string().contains("are 110 together"), "{error}");
}
