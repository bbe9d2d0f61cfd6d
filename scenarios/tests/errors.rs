//! What a user sees: one snapshot per subject, with every error of it.

use vtax_scenarios::plan::{HostFacts, Knob, KnobFact, Obstacle};
use vtax_scenarios::{Overrides, Testability, parse};

/// A sound scenario with `extra` in it; sections may be given again, as nothing else is in them.
fn scenario(extra: &str) -> String {
    format!("schema = 1\nname = \"s\"\n{extra}\n[[workload]]\nname = \"cpu-hash\"\n")
}

fn error_of(text: &str) -> String {
    match parse("s.toml", text, &Overrides::default()) {
        Ok(_) => panic!("this is sound:\n{text}"),
        Err(error) => error.to_string(),
    }
}

/// The errors of each text, one after the other.
fn errors_of(texts: &[String]) -> String {
    let errors: Vec<String> = texts.iter().map(|text| error_of(text)).collect();
    errors.join("\n\n--------\n")
}

fn in_scenario(extras: &[&str]) -> String {
    let texts: Vec<String> = extras.iter().map(|extra| scenario(extra)).collect();
    errors_of(&texts)
}

#[test]
fn syntax() {
    insta::assert_snapshot!(in_scenario(&[
        "[guest]\nvcpus = \nmemory = \"64",
        "[guest\nvcpus = 1",
        "seed = 1\nseed = 2",
    ]));
}

#[test]
fn keys() {
    insta::assert_snapshot!(in_scenario(&[
        "sed = 1",
        "[guest]\nmemroy = \"64MiB\"\nnuma_node = 0",
        "[guest]\ncolour = \"red\"",
        "[guest]\ntopology = { socket = 1 }",
        "[workloads]\nname = \"cpu-hash\"",
    ]));
}

#[test]
fn missing() {
    insta::assert_snapshot!(errors_of(&[
        String::new(),
        "schema = 1\nname = \"s\"\nworkload = []".to_owned(),
        "schema = 1\nname = \"s\"\n[[workload]]\nparams = {}".to_owned(),
    ]));
}

#[test]
fn head() {
    insta::assert_snapshot!(errors_of(&[
        "schema = 2\nname = \"s\"\n[[workload]]\nname = \"cpu-hash\"".to_owned(),
        "schema = 1\nname = \"../s\"\n[[workload]]\nname = \"cpu-hash\"".to_owned(),
        "schema = 1\nname = \"s\"\n[workload]\nname = \"cpu-hash\"".to_owned(),
    ]));
}

#[test]
fn units() {
    insta::assert_snapshot!(in_scenario(&[
        "[guest]\nmemory = \"64MB\"",
        "[guest]\nmemory = 64",
        "[guest]\nmemory = \"64M per vcpu\"",
        "[measure]\nprecision = 0.005\nconfidence = 95\nbudget = 60\nblock = \"12 msec\"",
        "[claim]\nratio = \"97\"",
    ]));
}

#[test]
fn types() {
    insta::assert_snapshot!(in_scenario(&[
        "[guest]\nvcpus = \"two\"",
        "[guest]\nvcpus = -1",
        "[guest]\nvcpus = 1.5",
        "[guest]\nbacking = \"2MB\"",
        "[guest]\nbacking = \"hugetlb\"",
        "[guest]\npage-size = 4",
        "[guest]\nprefault = \"yes\"",
        "[guest]\nnuma-node = -1",
        "[guest]\nmemory = true",
        "[guest]\npinning = \"fixed\"",
        "[guest]\npinning = [0, -1]",
        "[guest]\npinning = { on = 0 }",
        "[guest]\npinning = {}",
        "guest = 3",
        "[baseline]\nbacking = \"none\"",
        "[claim]\nover = \"cpus\"",
    ]));
}

#[test]
fn guest() {
    insta::assert_snapshot!(in_scenario(&[
        "[guest]\nvcpus = 0",
        "[guest]\nvcpus = \"all\"",
        "[guest]\nmemory = \"8MiB\"",
        "[guest]\nmemory = \"33MiB\"",
        "[guest]\nmemory = \"1000TiB\"",
        "[guest]\nvcpus = 4\nmemory = \"4TiB\"\ntopology = { sockets = 2, cores = 4 }",
        "[guest]\nvcpus = 3\ntopology = { threads = 2 }",
        "[guest]\nvcpus = 2\npinning = [0]",
        "[guest]\npage-size = \"1G\"",
        "[guest]\nbacking = \"1G\"\nmemory = \"1500MiB\"",
        "[baseline]\nbacking = \"1G\"",
        "[guest]\nvcpus = 8\nmemory = \"16MiB\"",
    ]));
}

