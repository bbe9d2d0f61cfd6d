//! From files to plans: defaults, combinations, order.

use proptest::prelude::*;
use vtax_scenarios::plan::{
    Backing, Content, Form, HostFacts, Neighbour, NeighbourDisk, NeighbourPinning, Net, NetBackend,
    PageSize, Pinning, Plan, Work,
};
use vtax_scenarios::{Overrides, list, parse};

fn plan(text: &str) -> Plan {
    match parse("s.toml", text, &Overrides::default()) {
        Ok(loaded) => loaded.plan,
        Err(error) => panic!("{error}"),
    }
}

fn labels(plan: &Plan) -> Vec<&str> {
    plan.cells.iter().map(|cell| cell.label.as_str()).collect()
}

#[test]
fn what_is_left_out_takes_its_default() {
    let plan = plan("schema = 1\nname = \"s\"\n[[workload]]\nname = \"cpu-hash\"");
    let cell = &plan.cells[0];
    assert_eq!((plan.seed, plan.budget_nanos), (1, 60_000_000_000));
    assert_eq!(plan.claim.ratio, 0.97);
    assert_eq!(cell.label, "cpu-hash");
    assert_eq!(cell.guest.vcpus, 1);
    assert_eq!(cell.guest.pinning, Pinning::OneToOne);
    assert_eq!(cell.guest.memory, 64 << 20);
    assert_eq!(cell.guest.backing, Backing::Small);
    assert_eq!(cell.guest.page_size, PageSize::Size2M);
    assert!(cell.guest.prefault);
    assert_eq!(cell.baseline_backing, None);
    assert_eq!(cell.measure.block_nanos, 12_000_000);
    assert!(cell.parameters.is_empty());
}

#[test]
fn who_serves_a_network_card_is_settled_for_the_host() {
    let text = "schema = 1\nname = \"s\"\n[guest]\nnet = \"virtio-net\"\n[[workload]]\nname = \"net-ping\"\n[matrix]\n\"guest.net-backend\" = [\"auto\", \"vhost\", \"vmm\"]";
    let plan = plan(text);
    let backends = |plan: &Plan| -> Vec<NetBackend> {
        let nets = plan.cells.iter().filter_map(|cell| cell.guest.net.as_ref());
        nets.map(|net| net.backend).collect()
    };
    use NetBackend::{Auto, Vhost, Vmm};
    assert_eq!(backends(&plan), [Auto, Vhost, Vmm]);
    for (vhost_net, auto) in [(true, Vhost), (false, Vmm)] {
        let facts = HostFacts {
            vhost_net,
            ..HostFacts::default()
        };
        assert_eq!(backends(&plan.settled(&facts)), [auto, Vhost, Vmm]);
    }
}

#[test]
fn a_record_from_before_there_was_a_choice_was_served_by_the_vmm() {
    let net = r#"{"link":"namespace","completion":"poll","poll_nanos":0,"io_cpu":null}"#;
    let net: Net = serde_json::from_str(net).unwrap();
    assert_eq!(net.backend, NetBackend::Vmm);
}

#[test]
fn overrides_go_before_the_file() {
    let text = "schema = 1\nname = \"s\"\nseed = 3\n[guest]\nvcpus = \"all\"\n[[workload]]\nname = \"cpu-hash\"";
    let overrides = Overrides {
        seed: Some(7),
        budget_nanos: Some(1_000_000_000),
        precision: Some(0.1),
        confidence: None,
        cpus: Some(2),
    };
    let plan = parse("s.toml", text, &overrides).unwrap().plan;
    assert_eq!((plan.seed, plan.budget_nanos), (7, 1_000_000_000));
    assert_eq!(plan.cells[0].measure.precision, 0.1);
    assert_eq!(plan.cells[0].guest.vcpus, 2);
    assert_eq!(plan.cells[0].guest.topology.cores, 2);
}

