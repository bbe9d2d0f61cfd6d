//! Where a curve that only rises reaches a level, out of points with noise.

/// The place at which the curve through `points` (place, height) first reaches `level`: linear between the points of their
/// isotonic regression. `None` where it stays below.
///
/// The regression (Barlow and others 1972, "Statistical inference under order restrictions": neighbours that fall are
/// pooled) lets no single high point decide, which would make the first crossing come too early. `points` are in ascending
/// order of place.
#[must_use]
pub fn crossing(points: &[(f64, f64)], level: f64) -> Option<f64> {
    let rising = isotonic(points);
    let after = rising.iter().position(|&(_, height)| height >= level)?;
    let (x1, y1) = rising[after];
    let Some(&(x0, y0)) = after.checked_sub(1).and_then(|before| rising.get(before)) else {
        return Some(x1);
    };
    Some(x0 + (x1 - x0) * (level - y0) / (y1 - y0))
}

/// The closest heights, by least squares, that never fall.
fn isotonic(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    // Sum and number of the heights of each pool.
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for &(_, height) in points {
        let mut last = (height, 1);
        while let Some(&before) = pools.last()
            && before.0 * last.1 as f64 > last.0 * before.1 as f64
        {
            pools.pop();
            last = (before.0 + last.0, before.1 + last.1);
        }
        pools.push(last);
    }
    let heights = pools
        .into_iter()
        .flat_map(|(sum, count)| std::iter::repeat_n(sum / count as f64, count));
    points.iter().map(|point| point.0).zip(heights).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rising_curve_is_crossed_between_its_points() {
        let points = [(0.0, 0.0), (1.0, 0.01), (2.0, 0.05), (4.0, 0.25)];
        assert_eq!(crossing(&points, 0.15), Some(3.0));
        assert_eq!(crossing(&points, 0.05), Some(2.0));
        assert_eq!(crossing(&points, 0.0), Some(0.0));
        assert_eq!(crossing(&points, 0.3), None);
        assert_eq!(crossing(&[], 0.3), None);
    }

    #[test]
    fn a_single_high_point_does_not_decide() {
        let points = [
            (0.0, 0.0),
            (1.0, 0.09),
            (2.0, -0.01),
            (4.0, 0.02),
            (8.0, 0.2),
        ];
        // The three in the middle are pooled: a third of a tenth each.
        let found = crossing(&points, 0.1).unwrap();
        assert!(found > 4.0 && found < 8.0, "{found}");
    }

    proptest! {
        #[test]
        fn regression_never_falls_and_keeps_the_sum(heights in proptest::collection::vec(-1.0..1.0_f64, 1..30)) {
            let points: Vec<(f64, f64)> = (0..).map(f64::from).zip(heights.iter().copied()).collect();
            let fitted = isotonic(&points);
            prop_assert_eq!(fitted.len(), points.len());
            prop_assert!(fitted.windows(2).all(|pair| pair[0].1 <= pair[1].1 + 1e-12));
            let sum = |all: &[(f64, f64)]| all.iter().map(|it| it.1).sum::<f64>();
            prop_assert!((sum(&fitted) - sum(&points)).abs() < 1e-9);
        }
    }
}