#[test]
fn net() {
    let with = |guest: &str| {
        format!("schema = 1\nname = \"s\"\n[guest]\n{guest}\n[[workload]]\nname = \"net-ping\"\n")
    };
    insta::assert_snapshot!(errors_of(&[
        with(""),
        with("net = \"e1000\""),
        with("net = \"virtio-net\"\nvcpus = 2"),
        with("net = \"virtio-net\"\nnet-link = \"tunnel\""),
        with("net = \"virtio-net\"\nnet-backend = \"kernel\""),
        with("net = \"virtio-net\"\nnet-completion = \"polling\""),
        with("net = \"virtio-net\"\nnet-poll = \"2s\""),
        with("net = \"virtio-net\"\nnet-io-cpu = [1]"),
        with("net = \"virtio-net\"") + "params = { frame = \"9000B\" }\n",
    ]));
}

#[test]
fn disk() {
    let with = |guest: &str, workload: &str| {
        format!("schema = 1\nname = \"s\"\n[guest]\n{guest}\n[[workload]]\n{workload}\n")
    };
    let read = "name = \"block-random\"";
    let write = "name = \"block-random\"\nparams = { access = \"write\" }";
    let path = "disk = \"virtio-blk\"\ndisk-backing = { path = \"/dev/vg0/test\" }";
    insta::assert_snapshot!(errors_of(&[
        with("disk = \"ide\"", read),
        with("", read),
        with("disk = \"virtio-blk\"\ndisk-backing = \"file\"", read),
        with(
            "disk = \"virtio-blk\"\ndisk-backing = { file = \"a\" }",
            read
        ),
        with(
            "disk = \"virtio-blk\"\ndisk-backing = { path = \"\" }",
            read
        ),
        with("disk = \"ata-pio\"\ndisk-size = \"100KiB\"", read),
        with("disk = \"ata-pio\"\ndisk-size = \"1.5MiB\"", read),
        with("disk = \"ata-pio\"\ndisk-size = 64", read),
        with(
            "disk = \"virtio-blk\"\ndisk-queues = 0\ndisk-poll = \"2s\"",
            read
        ),
        with(
            "disk = \"virtio-blk\"\ndisk-queues = 2\ndisk-io-cpus = [0]",
            read
        ),
        with("disk = \"virtio-blk\"\ndisk-completion = \"polling\"", read),
        with("disk = \"virtio-blk\"\nvcpus = 4\ndisk-queues = 2", read),
        with("disk = \"ata-pio\"\nvcpus = 2", read),
        with("disk = \"virtio-blk\"\ndisk-read-only = true", write),
        with(path, write),
        with(path, "name = \"block-flush\""),
        with(&format!("{path}\ndisk-overwrite = true"), write),
        with(
            "disk = \"virtio-blk\"\nmemory = \"16MiB\"",
            "name = \"block-random\"\nparams = { block = \"1MiB\", depth = 64 }"
        ),
    ]));
}

#[test]
fn knobs() {
    insta::assert_snapshot!(in_scenario(&[
        "[host]\ntph = \"never\"",
        "[host]\nthp = \"sometimes\"",
        "[host]\nthp = false",
        "[host]\nthp-defrag = \"defer+madvice\"",
        "[host]\nhugepages-2m = -1",
        "[host]\nhugepages-2m = []",
        "[host]\nhugepages-1g = \"4\"",
        "[host]\nksm = true",
        "[host]\nksm-pages-to-scan = 0",
        "[host]\nksm-advisor = \"scan-time\"\nksm-pages-to-scan = 100",
        "[host]\nksm-sleep = 20\nhalt-poll = \"5s\"",
        "[host]\nksm-sleep = \"1500us\"",
        "[host]\ngovernor = \"fast; reboot\"",
        "[host]\nc-state-latency = \"1500ns\"",
        "[host]\nc-state-latency = \"2min\"",
        "[host]\nc-state-latency = 10",
        "[host]\nsmt = \"off\"",
        "[host]\nirqs-away = true\n[guest]\npinning = \"none\"",
        "[matrix]\n\"host.thb\" = [\"never\"]",
        "[matrix]\n\"host.thp\" = [\"never\", \"maybe\"]",
    ]));
}

