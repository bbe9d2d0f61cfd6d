//! Counts and times that were computed as `f64`.

/// The integer part of a number that is not negative; what does not fit saturates, and no number is 0.
#[must_use]
pub fn whole(value: f64) -> u64 {
    // `as` saturates, which is what this function promises.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = value as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn what_does_not_fit_saturates() {
        assert_eq!(whole(2.9), 2);
        assert_eq!(whole(-1.0), 0);
        assert_eq!(whole(f64::INFINITY), u64::MAX);
        assert_eq!(whole(f64::NAN), 0);
    }
}
