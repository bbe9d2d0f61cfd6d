//! Simulates the coverage of the intervals and writes the table into `STATISTICS.md`:
//! `cargo run --release -p vtax-reports --example coverage_table`.

#[path = "../tests/simulation/mod.rs"]
mod simulation;

fn main() -> std::io::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/STATISTICS.md");
    let mut document = std::fs::read_to_string(path)?;
    let table = simulation::table(&simulation::outcomes());
    document.replace_range(simulation::section(&document), &table);
    std::fs::write(path, document)?;
    println!("{table}");
    Ok(())
}
