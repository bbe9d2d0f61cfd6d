//! A guest's network link beside the host's own, in a namespace that vtax makes.

use serde_json::Value;
use vtax_tests::{Stage, skip};

const SCENARIO: &str = r#"schema = 1
name = "net"

[guest]
memory = "16MiB"
net = "virtio-net"

[measure]
precision = "50%"
block = "10ms"
rounds = 2
pilot-boots = 3
max-boots = 3

[[workload]]
name = "net-ping"

[[workload]]
name = "net-stream"
params = { frame = "1514B" }

[matrix]
"guest.net-completion" = ["interrupt", "poll"]
"guest.net-link" = ["namespace", "bridge"]
"#;

/// A guest without a network card, and one with it. Nothing is claimed, so that what the card does to the guest is the question:
/// a host on which no guest has one cannot tell.
const WITH_AND_WITHOUT: &str = r#"schema = 1
name = "net"

[guest]
memory = "16MiB"

[measure]
precision = "50%"
block = "10ms"
rounds = 2
pilot-boots = 3
max-boots = 3

[[workload]]
name = "cpu-hash"

[matrix]
"guest.net" = ["none", "virtio-net"]
"#;

/// What a shell does to /dev/net before it becomes vtax: no tap device, and one that may not be opened.
const WITHOUT_TAP: [(&str, &str); 2] = [
    ("mount -t tmpfs none /dev/net", "No such file or directory"),
    (
        "mount -t tmpfs -o nodev none /dev/net && mknod /dev/net/tun c 10 200",
        "Permission denied",
    ),
];

fn cells(stage: &Stage) -> Vec<Value> {
    let results = stage.run_dir("run").json("results.json");
    results["cells"].as_array().expect("cells").clone()
}

#[test]
fn frames_are_measured_on_both_sides() {
    let Some(stage) = Stage::as_root_with_kvm() else {
        return;
    };
    stage.file("net.toml", SCENARIO);
    let outcome = stage.vtax("run net.toml --out run").run();
    // Nothing is claimed; on a busy host a cell may not be finished.
    assert!(matches!(outcome.code(), Some(0 | 4)), "{outcome:#?}");
    let cells = cells(&stage);
    assert_eq!(cells.len(), 8);
    for cell in &cells {
        let reason = cell["reason"].as_str().expect("every cell has a reason");
        // A container's root may lack the device or the right.
        if cell["verdict"] == "not_testable" && reason.contains("/dev/net/tun") {
            skip(reason);
            return;
        }
        assert_eq!(cell["failed"], false, "{cell}");
        for side in ["native", "guest"] {
            assert!(cell[side]["median"].as_f64().unwrap() > 0.0, "{cell}");
        }
        let quantiles = cell["quantiles"].as_array().expect("quantiles");
        let served = if std::path::Path::new("/dev/vhost-net").exists() {
            "vhost"
        } else {
            "vmm"
        };
        assert_eq!(cell["net_backend"], served, "{cell}");
        assert_eq!(cell["lost_frames"]["guest"], 0, "{cell}");
        assert_eq!(cell["lost_frames"]["native"], 0, "{cell}");
        assert_eq!(
            quantiles.is_empty(),
            cell["workload"] != "net-ping",
            "{cell}"
        );
    }
    // A lost frame voids its block by the checksum.
    let samples = std::fs::read_to_string(stage.path("run/samples.csv")).expect("samples");
    assert!(!samples.contains("checksum"), "{samples}");
    let report = stage.run_dir("run").text("report.html");
    assert!(report.contains("<th class=\"n\">lost frames</th>"));
    assert!(report.contains("native 0, guest 0"));
}

#[test]
fn without_a_tap_device_the_cell_says_so_and_the_rest_runs() {
    let Some(stage) = Stage::as_root_with_kvm() else {
        return;
    };
    stage.file("net.toml", WITH_AND_WITHOUT);
    for (run, (hide, error)) in ["absent", "forbidden"].iter().zip(WITHOUT_TAP) {
        let shell = format!("mkdir -p /dev/net && {hide} && exec \"$0\" \"$@\"");
        let wrapper = ["unshare", "--mount", "sh", "-c", &shell];
        let line = format!("run net.toml --out {run}");
        let outcome = stage.vtax_under(&wrapper, &line).run();
        outcome.exits(5);
        let results = stage.run_dir(run).json("results.json");
        let [without, with] = &results["cells"].as_array().expect("cells")[..] else {
            panic!("{results:#?}");
        };
        assert!(
            without["guest"]["median"].as_f64().unwrap() > 0.0,
            "{without}"
        );
        assert_eq!(with["verdict"], "not_testable", "{with}");
        let reason = with["reason"].as_str().expect("every cell has a reason");
        for words in [error, "/dev/net/tun", "modprobe tun"] {
            assert!(reason.contains(words), "{reason}");
        }
    }
}

#[test]
fn a_kernel_that_serves_no_network_card_is_told_of() {
    let Some(stage) = Stage::as_root_with_kvm() else {
        return;
    };
    let scenario = WITH_AND_WITHOUT.replace("[measure]", "net-backend = \"vhost\"\n\n[measure]");
    stage.file("net.toml", &scenario);
    // Where there is one, it may not be opened.
    let shell = "if [ -e /dev/vhost-net ]; then mkdir hidden && mount -t tmpfs -o nodev none hidden \
                 && mknod hidden/vhost c 10 238 && mount --bind hidden/vhost /dev/vhost-net || exit 9; fi; exec \"$0\" \"$@\"";
    let wrapper = ["unshare", "--mount", "sh", "-c", shell];
    let outcome = stage.vtax_under(&wrapper, "run net.toml --out run").run();
    outcome.exits(5);
    let cells = cells(&stage);
    let [without, with] = &cells[..] else {
        panic!("{cells:#?}");
    };
    assert!(
        without["guest"]["median"].as_f64().unwrap() > 0.0,
        "{without}"
    );
    assert_eq!(with["verdict"], "not_testable", "{with}");
    let reason = with["reason"].as_str().expect("every cell has a reason");
    for words in [
        "/dev/vhost-net",
        "modprobe vhost_net",
        "net-backend = \"vmm\"",
    ] {
        assert!(reason.contains(words), "{reason}");
    }
}

#[test]
fn without_the_right_to_a_namespace_the_cell_says_so_and_the_rest_runs() {
    let Some(stage) = Stage::as_root_with_kvm() else {
        return;
    };
    stage.file("net.toml", WITH_AND_WITHOUT);
    let wrapper = [
        "setpriv",
        "--bounding-set=-sys_admin",
        "--inh-caps=-sys_admin",
    ];
    let outcome = stage.vtax_under(&wrapper, "run net.toml --out run").run();
    outcome.exits(5);
    let cells = cells(&stage);
    let [without, with] = &cells[..] else {
        panic!("{cells:#?}");
    };
    assert!(
        without["guest"]["median"].as_f64().unwrap() > 0.0,
        "{without}"
    );
    assert_eq!(with["verdict"], "not_testable", "{with}");
    let reason = with["reason"].as_str().expect("every cell has a reason");
    assert!(reason.contains("CAP_SYS_ADMIN"), "{with}");
}