#[test]
fn measure() {
    insta::assert_snapshot!(in_scenario(&[
        "[measure]\nblock = \"9ms\"",
        "[measure]\nprecision = \"0%\"\nconfidence = \"100%\"",
        "[measure]\nrounds = 0\npilot-boots = 1\nmax-boots = 2000000",
        "[measure]\npilot-boots = 20\nmax-boots = 10",
        "[measure]\nbudget = \"0s\"",
        "[claim]\nratio = \"120%\"",
    ]));
}

#[test]
fn workloads() {
    let workload = |text: &str| format!("schema = 1\nname = \"s\"\n[[workload]]\n{text}\n");
    insta::assert_snapshot!(errors_of(&[
        workload("name = \"cpu-hsh\""),
        workload("name = \"linpack\""),
        workload("name = 3"),
        workload("name = \"mem-latency\"\nparams = { sice = \"1MiB\" }"),
        workload("name = \"cpu-hash\"\nparams = { size = \"1MiB\" }"),
        workload("name = \"mem-latency\"\nparams = { size = \"1MB\" }"),
        workload("name = \"mem-latency\"\nparams = { size = 1024 }"),
        workload("name = \"mem-latency\"\nparams = { size = true }"),
        workload("name = \"mem-latency\"\nparams = { size = \"1KiB\" }"),
        workload("name = \"mem-latency\"\nparams = { size = [] }"),
        workload("name = \"mem-latency\"\nparams = 3"),
        workload("name = \"mem-stream\"\nparams = { kernel = \"triat\" }"),
        workload("name = \"mem-stream\"\nparams = { kernel = \"dot\" }"),
        workload("name = \"fault-page\"\nparams = { address = \"zero\" }"),
        workload("name = \"mem-latency\"\nparams = { size = \"1GiB\" }"),
        workload("name = \"mem-latency\"\nparams = { size = [\"1MiB\", \"1024KiB\"] }"),
        workload("name = \"cpu-hash\"\n[[workload]]\nname = \"cpu-hash\""),
    ]));
}

#[test]
fn matrix() {
    let many: Vec<String> = (1..=200).map(|count| count.to_string()).collect();
    let many = many.join(", ");
    insta::assert_snapshot!(in_scenario(&[
        "[matrix]\n\"guest.backin\" = [\"4k\"]",
        "[matrix]\n\"colour\" = [\"red\"]",
        "[matrix]\n\"claim.ratio\" = [\"97%\"]",
        "[matrix]\n\"measure.budget\" = [\"10s\"]",
        "[matrix]\n\"guest.pinning.all-on\" = [0, 1]",
        "[matrix]\n\"guest.backing\" = \"4k\"",
        "[matrix]\n\"guest.backing\" = []",
        "[matrix]\n\"guest.backing\" = [\"4k\", \"8k\"]",
        "[matrix]\n\"guest.topology\" = [{ socket = 1 }]",
        "[matrix]\n\"workload.mem-latency.size\" = [\"1MiB\"]",
        "[matrix]\n\"workload.cpu-hash.size\" = [\"1MiB\"]",
        "[guest]\nvcpus = 2\n[matrix]\n\"guest.pinning\" = [\"none\", [0, 1], [0]]",
        &format!(
            "[matrix]\n\"measure.rounds\" = [1, 2]\n\"measure.pilot-boots\" = [{many}]\n\"guest.vcpus\" = [{many}]"
        ),
        "[matrix]\n\"guest.backing\" = [\"4k\"]\nexclude = [{ \"guest.backing\" = \"4k\" }]",
        "[matrix]\n\"guest.backing\" = [\"4k\"]\nexclude = [{ \"guest.backing\" = \"2M\" }]",
        "[matrix]\nexclude = { \"guest.backing\" = \"2M\" }",
        "[matrix]\ninclude = [3]",
        "[matrix]\ninclude = [{ workload = \"cpu-aes\" }]",
        "[matrix]\n\"guest.backing\" = [\"4k\"]\ninclude = [{ guest.backing = \"4k\" }]",
        "matrix = 3",
    ]));
}

