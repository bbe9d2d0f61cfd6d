//! The statistics keep their promise: coverage under the stopping rule that `vtax run` uses, simulated.

mod simulation;

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use simulation::noise::{self, CAPS, Promise};
use simulation::stalls::{self, EXPECTED};

/// What a 95 % interval may cover.
const PROMISED: RangeInclusive<f64> = 0.935..=0.965;

/// What an interval may miss on the side of a false claim, with 4 standard errors of 5,000 runs.
const FALSE: f64 = 0.025 + 4.0 * 0.0022;

/// How wide an interval may be beside one that knows how stalls are distributed.
const WIDTH: f64 = 1.5;

static NOISE: LazyLock<Vec<noise::Row>> = LazyLock::new(noise::outcomes);
static STALLS: LazyLock<Vec<stalls::Row>> = LazyLock::new(stalls::outcomes);

#[test]
fn intervals_cover_as_promised() {
    for (noise, _, promise, outcomes) in NOISE.iter() {
        for (cap, outcome) in CAPS.into_iter().zip(outcomes) {
            let coverage = outcome.coverage;
            let keeps = match promise {
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
    for (noise, _, _, outcomes) in NOISE.iter() {
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
    for (noise, _, promise) in noise::ALL {
        if promise != Promise::None {
            let alarms = noise::outcome(noise, CAPS[0], 0.0).below_native;
            assert!(alarms <= 0.035, "{noise:?}: {alarms}");
        }
    }
}

#[test]
fn a_loss_of_twice_the_half_width_is_found() {
    for (noise, _, promise, outcomes) in NOISE.iter() {
        if *promise == Promise::Exact {
            let found = outcomes[0].below_native;
            assert!(found >= 0.95, "{noise:?}: {found}");
        }
    }
}

#[test]
fn intervals_hold_what_a_guest_that_stumbles_keeps() {
    for row in STALLS.iter().filter(|row| row.promised) {
        for outcome in &row.outcomes {
            if outcome.expected >= EXPECTED {
                let (noise, rounds) = (row.noise, row.rounds);
                let coverage = outcome.coverage;
                assert!(
                    coverage >= *PROMISED.start(),
                    "{noise:?}, {rounds} rounds: {coverage}"
                );
                let width = outcome.width;
                assert!(
                    width <= WIDTH,
                    "{noise:?}, {rounds} rounds: {width} × as wide"
                );
            }
        }
    }
}

#[test]
fn no_verdict_that_holds_denies_stalls_that_are_there() {
    for row in STALLS.iter().filter(|row| row.promised) {
        for outcome in &row.outcomes {
            let share = outcome.false_statements;
            let (noise, rounds) = (row.noise, row.rounds);
            assert!(share <= FALSE, "{noise:?}, {rounds} rounds: {share}");
        }
    }
}

#[test]
fn the_documented_tables_are_the_simulated_ones() {
    let document = include_str!("../STATISTICS.md");
    for (name, table) in [
        ("coverage", noise::table(&NOISE)),
        ("stalls", stalls::table(&STALLS)),
    ] {
        assert_eq!(
            &document[simulation::section(document, name)],
            table,
            "STATISTICS.md is out of date: run `cargo run --release -p vtax-reports --example coverage_table`"
        );
    }
}
