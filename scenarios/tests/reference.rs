//! The committed reference.

use std::path::Path;

use vtax_scenarios::reference::reference;

/// `VTAX_BLESS=1 cargo test -p vtax-scenarios --test reference` writes the file anew.
#[test]
fn the_committed_reference_is_that_of_the_catalogue_and_the_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("REFERENCE.md");
    let text = reference();
    if std::env::var_os("VTAX_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap_or_default(),
        text,
        "REFERENCE.md is out of date: run this test with VTAX_BLESS=1"
    );
}

#[test]
fn every_workload_every_kind_and_every_key_is_in_it() {
    let text = reference();
    for workload in vtax_workloads::CATALOGUE {
        assert!(text.contains(&format!("#### {}\n", workload.name)));
        for param in workload.params {
            assert!(text.contains(&format!("| `{}` | `", param.name)));
        }
    }
    for key in [
        "`[guest]`",
        "`[host]`",
        "`[[neighbour]]`",
        "`[matrix]`",
        "| `prefault` |",
        "### ksm\n",
    ] {
        assert!(text.contains(key), "{key}");
    }
}
