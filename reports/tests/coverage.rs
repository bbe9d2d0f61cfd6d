//! The statistics keep their promise: coverage under the stopping rule that `vtax run` uses, simulated.

mod simulation;

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use simulation::{CAPS, Noise, Outcome, Promise};

/// What a 95 % interval may cover.
const PROMISED: RangeInclusive<f64> = 0.935..=0.965;

static OUTCOMES: LazyLock<Vec<(Noise, [Outcome; CAPS.len()])>> =
    LazyLock::new(simulation::outcomes);

#[test]
fn intervals_cover_as_promised() {
    for (noise, outcomes) in OUTCOMES.iter() {
        for (cap, outcome) in CAPS.into_iter().zip(outcomes) {
            let coverage = outcome.coverage;
            let keeps = match noise.promise() {
                Promise::Exact => PROMISED.contains(&coverage),
                Promise::Cautious => coverage >= *PROMISED.start(),
                Promise::None => continue,
            };
            assert!(keeps, "{noise:?}, at most {cap} boots: {coverage}");
        }
    }
}

#[test]
fn a_a_raises_no_more_false_alarms_than_promised() {
    for (noise, outcomes) in OUTCOMES.iter() {
        for (cap, outcome) in CAPS.into_iter().zip(outcomes) {
            let coverage = outcome.control_coverage;
            assert!(
                coverage >= *PROMISED.start(),
                "{noise:?}, at most {cap} boots: {coverage}"
            );
        }
    }
}

#[test]
fn a_guest_as_fast_as_native_is_rarely_called_slower() {
    for noise in Noise::ALL {
        if noise.promise() != Promise::None {
            let alarms = simulation::outcome(noise, CAPS[0], 0.0).below_native;
            assert!(alarms <= 0.035, "{noise:?}: {alarms}");
        }
    }
}

#[test]
fn a_loss_of_twice_the_half_width_is_found() {
    for (noise, outcomes) in OUTCOMES.iter() {
        if noise.promise() != Promise::None {
            let found = outcomes[0].below_native;
            assert!(found >= 0.95, "{noise:?}: {found}");
        }
    }
}

#[test]
fn the_documented_table_is_the_simulated_one() {
    let document = include_str!("../STATISTICS.md");
    assert_eq!(
        &document[simulation::section(document)],
        simulation::table(&OUTCOMES),
        "STATISTICS.md is out of date: run `cargo run --release -p vtax-reports --example coverage_table`"
    );
}
