//! The committed description of the files.

use std::path::Path;

/// `VTAX_BLESS=1 cargo test -p vtax-reports --test formats` writes the file anew.
#[test]
fn the_committed_description_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("FORMATS.md");
    let text = vtax_reports::formats::formats();
    if std::env::var_os("VTAX_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap_or_default(),
        text,
        "FORMATS.md is out of date: run this test with VTAX_BLESS=1"
    );
    for field in [
        "`headline`",
        "`reason`",
        "`vtax_version`",
        "`noise_floor`",
        "`run_in_ticks`",
        "`kvm_exits`",
    ] {
        assert!(text.contains(field), "{field}");
    }
}