#[test]
fn lists_of_parameters_make_cells_and_the_matrix_goes_before_them() {
    let plan = plan(
        r#"
        schema = 1
        name = "s"
        [[workload]]
        name = "mem-latency"
        params = { size = ["16KiB", "1024KiB"] }
        [[workload]]
        name = "mem-tlb"
        params = { size = "2MiB" }
        [matrix]
        workload.mem-tlb.size = ["4MiB", "8MiB"]
        "guest.pinning" = ["none", { all-on = 0 }]
        exclude = [{ workload = "mem-tlb", "guest.pinning" = "none" }]
        include = [{ "workload.mem-tlb.size" = "16MiB", "guest.page-size" = "4k" }]
        "#,
    );
    assert_eq!(
        labels(&plan),
        [
            "mem-latency size=16KiB / guest.pinning=none",
            "mem-latency size=16KiB / guest.pinning={ all-on = 0 }",
            "mem-latency size=1MiB / guest.pinning=none",
            "mem-latency size=1MiB / guest.pinning={ all-on = 0 }",
            "mem-tlb size=4MiB / guest.pinning={ all-on = 0 }",
            "mem-tlb size=8MiB / guest.pinning={ all-on = 0 }",
            "mem-tlb size=16MiB / guest.page-size=4k",
        ]
    );
    let last = &plan.cells[6];
    assert_eq!(last.guest.page_size, PageSize::Size4K);
    assert_eq!(last.guest.pinning, Pinning::OneToOne);
    assert_eq!(last.workload.params[0], 16 << 20);
    assert_eq!(last.parameters["size"], "16MiB");
    assert_eq!(last.parameters["guest.page-size"], "4k");
}

