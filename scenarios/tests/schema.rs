//! The committed JSON Schema.

use std::path::Path;

/// `VTAX_BLESS=1 cargo test -p vtax-scenarios --test schema` writes the file anew.
#[test]
fn the_committed_schema_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenario.schema.json");
    let schema = vtax_scenarios::json_schema();
    if std::env::var_os("VTAX_BLESS").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        schema,
        "scenario.schema.json is out of date: run this test with VTAX_BLESS=1"
    );
}
