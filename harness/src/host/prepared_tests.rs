//! Setting and putting back, on a fake host, through all that can come between.

use std::fs;

use super::super::fake::Tree;
use super::super::leftovers::Leftover;
use super::*;
use crate::host::journal::Origin;

const THP: &str = "sys/kernel/mm/transparent_hugepage/enabled";
const KSM: &str = "sys/kernel/mm/ksm/run";
const SCAN: &str = "sys/kernel/mm/ksm/pages_to_scan";
const ADVISOR: &str = "sys/kernel/mm/ksm/advisor_mode";

fn tree() -> Tree {
    Tree::new(&[
        ("proc/sys/kernel/random/boot_id", "b1\n"),
        (THP, "madvise\n"),
        (KSM, "0\n"),
        (SCAN, "100\n"),
        (ADVISOR, "none\n"),
    ])
}

fn journal(tree: &Tree, origin: Origin) -> Journal {
    Journal::at(&tree.root(), &tree.root().path("journals"), origin).unwrap()
}

fn prepared(tree: &Tree, origin: Origin) -> Prepared {
    let journal = journal(tree, origin);
    let audit = Audit::of_host(&journal);
    Prepared::new(tree.root(), journal, audit)
}

fn settings(given: &[(Knob, &str)]) -> HostSettings {
    given
        .iter()
        .map(|(knob, value)| (*knob, (*value).to_owned()))
        .collect()
}

/// What SIGKILL leaves: no destructor runs.
fn killed(prepared: Prepared) {
    std::mem::forget(prepared);
}

fn texts(tree: &Tree) -> [String; 4] {
    [THP, KSM, SCAN, ADVISOR].map(|file| tree.root().text(file).unwrap())
}

#[test]
fn what_a_cell_does_not_name_goes_back() {
    let tree = tree();
    let before = texts(&tree);
    let mut host = prepared(&tree, Origin::Run);
    host.set(&settings(&[(Knob::Thp, "always"), (Knob::Ksm, "on")]), &[])
        .unwrap();
    assert_eq!(texts(&tree)[..2], ["always", "1"]);
    host.set(&settings(&[(Knob::Thp, "never")]), &[]).unwrap();
    assert_eq!(texts(&tree)[..2], ["never", "0"]);
    host.set(&settings(&[]), &[]).unwrap();
    assert_eq!(texts(&tree), before);
    assert!(host.journal.is_empty());
}

#[test]
fn an_error_and_a_panic_put_everything_back() {
    let tree = tree();
    let before = texts(&tree);
    let panicked = std::panic::catch_unwind(|| {
        let mut host = prepared(&tree, Origin::Run);
        host.set(&settings(&[(Knob::Thp, "always")]), &[]).unwrap();
        assert_eq!(texts(&tree)[0], "always");
        panic!("as a vCPU thread might");
    });
    assert!(panicked.is_err());
    assert_eq!(texts(&tree), before);
    assert!(!journal(&tree, Origin::Run).exists());
}

#[test]
fn the_next_one_puts_back_what_a_killed_one_left() {
    let tree = tree();
    let before = texts(&tree);
    let mut host = prepared(&tree, Origin::Run);
    host.set(&settings(&[(Knob::Thp, "always"), (Knob::Ksm, "on")]), &[])
        .unwrap();
    killed(host);
    let restored = prepared(&tree, Origin::Run).restore();
    assert_eq!(restored.parts.len(), 2);
    assert_eq!(texts(&tree), before);
    assert_eq!(prepared(&tree, Origin::Run).restore(), Restored::default());
}

