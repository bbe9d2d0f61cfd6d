//! Simulates the coverage of the intervals and writes the tables into `STATISTICS.md`:
//! `cargo run --release -p vtax-reports --example coverage_table`.

#[path = "../tests/simulation/mod.rs"]
mod simulation;

use simulation::{noise, stalls};

fn main() -> std::io::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/STATISTICS.md");
    let mut document = std::fs::read_to_string(path)?;
    for (name, table) in [
        ("coverage", noise::table(&noise::outcomes())),
        ("stalls", stalls::table(&stalls::outcomes())),
    ] {
        document.replace_range(simulation::section(&document, name), &table);
        println!("{table}");
    }
    std::fs::write(path, document)
}
