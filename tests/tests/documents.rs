//! What the documents name is there, and what they tell a user to write is right.

use std::fs;
use std::path::{Path, PathBuf};

use vtax_tests::Stage;

const DOCUMENTS: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "reports/STATISTICS.md",
    "scripts/FIRST-RUN.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(document: &str) -> String {
    fs::read_to_string(root().join(document)).expect("each document is there")
}

/// What stands between `open` and the next `close`.
fn between<'a>(text: &'a str, open: &'a str, close: char) -> impl Iterator<Item = &'a str> {
    text.split(open)
        .skip(1)
        .filter_map(move |rest| Some(rest.split_once(close)?.0))
}

#[test]
fn links_lead_to_files() {
    let mut seen = 0;
    for document in DOCUMENTS {
        let text = text(document);
        let folder = root().join(document);
        let folder = folder.parent().unwrap();
        for target in between(&text, "](", ')') {
            let is_file = !target.contains("://");
            assert!(
                !is_file || folder.join(target).exists(),
                "{document} links to {target}"
            );
            seen += usize::from(is_file);
        }
    }
    assert!(seen > 10, "only {seen} links were found");
}

#[test]
fn the_architecture_names_files_that_exist() {
    let text = text("ARCHITECTURE.md");
    let folders = [
        "harness/",
        "scenarios/",
        "reports/",
        "workloads/",
        "tests/",
        "scripts/",
    ];
    let mut seen = 0;
    // Between two back quotes, at every other place.
    for path in text.split('`').skip(1).step_by(2) {
        let is_path = folders.iter().any(|folder| path.starts_with(folder));
        if is_path && !path.contains(['*', ' ']) && !path.contains("NAME") {
            assert!(root().join(path).exists(), "ARCHITECTURE.md names {path}");
            seen += 1;
        }
    }
    assert!(seen > 40, "only {seen} paths were found");
}

#[test]
fn the_readmes_scenario_is_sound() {
    let text = text("README.md");
    let scenarios: Vec<&str> = text
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("```")?.0))
        .collect();
    assert!(!scenarios.is_empty());
    for scenario in scenarios {
        let stage = Stage::new();
        stage.file("readme.toml", scenario);
        stage.vtax("run readme.toml --dry-run").run().exits(0);
    }
}

#[test]
fn the_readme_and_the_help_agree_on_commands_and_exit_codes() {
    let readme = text("README.md");
    let stage = Stage::new();
    let help = stage.vtax("--help").run().exits(0).stdout.clone();
    let commands = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help");
    for command in commands {
        assert!(
            readme.contains(&format!("`vtax {command}")),
            "the README lacks {command}"
        );
    }
    let codes = help
        .split("Exit codes: ")
        .nth(1)
        .unwrap()
        .replace('\n', " ");
    for code in codes
        .split(", ")
        .filter_map(|entry| entry.split(' ').next())
    {
        assert!(
            readme.contains(&format!("| {code} | ")),
            "the README lacks exit code {code}"
        );
    }
}