#[test]
fn many_at_once_in_colour() {
    let text = scenario(
        "[guest]\nmemroy = \"64MiB\"\nvcpus = 2\npinning = [0]\n[measure]\nblock = \"1ms\"",
    );
    let error = parse("s.toml", &text, &Overrides::default()).unwrap_err();
    assert_eq!(error.diagnostics.len(), 3);
    insta::assert_snapshot!(error.render(true).replace('\u{1b}', "␛"));
}

#[test]
fn overrides_are_checked_too() {
    let overrides = Overrides {
        budget_nanos: Some(0),
        precision: Some(f64::NAN),
        ..Overrides::default()
    };
    insta::assert_snapshot!(parse("s.toml", &scenario(""), &overrides).unwrap_err());
}

#[test]
fn a_budget_below_the_pilots_is_a_warning() {
    let text = scenario("[measure]\nbudget = \"1s\"");
    let loaded = parse("s.toml", &text, &Overrides::default()).unwrap();
    insta::assert_snapshot!(loaded.render_warnings(false));
}

#[test]
fn what_a_host_lacks() {
    let bare = HostFacts {
        cpus: vec![0, 1, 2, 5],
        numa_nodes: vec![0],
        max_vcpus: 8,
        available_memory: 1 << 30,
        ..HostFacts::default()
    };
    let cases = [
        "[guest]\nvcpus = 9\npinning = \"none\"",
        "[guest]\nvcpus = 5",
        "[guest]\npinning = [3]",
        "[guest]\npinning = { all-on = 3 }",
        "[guest]\nnuma-node = 1",
        "[guest]\ndisk = \"virtio-blk\"\ndisk-io-cpus = [3]",
        "[guest]\ndisk = \"virtio-blk\"\ndisk-backing = \"scratch\"",
        "[guest]\nnet = \"virtio-net\"\nnet-backend = \"vhost\"",
        "[guest]\nmemory = \"1GiB\"\npage-size = \"1G\"",
        "[guest]\nbacking = \"thp\"",
        "[guest]\nbacking = \"2M\"",
        "[guest]\nmemory = \"2GiB\"\nbacking = \"1G\"\nnuma-node = 0\n[baseline]\nbacking = \"1G\"",
        "[baseline]\nbacking = \"2M\"",
        "[guest]\nmemory = \"768MiB\"\n[baseline]\nbacking = \"4k\"",
        "[matrix]\n\"guest.backing\" = [\"4k\", \"2M\"]\n\"guest.page-size\" = [\"4k\", \"2M\"]",
    ];
    let rendered: Vec<String> = cases
        .iter()
        .map(|case| scenario(case))
        .chain([scenario("").replace("cpu-hash", "cpu-aes")])
        .map(|text| {
            let loaded = parse("s.toml", &text, &Overrides::default()).unwrap();
            Testability::of(&loaded.plan, &bare).render(&loaded.plan, &loaded.spans, false)
        })
        .collect();
    assert!(rendered.iter().all(|text| !text.is_empty()));
    insta::assert_snapshot!(rendered.join("\n\n--------\n"));
}

#[test]
fn what_a_host_cannot_be_set_to() {
    let fact = |present: &str, obstacle: Option<(&str, &str)>, choices: &[&str]| KnobFact {
        present: Some(present.to_owned()),
        obstacle: obstacle.map(|(reason, remedy)| Obstacle {
            reason: reason.to_owned(),
            remedy: remedy.to_owned(),
        }),
        choices: choices.iter().map(|word| (*word).to_owned()).collect(),
    };
    let facts = HostFacts {
        cpus: vec![0, 1],
        max_vcpus: 8,
        available_memory: 1 << 30,
        free_huge_2m: 10,
        knobs: [
            (
                Knob::Governor,
                fact("powersave", None, &["performance", "powersave"]),
            ),
            (Knob::Hugepages2m, fact("12", None, &[])),
            (Knob::IrqsAway, fact("off", None, &[])),
            (
                Knob::NmiWatchdog,
                fact(
                    "off",
                    Some(("it cannot be changed", "boot with nmi_watchdog=1")),
                    &[],
                ),
            ),
            (
                Knob::Thp,
                fact("never", None, &["always", "madvise", "never"]),
            ),
        ]
        .into(),
        ..HostFacts::default()
    };
    let found = |extra: &str| {
        let loaded = parse("s.toml", &scenario(extra), &Overrides::default()).unwrap();
        Testability::of(&loaded.plan, &facts).render(&loaded.plan, &loaded.spans, false)
    };
    // What the host already is needs no change; what it will be counts, not what it is.
    for fine in [
        "[host]\nnmi-watchdog = false",
        "[host]\nirqs-away = true",
        "[guest]\nbacking = \"thp\"\n[host]\nthp = \"never\"",
        "[guest]\nbacking = \"2M\"\n[host]\nhugepages-2m = 34",
    ] {
        assert_eq!(found(fine), "", "{fine}");
    }
    let rendered = [
        "[host]\nnmi-watchdog = true",
        "[host]\nksm = \"on\"",
        "[host]\ngovernor = \"ondemand\"",
        "[host]\nirqs-away = true\n[guest]\nvcpus = 2",
        "[guest]\nbacking = \"2M\"\n[host]\nhugepages-2m = [20, 13]",
        "[matrix]\n\"host.governor\" = [\"ondemand\", \"performance\"]",
    ]
    .map(found);
    assert!(rendered.iter().all(|text| !text.is_empty()));
    insta::assert_snapshot!(rendered.join("\n\n--------\n"));
}

