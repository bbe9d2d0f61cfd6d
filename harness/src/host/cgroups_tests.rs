use super::*;
use crate::host::fake::Tree;
use crate::host::io_weight::{IoWeight, Sharer};
use crate::host::root::format_list;

const V1: &[(&str, &str)] = &[
    (
        "proc/self/mountinfo",
        "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
         34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
         35 31 0:32 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n\
         36 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
         41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
    ),
    (
        "proc/self/cgroup",
        "4:memory:/job\n3:blkio:/\n2:cpuset:/job\n1:cpu:/\n0::/\n",
    ),
    ("sys/fs/cgroup/blkio/", ""),
    ("sys/fs/cgroup/cpu/", ""),
    ("sys/fs/cgroup/cpuset/job/cpuset.effective_cpus", "0-7\n"),
    ("sys/fs/cgroup/cpuset/job/cpuset.effective_mems", "0-1\n"),
    ("sys/fs/cgroup/memory/job/", ""),
];

const V2: &[(&str, &str)] = &[
    (
        "proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    ),
    ("proc/self/cgroup", "0::/user.slice/job\n"),
    (
        "sys/fs/cgroup/cgroup.subtree_control",
        "cpuset cpu io memory pids\n",
    ),
    (
        "sys/fs/cgroup/user.slice/cgroup.subtree_control",
        "cpu memory\n",
    ),
    ("sys/fs/cgroup/user.slice/job/cgroup.subtree_control", ""),
];

/// Limits that take the controllers for CPU time and memory.
fn some() -> Limits {
    Limits {
        cpu_weight: Some(200),
        cpu_quota: Some(0.5),
        memory: Some(1 << 30),
        ..Limits::default()
    }
}

fn all() -> Limits {
    Limits {
        cpus: Some(vec![0, 2, 3]),
        io_weight: Some(IoWeight {
            sharer: Sharer::Bfq,
            weight: 300,
        }),
        ..some()
    }
}

/// A real group's files go with it; those of a fake one have to go first.
fn remove(group: Group) {
    for path in group.paths() {
        for entry in fs::read_dir(path).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    group.remove().unwrap();
}

#[test]
fn version_1_has_a_directory_for_each_controller() {
    let tree = Tree::new(V1);
    let root = tree.root();
    let cgroups = Cgroups::of(&root).unwrap();
    assert!(Controller::ALL.iter().all(|&it| cgroups.has(it)));
    let group = cgroups.make("vtax-1-0", &all()).unwrap().unwrap();
    let text = |path: &str| root.text(&format!("sys/fs/cgroup/{path}")).unwrap();
    assert_eq!(text("cpu/vtax-1-0/cpu.shares"), "2048");
    assert_eq!(text("cpu/vtax-1-0/cpu.cfs_period_us"), "100000");
    assert_eq!(text("cpu/vtax-1-0/cpu.cfs_quota_us"), "50000");
    assert_eq!(
        text("memory/job/vtax-1-0/memory.limit_in_bytes"),
        "1073741824"
    );
    assert_eq!(text("cpuset/job/vtax-1-0/cpuset.cpus"), "0,2-3");
    // Without memory nobody may join it.
    assert_eq!(text("cpuset/job/vtax-1-0/cpuset.mems"), "0-1");
    assert_eq!(text("blkio/vtax-1-0/blkio.bfq.weight"), "300");
    group.add(77).unwrap();
    let paths = group.paths();
    assert_eq!(paths.len(), 4);
    for (path, entrance) in paths.iter().zip(group.entrances()) {
        assert_eq!(entrance, path.join("tasks"));
        assert_eq!(fs::read_to_string(path.join("cgroup.procs")).unwrap(), "77");
    }
    remove(group);
    assert!(paths.iter().all(|path| !path.exists()));
}

#[test]
fn version_1_uses_no_hierarchy_that_nothing_is_asked_of() {
    let tree = Tree::new(V1);
    let cgroups = Cgroups::of(&tree.root()).unwrap();
    let group = cgroups.make("vtax-1-0", &Limits::default());
    let group = group.unwrap().unwrap();
    assert_eq!(
        group.paths(),
        [tree.root().path("sys/fs/cgroup/cpu/vtax-1-0")]
    );
}

#[test]
fn controllers_of_one_hierarchy_share_a_directory_whose_cpuset_is_furnished() {
    let tree = Tree::new(&[
        (
            "proc/self/mountinfo",
            "33 31 0:30 / /sys/fs/cgroup/all rw - cgroup cgroup rw,cpu,cpuset\n",
        ),
        ("proc/self/cgroup", "1:cpu,cpuset:/\n"),
        ("sys/fs/cgroup/all/cpuset.effective_cpus", "0-7\n"),
        ("sys/fs/cgroup/all/cpuset.effective_mems", "0\n"),
    ]);
    let root = tree.root();
    let cgroups = Cgroups::of(&root).unwrap();
    let group = cgroups.make("vtax-1-0", &Limits::default()).unwrap();
    assert_eq!(group.unwrap().paths().len(), 1);
    let text = |name: &str| root.text(&format!("sys/fs/cgroup/all/vtax-1-0/{name}"));
    assert_eq!(text("cpuset.cpus").unwrap(), "0-7");
    assert_eq!(text("cpuset.mems").unwrap(), "0");
}

#[test]
fn version_2_goes_where_the_controllers_are_handed_on() {
    let tree = Tree::new(V2);
    let root = tree.root();
    let cgroups = Cgroups::of(&root).unwrap();
    let group = cgroups.make("vtax-1-0", &some()).unwrap().unwrap();
    let text = |name: &str| {
        root.text(&format!("sys/fs/cgroup/user.slice/vtax-1-0/{name}"))
            .unwrap()
    };
    assert_eq!(text("cpu.weight"), "200");
    assert_eq!(text("cpu.max"), "50000 100000");
    assert_eq!(text("memory.max"), "1073741824");
    assert_eq!(group.paths().len(), 1);
    remove(group);
    assert!(!root.exists("sys/fs/cgroup/user.slice/vtax-1-0"));

    // A process is in one group: that with all controllers, though a nearer one has some.
    let group = cgroups.make("vtax-1-0", &all()).unwrap().unwrap();
    let text = |name: &str| {
        root.text(&format!("sys/fs/cgroup/vtax-1-0/{name}"))
            .unwrap()
    };
    assert_eq!(group.paths().len(), 1);
    assert_eq!(text("cpu.weight"), "200");
    assert_eq!(text("cpuset.cpus"), "0,2-3");
    assert_eq!(text("io.bfq.weight"), "300");
    assert!(!root.exists("sys/fs/cgroup/vtax-1-0/cpuset.mems"));
    remove(group);
}

#[test]
fn the_weight_of_a_cost_model_has_a_file_of_its_own() {
    let tree = Tree::new(V2);
    let limits = Limits {
        io_weight: Some(IoWeight {
            sharer: Sharer::Iocost,
            weight: 10_000,
        }),
        ..Limits::default()
    };
    let cgroups = Cgroups::of(&tree.root()).unwrap();
    let _group = cgroups.make("vtax-1-0", &limits).unwrap().unwrap();
    let text = tree.root().text("sys/fs/cgroup/vtax-1-0/io.weight");
    assert_eq!(text.unwrap(), "10000");
}

#[test]
fn without_a_place_nothing_is_made_and_a_limit_is_refused() {
    let tree = Tree::new(&V2[..2]);
    tree.write("sys/fs/cgroup/user.slice/job/cgroup.subtree_control", "");
    let cgroups = Cgroups::of(&tree.root()).unwrap();
    assert!(!Controller::ALL.iter().any(|&it| cgroups.has(it)));
    assert!(cgroups.make("x", &Limits::default()).unwrap().is_none());
    let error = cgroups.make("x", &some()).unwrap_err();
    assert!(error.is_lack());
    let error = error.to_string();
    assert!(error.contains("the cpu controller"), "{error}");
    // One that hands on some controllers is no place for a group that needs more.
    tree.write(
        "sys/fs/cgroup/user.slice/job/cgroup.subtree_control",
        "cpu memory",
    );
    let cgroups = Cgroups::of(&tree.root()).unwrap();
    let error = cgroups.make("x", &all()).unwrap_err().to_string();
    assert!(error.contains("the cpuset controller"), "{error}");
}

#[test]
fn a_value_that_the_kernel_refuses_leaves_no_group() {
    let tree = Tree::new(V1);
    let cgroups = Cgroups::of(&tree.root()).unwrap();
    // The memory directory of that name is there already.
    tree.write("sys/fs/cgroup/memory/job/vtax-1-0/", "");
    let error = cgroups.make("vtax-1-0", &some()).unwrap_err().to_string();
    assert!(error.starts_with("making the control group"), "{error}");
    assert!(!tree.root().exists("sys/fs/cgroup/cpu/vtax-1-0"));
}

#[test]
fn groups_of_processes_that_are_gone_are_swept() {
    let tree = Tree::new(V1);
    const HIERARCHIES: [&str; 4] = ["blkio", "cpu", "cpuset/job", "memory/job"];
    for hierarchy in HIERARCHIES {
        for name in ["vtax-7-0", "vtax-8-1", "vtax-9-0", "vtax-x-1", "other"] {
            tree.write(&format!("sys/fs/cgroup/{hierarchy}/{name}/"), "");
        }
    }
    // 8 runs; 9 has ended, and its parent has not waited for it.
    let of_this = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, rest) = of_this.rsplit_once(") ").unwrap();
    for (process, state) in [(8, 'S'), (9, 'Z')] {
        let stat = format!("{process} (vtax) {state}{}", &rest[1..]);
        tree.write(&format!("proc/{process}/stat"), &stat);
    }
    let root = tree.root();
    let mut removed = Cgroups::of(&root).unwrap().sweep();
    removed.sort();
    let gone = |it| ["vtax-7-0", "vtax-9-0"].map(|name| format!("sys/fs/cgroup/{it}/{name}"));
    let expected: Vec<_> = HIERARCHIES.iter().flat_map(gone).collect();
    assert_eq!(
        removed,
        expected.iter().map(|it| root.path(it)).collect::<Vec<_>>()
    );
    for hierarchy in HIERARCHIES {
        let mut left = root.entries(&format!("sys/fs/cgroup/{hierarchy}")).unwrap();
        left.retain(|name| !name.starts_with("cpuset."));
        assert_eq!(left, ["other", "vtax-8-1", "vtax-x-1"]);
    }
}

#[test]
fn groups_of_version_2_are_swept_wherever_they_can_be() {
    let tree = Tree::new(V2);
    for level in ["", "user.slice/"] {
        tree.write(&format!("sys/fs/cgroup/{level}vtax-7-0/"), "");
    }
    let removed = Cgroups::of(&tree.root()).unwrap().sweep();
    assert_eq!(removed.len(), 2, "{removed:?}");
}

#[test]
fn the_real_kernel_takes_it() {
    let root = HostRoot::default();
    let cgroups = Cgroups::of(&root).unwrap();
    if !cgroups.has(Controller::Cpu) {
        eprintln!("SKIPPED the_real_kernel_takes_it: no cgroup may be made here");
        return;
    }
    let allowed = crate::host::affinity::allowed_cpus().unwrap();
    let confined = cgroups
        .has(Controller::Cpuset)
        .then(|| allowed[..1].to_vec());
    if confined.is_none() {
        eprintln!("SKIPPED a part of the_real_kernel_takes_it: no cpuset may be made here");
    }
    let limits = Limits {
        memory: None,
        cpus: confined.clone(),
        ..some()
    };
    let group = cgroups
        .make(&format!("{}-test", Cgroups::name(9999)), &limits)
        .unwrap()
        .unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    group.add(child.id()).unwrap();
    let of = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    assert!(of.contains("-9999-test"), "{of}");
    if let Some(cpus) = confined {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let mut lines = status.lines();
        let allowed = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        assert_eq!(allowed.unwrap().trim(), format_list(&cpus));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let paths = group.paths();
    group.remove().unwrap();
    assert!(paths.iter().all(|path| !path.exists()));
}

#[test]
fn the_real_kernel_takes_a_weight_of_io_or_says_that_it_has_none() {
    let cgroups = Cgroups::of(&HostRoot::default()).unwrap();
    if !cgroups.has(Controller::Io) {
        eprintln!(
            "SKIPPED the_real_kernel_takes_a_weight_of_io: no cgroup for I/O may be made here"
        );
        return;
    }
    let limits = |sharer| Limits {
        io_weight: Some(IoWeight {
            sharer,
            weight: 300,
        }),
        ..Limits::default()
    };
    for (number, sharer) in [(9998, Sharer::Bfq), (9997, Sharer::Iocost)] {
        let name = format!("{}-test", Cgroups::name(number));
        match cgroups.make(&name, &limits(sharer)) {
            Ok(group) => {
                let group = group.unwrap();
                let texts: Vec<String> = group
                    .paths()
                    .iter()
                    .flat_map(|path| [false, true].map(|it| path.join(sharer.file(it))))
                    .filter_map(|path| fs::read_to_string(path).ok())
                    .collect();
                assert!(
                    texts.iter().any(|text| text.trim().ends_with("300")),
                    "{texts:?}"
                );
            }
            Err(error) => assert!(error.is_lack(), "{error}"),
        }
        assert!(!cgroups.places.iter().any(|place| {
            let path = format!("{}/{name}", place.directory);
            HostRoot::default().exists(&path)
        }));
    }
}

/// A scope that systemd has delegated to this process.
fn scope(processes: &str) -> Option<Tree> {
    let tree = Tree::new(V2);
    let job = "sys/fs/cgroup/user.slice/job";
    tree.write(&format!("{job}/cgroup.procs"), processes);
    tree.write(&format!("{job}/cgroup.controllers"), "cpu memory pids\n");
    let path = tree.root().path(job);
    let flags = rustix::fs::XattrFlags::empty();
    match rustix::fs::setxattr(path, "user.delegate", b"1", flags) {
        Ok(()) => Some(tree),
        Err(error) => {
            eprintln!("SKIPPED a delegated group: no extended attributes here: {error}");
            None
        }
    }
}

#[test]
fn in_a_delegated_group_vtax_moves_into_a_leaf_and_stays_below() {
    let own = std::process::id().to_string();
    let Some(tree) = scope(&own) else {
        return;
    };
    let root = tree.root();
    let cgroups = Cgroups::of(&root).unwrap();
    let group = cgroups.make("vtax-1-0", &some()).unwrap().unwrap();
    let text = |path: &str| root.text(&format!("sys/fs/cgroup/user.slice/job/{path}"));
    assert_eq!(text("cgroup.subtree_control").unwrap(), "+cpu +memory");
    assert_eq!(text(&format!("vtax-{own}-self/cgroup.procs")).unwrap(), own);
    assert_eq!(text("vtax-1-0/cpu.weight").unwrap(), "200");
    remove(group);
    // A second group, as the kernel shows it now, makes no other leaf.
    tree.write(
        "sys/fs/cgroup/user.slice/job/cgroup.subtree_control",
        "cpu memory",
    );
    remove(cgroups.make("vtax-1-1", &some()).unwrap().unwrap());
    assert_eq!(text("cgroup.subtree_control").unwrap(), "cpu memory");
}

#[test]
fn a_delegated_group_that_others_are_in_too_is_left_alone() {
    let Some(tree) = scope(&format!("1\n{}", std::process::id())) else {
        return;
    };
    let root = tree.root();
    let cgroups = Cgroups::of(&root).unwrap();
    let group = cgroups.make("vtax-1-0", &some()).unwrap().unwrap();
    assert!(root.exists("sys/fs/cgroup/user.slice/vtax-1-0"));
    remove(group);
}