#[test]
fn any_field_of_a_cell_can_vary() {
    let axes = [
        ("guest.vcpus", "[1, 2]"),
        ("guest.memory", r#"["32MiB", "16MiB per vcpu"]"#),
        ("guest.backing", r#"["4k", "1G"]"#),
        ("guest.prefault", "[true, false]"),
        ("guest.numa-node", "[0, 1]"),
        ("guest.page-size", r#"["4k", "2M"]"#),
        ("guest.pinning", r#"["none", [0]]"#),
        ("guest.topology", "[{ cores = 1 }, { sockets = 1 }]"),
        ("guest.topology.cores", "[1]"),
        ("baseline.backing", r#"["same", "thp"]"#),
        ("measure.precision", r#"["1%", "2%"]"#),
        ("measure.confidence", r#"["90%", "95%"]"#),
        ("measure.block", r#"["10ms", "20ms"]"#),
        ("measure.rounds", "[1, 2]"),
        ("measure.pilot-boots", "[5, 6]"),
        ("measure.max-boots", "[10, 20]"),
    ];
    for (path, values) in axes {
        let memory = if values.contains("1G") {
            "\n[guest]\nmemory = \"1GiB\""
        } else {
            ""
        };
        let text = format!(
            "schema = 1\nname = \"s\"{memory}\n[[workload]]\nname = \"cpu-hash\"\n[matrix]\n\"{path}\" = {values}"
        );
        let cells = plan(&text).cells;
        assert!(
            cells.iter().all(|cell| cell.parameters.contains_key(path)),
            "{path}"
        );
    }
}

#[test]
fn nesting_does_not_exhaust_the_stack() {
    for (open, close) in [("[", "]"), ("{ a = ", " }")] {
        let depth = 100_000;
        let text = format!("x = {}1{}", open.repeat(depth), close.repeat(depth));
        assert!(parse("s.toml", &text, &Overrides::default()).is_err());
    }
    for start in [
        "x",
        "matrix.guest.backing",
        "workload.params",
        "guest.pinning",
    ] {
        let text = format!("{start}.{}y = 1", "a.".repeat(100_000));
        assert!(parse("s.toml", &text, &Overrides::default()).is_err());
    }
}

/// A scenario with axes of these lengths, some combinations of which are left out and some added.
fn matrix_text(
    rounds: usize,
    pilots: usize,
    excluded: &[(usize, usize)],
    included: usize,
) -> String {
    let numbers = |count: usize, from: usize| {
        let numbers: Vec<String> = (from..from + count)
            .map(|number| number.to_string())
            .collect();
        numbers.join(", ")
    };
    let exclude: Vec<String> = excluded
        .iter()
        .map(|(round, pilot)| {
            format!(
                "{{ \"measure.rounds\" = {}, \"measure.pilot-boots\" = {} }}",
                round + 1,
                pilot + 2
            )
        })
        .collect();
    let include: Vec<String> = (0..included)
        .map(|index| format!("{{ \"measure.max-boots\" = {} }}", 2000 + index))
        .collect();
    format!(
        "schema = 1\nname = \"s\"\n[[workload]]\nname = \"cpu-hash\"\n[[workload]]\nname = \"cpu-aes\"\n\
         [matrix]\n\"measure.rounds\" = [{}]\n\"measure.pilot-boots\" = [{}]\n\
         exclude = [{}]\ninclude = [{}]\n",
        numbers(rounds, 1),
        numbers(pilots, 2),
        exclude.join(", "),
        include.join(", ")
    )
}

proptest! {
    #[test]
    fn count_is_product_less_excluded_plus_included(
        rounds in 1..6usize,
        pilots in 1..6usize,
        drawn in proptest::collection::btree_set((0..6usize, 0..6usize), 0..8),
        included in 1..4usize,
    ) {
        let excluded: Vec<_> = drawn
            .into_iter()
            .filter(|&(round, pilot)| round < rounds && pilot < pilots)
            .collect();
        let plan = plan(&matrix_text(rounds, pilots, &excluded, included));
        prop_assert_eq!(plan.cells.len(), 2 * (rounds * pilots - excluded.len() + included));
        for (cell, id) in plan.cells.iter().zip(0..) {
            prop_assert_eq!(cell.id, id);
        }
        let unique: std::collections::BTreeSet<_> = labels(&plan).into_iter().collect();
        prop_assert_eq!(unique.len(), plan.cells.len());
    }

    #[test]
    fn a_seed_settles_everything(seed: u64, sweep: u32) {
        let overrides = Overrides { seed: Some(seed), ..Overrides::default() };
        let load = || parse("s.toml", list()[0].text, &overrides).unwrap().plan;
        let plan = load();
        prop_assert_eq!(&plan, &load());
        prop_assert_eq!(plan.sweep(sweep), load().sweep(sweep));
    }

    #[test]
    fn each_sweep_boots_every_cell_once(seed: u64, sweep: u32) {
        let overrides = Overrides { seed: Some(seed), ..Overrides::default() };
        let plan = parse("s.toml", list()[0].text, &overrides).unwrap().plan;
        let mut order = plan.sweep(sweep);
        prop_assert_ne!(&order, &plan.sweep(sweep.wrapping_add(1)));
        order.sort_unstable();
        let all: Vec<u32> = plan.cells.iter().map(|cell| cell.id).collect();
        prop_assert_eq!(order, all);
    }

    #[test]
    fn any_text_is_a_plan_or_an_error_that_renders(text in "\\PC{0,200}") {
        if let Err(error) = parse("s.toml", &text, &Overrides::default()) {
            prop_assert!(!error.diagnostics.is_empty());
            prop_assert!(!error.render(true).is_empty());
        }
    }

    /// Texts that are nearly sound go deeper than random ones.
    #[test]
    fn any_damage_to_a_file_is_a_plan_or_an_error_that_renders(
        which in 0..6usize,
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0..12usize, "[\\[\\]{}\"=., a-z0-9é\n\r\0-]{0,6}"), 1..6),
    ) {
        let mut text: Vec<char> = list()[which].text.chars().collect();
        for (at, len, insert) in cuts {
            let at = at.index(text.len());
            let end = (at + len).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        let overrides = Overrides { cpus: Some(3), ..Overrides::default() };
        if let Err(error) = parse("s.toml", &text, &overrides) {
            prop_assert!(!error.diagnostics.is_empty());
            prop_assert!(!error.render(false).is_empty());
        }
    }
}

#[test]
fn a_partner_takes_a_cpu_that_no_vcpu_has() {
    let guest = |pinning: &str| {
        let text = format!(
            "schema = 1\nname = \"s\"\n[guest]\nvcpus = 2\nmemory = \"32MiB\"\npinning = {pinning}\n\
             [[workload]]\nname = \"lat-wake\"\n"
        );
        let loaded = parse("s.toml", &text, &Overrides::default()).unwrap();
        loaded.plan.cells[0].guest.clone()
    };
    let allowed = [0, 2, 4, 6];
    let partners = |pinning| {
        let guest = guest(pinning);
        [0, 1].map(|vcpu| guest.partner_cpu(vcpu, &allowed))
    };
    assert_eq!(partners("\"one-to-one\""), [Some(4), Some(6)]);
    assert_eq!(partners("[2, 6]"), [Some(0), Some(4)]);
    assert_eq!(partners("{ all-on = 4 }"), [Some(0), Some(2)]);
    assert_eq!(partners("\"none\""), [None, None]);
    assert_eq!(guest("\"one-to-one\"").partner_cpu(1, &[0, 1, 2]), None);
}

#[test]
fn neighbours_take_their_defaults_and_the_matrix_varies_them_by_name() {
    let plan = plan(
        r#"
        schema = 1
        name = "s"
        [[neighbour]]
        work = "cpu"
        [[neighbour]]
        work = "idle"
        name = "sleeper"
        count = 3
        memory = "32MiB"
        cpu-quota = "50%"
        content = { zero = "10%", common = "40%" }
        pinning = [1, 0]
        cpuset = [2, 1, 0, 1]
        [[workload]]
        name = "cpu-hash"
        [matrix]
        "neighbour.cpu.count" = [0, 1]
        "neighbour.cpu.work" = ["cpu", "memory"]
        neighbour.sleeper.cpu-weight = [100, 200]
        "#,
    );
    assert_eq!(
        labels(&plan)[..2],
        [
            "cpu-hash / neighbour.cpu.count=0 neighbour.cpu.work=cpu neighbour.sleeper.cpu-weight=100",
            "cpu-hash / neighbour.cpu.count=0 neighbour.cpu.work=cpu neighbour.sleeper.cpu-weight=200",
        ]
    );
    assert_eq!(plan.cells.len(), 8);
    let last = &plan.cells[7].neighbours;
    let burner = Neighbour {
        name: "cpu".to_owned(),
        work: Work::Memory,
        count: 1,
        memory: 64 << 20,
        backing: Backing::Small,
        pinning: NeighbourPinning::None,
        cpu_weight: None,
        cpu_quota: None,
        memory_limit: None,
        cpuset: None,
        io_weight: None,
        mergeable: false,
        content: None,
        disk: NeighbourDisk::Memory,
        period_nanos: 100_000_000,
    };
    let sleeper = Neighbour {
        name: "sleeper".to_owned(),
        work: Work::Idle,
        count: 3,
        memory: 32 << 20,
        pinning: NeighbourPinning::List(vec![1, 0]),
        cpu_weight: Some(200),
        cpu_quota: Some(0.5),
        cpuset: Some(vec![0, 1, 2]),
        content: Some(Content {
            zero: 0.1,
            common: 0.4,
        }),
        ..burner.clone()
    };
    assert_eq!(last, &[burner, sleeper]);
    assert_eq!(plan.cells[0].neighbours[0].count, 0);
    let on = |copy| last[1].cpu_of(copy, &[]);
    assert_eq!([on(0), on(1), on(2)], [Some(1), Some(0), Some(1)]);
}

#[test]
fn a_plan_explained_names_the_neighbours() {
    let plan = plan(
        "schema = 1\nname = \"s\"\n[[neighbour]]\nwork = \"cpu\"\nname = \"burner\"\npinning = \"with-vcpus\"\n\
         cpu-weight = 200\n[[neighbour]]\nwork = \"io\"\ndisk-backing = \"scratch\"\nio-weight = 50\ncpuset = [0]\n\
         [[workload]]\nname = \"cpu-hash\"\n[matrix]\n\"neighbour.burner.count\" = [0, 2]",
    );
    let text = vtax_scenarios::explain(&plan);
    assert!(
        text.contains(
            "2 × cpu (burner), with the vCPUs, weight 200; 1 × io, confined to [0], I/O weight 50"
        ),
        "{text}"
    );
}

#[test]
fn a_plan_explained_reckons_with_what_boots_wait_for() {
    let text = |budget| {
        vtax_scenarios::explain(&plan(&format!(
            "schema = 1\nname = \"s\"\n[guest]\nmemory = \"256MiB\"\nmergeable = true\n[measure]\nbudget = \"{budget}\"\n\
             pilot-boots = 2\n[[workload]]\nname = \"cpu-hash\"\n[matrix]\n\"host.ksm\" = [\"on\", \"off\"]"
        )))
    };
    // 65,536 pages, 100 every 20 ms, four times, in two boots.
    let short = text("90s");
    let waits = "Of the pilots' time at least 104.8 s are boots that wait until KSM has merged";
    assert!(short.contains(waits), "{short}");
    assert!(
        short.contains("in blocks and waiting, of a budget of 90.0 s"),
        "{short}"
    );
    assert!(short.contains("budget = \"106s\" or more"), "{short}");
    let long = text("106s");
    assert!(
        long.contains(waits) && !long.contains("does not suffice"),
        "{long}"
    );
}

#[test]
fn a_comparison_pairs_cells_that_differ_in_its_parameters_alone() {
    let text = r#"schema = 1
name = "s"
[claim]
compare = { of = { "guest.backing" = "2M" }, against = { "guest.backing" = "4k" }, what = "rate", at-least = "103%" }
[[workload]]
name = "cpu-hash"
[[workload]]
name = "cpu-bits"
[matrix]
"guest.backing" = ["4k", "thp", "2M"]
"guest.page-size" = ["4k", "2M"]
"#;
    let plan = parse("s.toml", text, &Overrides::default()).unwrap().plan;
    let Form::Compare(compare) = &plan.claim.form else {
        panic!("{:?}", plan.claim)
    };
    let pairs = compare.pairs(&plan.cells);
    assert_eq!(pairs.len(), 4);
    for (of, against) in pairs {
        assert_eq!(of.workload, against.workload);
        assert_eq!(of.guest.page_size, against.guest.page_size);
        assert_eq!(
            (of.guest.backing, against.guest.backing),
            (Backing::Huge2M, Backing::Small)
        );
    }
    assert_eq!(plan.verdicts(), 1);
    assert!(!plan.sized_by_precision());
}

#[test]
fn experiments_multiply_their_values_and_leave_time_for_themselves() {
    let text = "schema = 1\nname = \"s\"\n[measure]\nbudget = \"60s\"\n[[experiment]]\nkind = \"boot\"\n\
                params = { guests = [1, 8], memory = [\"16MiB\", \"32MiB\"] }\n[[workload]]\nname = \"cpu-hash\"";
    let plan = parse("s.toml", text, &Overrides::default()).unwrap().plan;
    let labels: Vec<&str> = plan
        .experiments
        .iter()
        .map(|it| it.label.as_str())
        .collect();
    assert_eq!(labels[0], "boot guests=1 memory=16MiB");
    assert_eq!(labels.len(), 4);
    assert_eq!(plan.experiments[3].param("guests"), 8);
    let all: u64 = plan.experiments.iter().map(|it| it.nanos()).sum();
    assert_eq!(plan.cells_nanos(), plan.budget_nanos - all);
}

#[test]
fn each_workload_is_a_verdict_of_its_own_where_the_claim_says_so() {
    let text = "schema = 1\nname = \"s\"\n[guest]\nmemory = \"512MiB\"\n[claim]\nover = \"cpu\"\neach = true\n\
                [[workload]]\nname = \"cpu-hash\"\n\
                [[workload]]\nname = \"cpu-matmul\"\nparams = { vector = [\"scalar\", \"avx2\"] }\n\
                [[workload]]\nname = \"mem-tlb\"";
    let plan = parse("s.toml", text, &Overrides::default()).unwrap().plan;
    assert_eq!(plan.judged_workloads(), ["cpu-hash", "cpu-matmul"]);
    assert_eq!(plan.verdicts(), 3);
}