#[test]
fn a_filtered_plan_still_points_at_the_file() {
    let text = scenario("[matrix]\n\"guest.backing\" = [\"4k\", \"2M\"]");
    let loaded = parse("s.toml", &text, &Overrides::default()).unwrap();
    let plan = loaded.plan.filter("backing=2M");
    assert_eq!(plan.cells.len(), 1);
    assert_eq!(plan.cells[0].id, 0);
    let facts = HostFacts {
        cpus: vec![0],
        max_vcpus: 1,
        ..HostFacts::default()
    };
    let rendered = Testability::of(&plan, &facts).render(&plan, &loaded.spans, false);
    assert!(
        rendered.starts_with("not testable here") && rendered.contains("s.toml:4:26"),
        "{rendered}"
    );
}

#[test]
fn waits() {
    let wake = |params: &str| {
        format!("schema = 1\nname = \"s\"\n[[workload]]\nname = \"lat-wake\"\nparams = {params}\n")
    };
    insta::assert_snapshot!(errors_of(&[
        scenario("[guest]\nhalt-poll = \"20ms\""),
        scenario("[guest]\nhalt-poll = 50"),
        scenario("[matrix]\n\"guest.halt-poll\" = [\"50 usec\"]"),
        scenario("[guest]\nscheduling = \"fifo\""),
        scenario("[guest]\nscheduling = { fifo = 100 }"),
        scenario("[guest]\nscheduling = { deadline = 1 }"),
        scenario("[guest]\nscheduling = {}"),
        wake("{ sleep = 100 }"),
        wake("{ sleep = \"100ns\" }"),
        wake("{ sleep = true }"),
        scenario("[guest]\nvcpus = 3").replace("cpu-hash", "lat-ipi"),
        scenario("").replace("cpu-hash", "lat-ipi"),
    ]));
}

#[test]
fn what_a_host_lacks_for_latencies() {
    let small = HostFacts {
        cpus: vec![0],
        max_vcpus: 8,
        available_memory: 1 << 30,
        ..HostFacts::default()
    };
    let cases = [
        scenario("[guest]\nhalt-poll = \"50us\""),
        scenario("[guest]\nscheduling = { rr = 1 }"),
        scenario("").replace("cpu-hash", "lat-hypercall"),
        scenario("").replace("cpu-hash", "lat-wake"),
        scenario("[guest]\npinning = \"none\"").replace("cpu-hash", "lat-mailbox"),
    ];
    let rendered: Vec<String> = cases
        .iter()
        .map(|text| {
            let loaded = parse("s.toml", text, &Overrides::default()).unwrap();
            Testability::of(&loaded.plan, &small).render(&loaded.plan, &loaded.spans, false)
        })
        .collect();
    assert!(rendered.iter().all(|text| !text.is_empty()));
    insta::assert_snapshot!(rendered.join("\n\n--------\n"));
}

