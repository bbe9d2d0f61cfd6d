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

/// The value below which this share of `values` lies; NaN where there are none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // Between 0 and the last place: the cast is exact enough and saturates.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let place = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}
