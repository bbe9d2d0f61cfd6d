//! Whether two sides have the same share of something that happens to blocks.

use statrs::distribution::{Discrete as _, Hypergeometric};

use super::boot::Blocks;

/// Fisher's exact test (1935, "The logic of inductive inference", Journal of the Royal Statistical Society 98), two-sided:
/// how likely shares of void blocks as unlike as these are where both sides have the same. 1 where nothing is void.
#[must_use]
pub fn chance_of_void(one: Blocks, other: Blocks) -> f64 {
    let (all, void) = (one.all + other.all, one.void + other.void);
    let Ok(chance) = Hypergeometric::new(all, void, one.all) else {
        return 1.0;
    };
    let observed = chance.pmf(one.void);
    // As likely as what was observed, but for rounding.
    let most = observed * (1.0 + 1e-7);
    let least = void.saturating_sub(other.all);
    (least..=void.min(one.all))
        .map(|void| chance.pmf(void))
        .filter(|&probability| probability <= most)
        .sum::<f64>()
        .min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fisher's lady tasting tea, 3 of 4 and 1 of 4: 17/35, and all of 4 and none: 1/35.
    #[test]
    fn agrees_with_fisher_s_own_example() {
        let cups = |void| Blocks { all: 4, void };
        assert!((chance_of_void(cups(3), cups(1)) - 17.0 / 35.0).abs() < 1e-9);
        assert!((chance_of_void(cups(4), cups(0)) - 1.0 / 35.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_void_is_nothing_unequal() {
        let none = |all| Blocks { all, void: 0 };
        assert_eq!(chance_of_void(none(90), none(180)), 1.0);
        assert_eq!(chance_of_void(none(0), none(0)), 1.0);
    }
}