#[test]
fn neighbours() {
    insta::assert_snapshot!(in_scenario(&[
        "[[neighbour]]\nname = \"burner\"",
        "[[neighbour]]\nwork = \"cpus\"",
        "[[neighbour]]\nwork = \"cpu\"\ncuont = 2",
        "[neighbour]\nwork = \"cpu\"",
        "[[neighbour]]\nwork = \"cpu\"\n[[neighbour]]\nwork = \"cpu\"",
        "[[neighbour]]\nwork = \"cpu\"\nname = \"a.b\"",
        "[[neighbour]]\nwork = \"cpu\"\ncount = 5000\ncpu-weight = 0\ncpu-quota = \"200%\"",
        "[[neighbour]]\nwork = \"cpu\"\npinning = \"one-to-one\"",
        "[[neighbour]]\nwork = \"cpu\"\npinning = []",
        "[[neighbour]]\nwork = \"cpu\"\ncpuset = []",
        "[[neighbour]]\nwork = \"cpu\"\ncpuset = 0",
        "[[neighbour]]\nwork = \"cpu\"\npinning = [0, 2]\ncpuset = [0, 1]",
        "[[neighbour]]\nwork = \"cpu\"\nio-weight = 200",
        "[[neighbour]]\nwork = \"io\"\nio-weight = 200",
        "[[neighbour]]\nwork = \"io\"\ndisk-backing = \"scratch\"\nio-weight = 20000",
        "[[neighbour]]\nwork = \"idle\"\nmemory = \"8MiB\"",
        "[[neighbour]]\nwork = \"idle\"\nmemory = \"64MiB\"\nmemory-limit = \"32MiB\"",
        "[[neighbour]]\nwork = \"idle\"\nmergeable = true\nbacking = \"2M\"",
        "[[neighbour]]\nwork = \"idle\"\ncontent = { zero = \"60%\", common = \"50%\" }",
        "[[neighbour]]\nwork = \"idle\"\ncontent = { shared = \"50%\" }",
        "[[neighbour]]\nwork = \"memory\"\ncontent = { zero = \"60%\" }",
        "[[neighbour]]\nwork = \"cpu\"\nperiod = \"1s\"\ndisk-backing = \"scratch\"",
        "[[neighbour]]\nwork = \"wild\"\nperiod = \"1us\"",
        "[[neighbour]]\nwork = \"cpu\"\nname = \"burner\"\n[matrix]\n\"neighbour.cpu.count\" = [0, 1]",
        "[[neighbour]]\nwork = \"cpu\"\n[matrix]\n\"neighbour.cpu.cout\" = [0, 1]",
        "[[neighbour]]\nwork = \"cpu\"\n[matrix]\n\"neighbour.cpu.count\" = [0, \"many\"]",
        "[[neighbour]]\nwork = \"cpu\"\n[matrix]\n\"neighbour.cpu.name\" = [\"a\", \"b\"]",
        "[matrix]\n\"neighbour.cpu.count\" = [0, 1]",
    ]));
}

#[test]
fn what_a_host_lacks_for_neighbours() {
    let text = scenario(
        "[[neighbour]]\nwork = \"cpu\"\npinning = [7]\n[[neighbour]]\nwork = \"idle\"\nname = \"weighed\"\n\
         cpu-weight = 200\n[[neighbour]]\nwork = \"idle\"\nname = \"limited\"\nmemory-limit = \"1GiB\"\n\
         [[neighbour]]\nwork = \"idle\"\nname = \"many\"\nmemory = \"1GiB\"\n\
         [[neighbour]]\nwork = \"idle\"\nname = \"huge\"\nbacking = \"2M\"\n\
         [[neighbour]]\nwork = \"idle\"\nname = \"merged\"\nmergeable = true\n\
         [matrix]\n\"neighbour.cpu.count\" = [0, 1]\n\"neighbour.weighed.count\" = [0, 1]\n\
         \"neighbour.limited.count\" = [0, 1]\n\"neighbour.many.count\" = [0, 4]\n\
         \"neighbour.huge.count\" = [0, 1]\n\"neighbour.merged.count\" = [0, 1]",
    );
    let loaded = parse("s.toml", &text, &Overrides::default()).unwrap();
    let facts = HostFacts {
        cpus: vec![0, 1],
        max_vcpus: 8,
        available_memory: 3 << 30,
        features: u32::MAX,
        ..HostFacts::default()
    };
    let found = Testability::of(&loaded.plan, &facts);
    assert!(
        !found.cells.contains_key(&0),
        "without neighbours the cell runs"
    );
    insta::assert_snapshot!(found.render(&loaded.plan, &loaded.spans, false));
}

