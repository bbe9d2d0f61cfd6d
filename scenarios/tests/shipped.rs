//! The scenarios that ship with vtax.

use vtax_scenarios::plan::{BlockKind, HostFacts, Knob, KnobFact};
use vtax_scenarios::{Overrides, Testability, claims, explain, explain_claim, host, list, shipped};

fn on_two_cpus() -> Overrides {
    Overrides {
        cpus: Some(2),
        ..Overrides::default()
    }
}

#[test]
fn all_are_sound_described_and_named_after_their_files() {
    assert!(!list().is_empty());
    for scenario in list() {
        let loaded = scenario
            .load(&on_two_cpus())
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(loaded.plan.scenario, scenario.name);
        assert_eq!(loaded.plan.description, scenario.description());
        assert!(!scenario.description().is_empty());
        assert_eq!(loaded.render_warnings(false), "");
        assert_eq!(shipped(scenario.name), Some(scenario));
    }
}

#[test]
fn their_plans_explained() {
    for scenario in list() {
        let plan = scenario.load(&on_two_cpus()).unwrap().plan;
        insta::assert_snapshot!(format!("explain_{}", scenario.name), explain(&plan));
    }
}

#[test]
fn rate_mode_grows_with_the_host() {
    for cpus in [1, 4, 32] {
        let overrides = Overrides {
            cpus: Some(cpus),
            ..Overrides::default()
        };
        let plan = shipped("rate-all-cores")
            .unwrap()
            .load(&overrides)
            .unwrap()
            .plan;
        assert!(plan.cells.iter().all(|cell| cell.guest.vcpus == cpus));
    }
}

#[test]
fn the_quick_one_leaves_time_for_setting_up_guests() {
    let plan = shipped("quick")
        .unwrap()
        .load(&Overrides::default())
        .unwrap()
        .plan;
    assert!(plan.budget_nanos <= 28_000_000_000);
    assert!(plan.pilot_nanos() * 2 <= plan.budget_nanos);
}

#[test]
fn a_plain_host_runs_some_cells_of_each() {
    let madvise = KnobFact {
        present: Some("madvise".to_owned()),
        ..KnobFact::default()
    };
    let facts = HostFacts {
        cpus: vec![0, 1],
        numa_nodes: vec![0],
        thp: true,
        max_vcpus: 32,
        available_memory: 4 << 30,
        knobs: [(Knob::Thp, madvise)].into(),
        ..HostFacts::default()
    };
    for scenario in list() {
        let plan = scenario.load(&on_two_cpus()).unwrap().plan;
        let found = Testability::of(&plan, &facts);
        assert!(
            plan.cells.is_empty() || found.cells.len() < plan.cells.len(),
            "{}",
            scenario.name
        );
    }
}

#[test]
fn plans_survive_json() {
    for scenario in list() {
        let plan = scenario.load(&on_two_cpus()).unwrap().plan;
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(
            serde_json::from_str::<vtax_scenarios::plan::Plan>(&text).unwrap(),
            plan
        );
    }
    assert_eq!(
        serde_json::to_string(&BlockKind::Native).unwrap(),
        "\"native\""
    );
}

#[test]
fn claims_are_sound_and_say_who_made_them_and_why_by_that_threshold() {
    let mut names: Vec<&str> = list().iter().chain(claims()).map(|it| it.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(
        names.len(),
        list().len() + claims().len(),
        "names are unique"
    );
    for scenario in claims() {
        let loaded = scenario
            .load(&on_two_cpus())
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(loaded.plan.scenario, scenario.name);
        assert_eq!(loaded.render_warnings(false), "", "{}", scenario.name);
        let claim = &loaded.plan.claim;
        for text in [&claim.words, &claim.source, &claim.why] {
            assert!(!text.is_empty(), "{}", scenario.name);
        }
        let text = serde_json::to_string(&loaded.plan).unwrap();
        assert_eq!(
            serde_json::from_str::<vtax_scenarios::plan::Plan>(&text).unwrap(),
            loaded.plan
        );
    }
}

/// Where guests run under shadow paging, a claim on EPT and NPT is neither kept nor refuted.
#[test]
fn a_claim_on_two_dimensional_paging_is_for_hosts_that_have_it() {
    let facts = |present: Option<&str>| HostFacts {
        max_vcpus: 32,
        knobs: present
            .map(|present| {
                let present = Some(present.to_owned());
                let fact = KnobFact {
                    present,
                    ..KnobFact::default()
                };
                (Knob::TwoDimensionalPaging, fact)
            })
            .into_iter()
            .collect(),
        ..HostFacts::default()
    };
    let plan = shipped("memory-latency-95").unwrap().load(&on_two_cpus());
    let explained = explain(&plan.unwrap().plan);
    assert!(explained.contains("EPT or NPT) for granted"), "{explained}");
    let lacking = |name: &str, facts: &HostFacts| {
        let plan = shipped(name).unwrap().load(&on_two_cpus()).unwrap().plan;
        host::premise_lacking(&plan, facts)
    };
    for present in [None, Some("off")] {
        let why = lacking("memory-latency-95", &facts(present))
            .unwrap()
            .reason;
        assert!(why.contains("EPT or NPT"), "{why}");
    }
    assert_eq!(lacking("memory-latency-95", &facts(Some("on"))), None);
    assert_eq!(lacking("cpu-bound-97", &facts(None)), None);
    // Without KVM it is KVM that is lacking.
    assert_eq!(lacking("memory-latency-95", &HostFacts::default()), None);

    // A claim whose own [host] switches it on needs no host that has it on; experiments are not reached by [host].
    let of = |rest: &str| {
        let text = format!(
            "schema = 1\nname = \"s\"\n[claim]\nneeds = \"two-dimensional-paging\"\n{rest}"
        );
        let loaded = vtax_scenarios::parse("s.toml", &text, &on_two_cpus());
        let plan = loaded.unwrap_or_else(|error| panic!("{error}")).plan;
        host::premise_lacking(&plan, &facts(Some("off")))
    };
    let on = "[host]\ntwo-dimensional-paging = true\n[[workload]]\nname = \"cpu-hash\"\n";
    assert_eq!(of(on), None);
    assert!(of(&format!("{on}[[experiment]]\nkind = \"boot\"\n")).is_some());
}

#[test]
fn claims_explained() {
    let texts: Vec<String> = claims()
        .iter()
        .map(|claim| explain_claim(&claim.load(&on_two_cpus()).unwrap().plan))
        .collect();
    insta::assert_snapshot!("claims_explained", texts.join("\n"));
}

/// The 99th percentile takes 500 gaps in a boot, and an interrupt leaves one: with 500 in a second, a boot needs a second.
#[test]
fn a_boot_of_the_claim_on_jitter_is_long_enough_for_its_percentile() {
    let claim = claims().iter().find(|it| it.name == "pinning-jitter");
    let plan = claim.unwrap().load(&on_two_cpus()).unwrap().plan;
    assert!(!plan.cells.is_empty());
    for cell in &plan.cells {
        let nanos = cell.measure.block_nanos * u64::from(cell.measure.rounds);
        assert!(nanos >= 1_000_000_000, "{}: {nanos} ns", cell.label);
    }
}

#[test]
fn the_claims_end_within_ten_minutes() {
    let nanos = claims().iter().map(|claim| {
        let plan = claim.load(&on_two_cpus()).unwrap().plan;
        if plan.verdicts() == 0 {
            0
        } else {
            plan.budget_nanos
        }
    });
    assert!(
        nanos.sum::<u64>() <= 570_000_000_000,
        "a little is for setting up"
    );
}
