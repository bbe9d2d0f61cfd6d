//! Quantiles of figures.

/// The value below which this share of `values` lies; NaN where there are none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // Between 0 and the last place: the cast is exact enough and saturates.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let place = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}