#[test]
fn a_journal_torn_anywhere_is_survived() {
    let tree = tree();
    let before = texts(&tree);
    let mut host = prepared(&tree, Origin::Run);
    let path = host.journal.path().to_owned();
    for knobs in [
        &[(Knob::Thp, "always")][..],
        &[(Knob::Thp, "never"), (Knob::Ksm, "on")],
        &[(Knob::Ksm, "unmerge"), (Knob::KsmAdvisor, "scan-time")],
    ] {
        host.set(&settings(knobs), &[]).unwrap();
    }
    killed(host);
    let whole = fs::read(&path).unwrap();
    assert!(whole.len() > 500);
    // Around the end of each line, and here and there within it: every write is synced, which takes its time.
    let near_end = |at: usize| whole[at.saturating_sub(2)..=at].contains(&b'\n');
    for length in (0..whole.len()).filter(|&at| near_end(at) || at % 89 == 0) {
        for (file, text) in [THP, KSM, SCAN, ADVISOR].iter().zip(&before) {
            tree.write(file, text);
        }
        // Only what whole lines announce was done. Each is done here, the last one included.
        fs::write(&path, &whole[..length]).unwrap();
        for change in journal(&tree, Origin::Run).changes() {
            let text = change.to.last().map_or("1234", String::as_str);
            change.part.write(&tree.root(), text).unwrap();
        }
        let restored = prepared(&tree, Origin::Run).restore();
        assert_eq!(restored.troubles().count(), 0, "at {length}: {restored:?}");
        assert_eq!(texts(&tree), before, "at {length}");
        assert!(!path.exists(), "at {length}");
    }
}

#[test]
fn what_somebody_else_changed_is_told_and_kept() {
    let tree = tree();
    let mut host = prepared(&tree, Origin::Run);
    host.set(&settings(&[(Knob::Thp, "always"), (Knob::Ksm, "on")]), &[])
        .unwrap();
    killed(host);
    tree.write(THP, "never\n");
    let restored = prepared(&tree, Origin::Run).restore();
    let troubles: Vec<String> = restored.troubles().collect();
    assert_eq!(troubles.len(), 1);
    assert!(
        troubles[0].contains("is \"never\" now") && troubles[0].contains("somebody else"),
        "{troubles:?}"
    );
    assert_eq!(texts(&tree)[..2], ["never", "0"]);
    // It is told once.
    assert_eq!(prepared(&tree, Origin::Run).restore(), Restored::default());
}

#[test]
fn a_cell_does_not_overwrite_what_somebody_else_changed() {
    let tree = tree();
    let mut host = prepared(&tree, Origin::Run);
    host.set(&settings(&[(Knob::Thp, "always")]), &[]).unwrap();
    tree.write(THP, "never\n");
    for next in [&[(Knob::Thp, "always")][..], &[]] {
        let error = host.set(&settings(next), &[]).unwrap_err();
        assert!(matches!(error, KnobError::Foreign(_)), "{error}");
    }
    assert_eq!(texts(&tree)[0], "never");
}

#[test]
fn what_the_kernel_sets_along_is_put_back_too() {
    let tree = tree();
    let before = texts(&tree);
    let mut host = prepared(&tree, Origin::Run);
    host.set(&settings(&[(Knob::KsmAdvisor, "scan-time")]), &[])
        .unwrap();
    tree.write(SCAN, "500\n");
    host.set(&settings(&[(Knob::KsmPagesToScan, "200")]), &[])
        .unwrap();
    assert_eq!(texts(&tree)[2..], ["200", "none"]);
    let restored = host.restore();
    assert_eq!(restored.troubles().count(), 0, "{restored:?}");
    assert_eq!(texts(&tree), before);
}

#[test]
fn a_run_puts_back_what_was_applied_before_it_and_no_more() {
    let tree = tree();
    let before = texts(&tree);
    let mut applied = prepared(&tree, Origin::Applied);
    applied
        .set(&settings(&[(Knob::Thp, "always")]), &[])
        .unwrap();
    applied.keep();
    let mut run = prepared(&tree, Origin::Run);
    run.set(&settings(&[(Knob::Thp, "never")]), &[]).unwrap();
    run.restore();
    assert_eq!(texts(&tree)[0], "always");
    // Another one replaces it, and what it was before all is still known.
    let mut applied = prepared(&tree, Origin::Applied);
    applied.set(&settings(&[(Knob::Ksm, "on")]), &[]).unwrap();
    assert_eq!(texts(&tree)[..2], ["madvise", "1"]);
    applied.restore();
    assert_eq!(texts(&tree), before);
}

