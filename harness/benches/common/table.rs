//! What the benchmarks share: how they are asked, and the one table that they print together.
//!
//! A figure is one row of a Markdown table on stdout; `scripts/bench` puts the head on top. What helps to understand
//! the figures goes to stderr.

/// Whether `cargo bench` started this benchmark; `cargo test` runs benchmarks too, and then nothing is measured.
pub fn asked() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// A figure that was measured, and whether it is as good as wanted.
#[derive(Debug)]
pub struct Measured {
    /// In words, with units.
    pub value: String,
    /// Whether that is enough.
    pub met: bool,
}

/// Prints a figure, or why there is none.
pub fn print(figure: &str, wanted: &str, measured: anyhow::Result<Measured>) {
    match measured {
        Ok(Measured { value, met }) => {
            let met = if met { "yes" } else { "no" };
            println!("| {figure} | {value} | {wanted} | {met} |");
        }
        Err(reason) => println!("| {figure} | not measured: {reason:#} | {wanted} | – |"),
    }
}