#[test]
fn what_a_host_lacks_for_cpusets_and_weights_of_io() {
    const ON_DISK: &str = "[[neighbour]]\nwork = \"io\"\ndisk-backing = \"scratch\"\n";
    let without = HostFacts {
        cpus: vec![0, 1],
        max_vcpus: 8,
        available_memory: 3 << 30,
        features: u32::MAX,
        io_uring: true,
        ..HostFacts::default()
    };
    let with_groups = HostFacts {
        cgroup_cpuset: true,
        cgroup_io: true,
        ..without.clone()
    };
    let with_bfq = HostFacts {
        io_weight: 1000,
        ..with_groups.clone()
    };
    let confined = |rest: &str| format!("[[neighbour]]\nwork = \"cpu\"\n{rest}");
    let weighed = |weight| format!("{ON_DISK}io-weight = {weight}");
    let rendered = |facts: &HostFacts, text: &str| {
        let loaded = parse("s.toml", &scenario(text), &Overrides::default()).unwrap();
        Testability::of(&loaded.plan, facts).render(&loaded.plan, &loaded.spans, false)
    };
    let lacking = [
        (&without, confined("cpuset = [0]")),
        (&with_groups, confined("cpuset = [0, 7]")),
        (
            &with_groups,
            confined("pinning = \"with-vcpus\"\ncpuset = [1]"),
        ),
        (&without, weighed(200)),
        (&with_groups, weighed(200)),
        (&with_bfq, weighed(1001)),
    ]
    .map(|(facts, text)| rendered(facts, &text));
    assert!(lacking.iter().all(|text| !text.is_empty()));
    insta::assert_snapshot!(lacking.join("\n\n--------\n"));

    for text in [
        confined("cpuset = [0, 1]"),
        confined("pinning = \"with-vcpus\"\ncpuset = [0]"),
        confined("count = 0\ncpuset = [7]"),
        weighed(1000),
    ] {
        assert_eq!(rendered(&with_bfq, &text), "", "{text}");
    }
}

#[test]
fn claims() {
    let matrix = "[matrix]\n\"guest.backing\" = [\"4k\", \"2M\"]\n";
    let compare = |rest: &str| {
        scenario(&format!(
            "[claim]\ncompare = {{ of = {{ \"guest.backing\" = \"2M\" }}, {rest} }}\n{matrix}"
        ))
    };
    let against = "against = { \"guest.backing\" = \"4k\" }";
    insta::assert_snapshot!(errors_of(&[
        scenario("[claim]\nword = \"w\""),
        scenario("[claim]\nratio = \"97%\"\nnot-testable = \"no\""),
        scenario("[claim]\nnot-testable = \" \""),
        scenario("[claim]\nneeds = \"ept\""),
        compare(&format!("{against}, what = \"rate\"")),
        compare(&format!("{against}, what = \"speed\", at-least = \"1%\"")),
        compare(&format!("{against}, what = \"rate\", at-lest = \"1%\"")),
        compare(&format!(
            "{against}, what = \"rate\", at-least = \"1%\", at-most = \"2%\""
        )),
        compare(&format!("{against}, what = \"rate\", within = \"60%\"")),
        compare(&format!("{against}, what = \"p99\", at-most = \"60%\"")),
        compare("against = { \"guest.backing\" = \"1G\" }, what = \"rate\", at-least = \"1%\""),
        compare("against = { \"guest.backing\" = \"2M\" }, what = \"rate\", at-least = \"1%\""),
        compare("against = { \"guest.pinning\" = \"none\" }, what = \"rate\", at-least = \"1%\""),
    ]));
}

/// A file of a few megabytes can name more combinations than any memory holds: they are counted, not made.
#[test]
fn combinations_of_an_experiment_s_parameters_are_counted_before_they_are_made() {
    let list = |name: &str| format!("{name} = [{}]", vec!["5"; 100_000].join(","));
    let lists = ["guests", "zero-percent", "common-percent", "pages-to-scan"].map(list);
    let text = format!(
        "[[experiment]]\nkind = \"ksm\"\nparams = {{ {} }}",
        lists.join(", ")
    );
    let error = vtax_scenarios::parse("s.toml", &scenario(&text), &Default::default()).unwrap_err();
    let error = error.to_string();
    let told = "these parameters make 100000000000000000000 experiments";
    assert!(error.contains(told), "{}", &error[..error.len().min(300)]);
    assert!(
        error.contains("s.toml:5"),
        "{}",
        &error[..error.len().min(300)]
    );
}