#[test]
fn after_a_restart_of_the_host_there_is_nothing_to_put_back() {
    let tree = tree();
    let mut host = prepared(&tree, Origin::Run);
    host.set(&settings(&[(Knob::Thp, "always")]), &[]).unwrap();
    killed(host);
    tree.write("proc/sys/kernel/random/boot_id", "b2\n");
    tree.write(THP, "never\n");
    let journal = journal(&tree, Origin::Run);
    let leftover = Leftover {
        origin: Origin::Run,
        ours: true,
        outlived: journal.is_of_earlier_boot().unwrap(),
        journal,
    };
    assert!(leftover.outlived);
    assert!(leftover.sentence().contains("started anew"));
    assert_eq!(
        leftover.put_back(&tree.root(), &[]).unwrap(),
        Restored::default()
    );
    assert_eq!(texts(&tree)[0], "never");
    assert!(!self::journal(&tree, Origin::Run).exists());
}

#[test]
fn a_damaged_journal_is_named_and_nothing_is_touched() {
    let tree = tree();
    tree.write("journals/run.journal", "{\"nonsense\":1}\n");
    let path = tree.root().path("journals");
    let error = Journal::at(&tree.root(), &path, Origin::Run).unwrap_err();
    assert!(
        error.to_string().contains("run.journal:1 is damaged"),
        "{error}"
    );
}

#[test]
fn without_a_journal_nothing_is_changed() {
    let tree = tree();
    tree.write("journals", "a file in the directory's place");
    let journals = tree.root().path("journals/below");
    let journal = Journal::at(&tree.root(), &journals, Origin::Run);
    let error = match journal {
        Err(error) => error.to_string(),
        Ok(journal) => {
            let audit = Audit::of_host(&journal);
            let mut host = Prepared::new(tree.root(), journal, audit);
            let error = host
                .set(&settings(&[(Knob::Thp, "always")]), &[])
                .unwrap_err();
            error.to_string()
        }
    };
    assert!(error.contains("changes nothing on the host"), "{error}");
    assert_eq!(texts(&tree)[0], "madvise");
}

#[test]
fn the_audit_log_names_who_what_and_when() {
    let tree = tree();
    let mut host = prepared(&tree, Origin::Run);
    host.set(&settings(&[(Knob::Thp, "always")]), &[]).unwrap();
    host.restore();
    let log = tree.root().text("journals/events.jsonl").unwrap();
    let events: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events.len(), 2);
    for (event, (name, from, to)) in events.iter().zip([
        ("knob-applied", "madvise", "always"),
        ("knob-restored", "always", "madvise"),
    ]) {
        assert_eq!(
            (&event["event"], &event["from"], &event["to"]),
            (&name.into(), &from.into(), &to.into())
        );
        assert_eq!(event["uid"], rustix::process::getuid().as_raw());
        assert!(event["at_nanos"].as_u64().unwrap() > 0);
        assert!(event["time"].is_string());
    }
}

/// What was applied lies beneath what a run has set: as long as that stays, it is not somebody else's.
#[test]
fn what_a_run_could_not_put_back_does_not_cost_what_was_applied_before_it() {
    let tree = tree();
    let before = texts(&tree);
    let mut applied = prepared(&tree, Origin::Applied);
    applied
        .set(&settings(&[(Knob::Thp, "never"), (Knob::Ksm, "on")]), &[])
        .unwrap();
    applied.keep();
    let mut run = prepared(&tree, Origin::Run);
    run.set(&settings(&[(Knob::Thp, "always")]), &[]).unwrap();
    killed(run);
    tree.make_unreadable(THP);
    let restored = prepared(&tree, Origin::Run).restore();
    assert_eq!((restored.failed.len(), restored.held.len()), (1, 1));
    // It can be read again, and still holds what the run set.
    fs::remove_dir(tree.root().path(THP)).unwrap();
    tree.write(THP, "always\n");
    let beneath = prepared(&tree, Origin::Applied).restore_beneath(&restored.held);
    assert_eq!(beneath.foreign, []);
    assert_eq!(beneath.held, restored.held);
    assert_eq!(texts(&tree)[..2], ["always", "0"]);
    for origin in Origin::BOTH {
        let restored = prepared(&tree, origin).restore();
        assert_eq!(restored.troubles().count(), 0, "{restored:?}");
    }
    assert_eq!(texts(&tree), before);
}