#[test]
fn thresholds_may_have_a_space_before_their_unit() {
    let claim = |experiment: &str, bound: &str| {
        let text = format!(
            "schema = 1\nname = \"s\"\n[claim]\nmetric = {{ {experiment}, {bound} }}\n\
             [[experiment]]\nkind = \"boot\"\n[[experiment]]\nkind = \"idle\"\n"
        );
        let loaded = vtax_scenarios::parse("s.toml", &text, &Default::default());
        loaded.unwrap_or_else(|error| panic!("{error}")).plan.claim
    };
    for (experiment, tight, spaced) in [
        (
            "experiment = \"boot\", name = \"vmm-memory\"",
            "5MiB",
            " 5 MiB ",
        ),
        (
            "experiment = \"boot\", name = \"all-running\"",
            "10ms",
            "10 ms",
        ),
        ("experiment = \"idle\", name = \"cpu\"", "1.5%", "1.5 %"),
        ("experiment = \"idle\", name = \"energy\"", "1.5W", "1.5 W"),
    ] {
        let [tight, spaced] =
            [tight, spaced].map(|text| claim(experiment, &format!("at-most = \"{text}\"")));
        assert_eq!(tight, spaced);
    }
    let energy = "experiment = \"idle\", name = \"energy\"";
    assert_eq!(
        claim(energy, "at-most = 1.5"),
        claim(energy, "at-most = \"1.5 W\"")
    );
}

/// What would be ignored is refused, each table where it stands; beside a workload all of it has a meaning.
#[test]
fn what_does_not_reach_experiments() {
    let boot = "[[experiment]]\nkind = \"boot\"\n";
    let cells = "[guest]\nmemory = \"32MiB\"\n[baseline]\nbacking = \"4k\"\n[host]\nhugepages-2m = 8\n\
                 [[neighbour]]\nname = \"n\"\nwork = \"cpu\"\n[matrix]\n\"guest.backing\" = [\"4k\", \"thp\"]\n";
    let alone = |tables: &str| format!("schema = 1\nname = \"s\"\n{tables}{boot}");
    insta::assert_snapshot!(error_of(&alone(cells)));
    let beside = scenario(&format!("{cells}{boot}"));
    for text in [alone("[measure]\nbudget = \"9s\"\n"), beside] {
        let loaded = parse("s.toml", &text, &Overrides::default());
        loaded.unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn experiments() {
    let boot = "[[experiment]]\nkind = \"boot\"\nparams = { guests = [1, 8] }\n";
    let metric = |rest: &str| scenario(&format!("[claim]\nmetric = {{ {rest} }}\n{boot}"));
    insta::assert_snapshot!(errors_of(&[
        scenario("[[experiment]]\nkind = \"bot\""),
        scenario("[[experiment]]\nrepetitions = 3"),
        scenario("[[experiment]]\nkind = \"boot\"\nrepetition = 3"),
        scenario("[[experiment]]\nkind = \"boot\"\nrepetitions = 1"),
        scenario("[[experiment]]\nkind = \"boot\"\nparams = { guest = 1 }"),
        scenario("[[experiment]]\nkind = \"boot\"\nparams = { guests = 0 }"),
        scenario("[[experiment]]\nkind = \"boot\"\nparams = { memory = [\"16MiB\", \"17MiB\"] }"),
        scenario("[[experiment]]\nkind = \"ksm\"\nparams = { sleep = \"1500us\" }"),
        scenario("[[experiment]]\nkind = \"quota\"\nparams = { window = \"250ms\" }"),
        scenario(
            "[[experiment]]\nkind = \"quota\"\nparams = { percent = [1, 2, 3, 4, 5, 6, 7, 8, 9], window = [\"1s\", \"2s\", \"3s\", \"4s\", \"5s\", \"6s\", \"7s\", \"8s\"] }"
        ),
        scenario(&format!("{boot}{boot}")),
        metric("experiment = \"idle\", name = \"cpu\", at-most = \"1%\""),
        metric("experiment = \"boot guests=9\", name = \"vmm-memory\", at-most = \"5MiB\""),
        metric("experiment = \"boot\", name = \"vmm-memroy\", at-most = \"5MiB\""),
        metric("experiment = \"boot\", name = \"vmm-memory\", at-most = \"5MB\""),
        metric("experiment = \"boot\", name = \"vmm-memory\", at-most = 5"),
        metric("experiment = \"boot\", name = \"vmm-memory\""),
    ]));
}
