//! `vtax selftest`: how small an effect this host can show.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vtax_reports::selftest::{Level, Rate, Selftest};

use super::exit::{self, Failure};
use super::run::{alone_on_a_tidy_host, duration, stop_on_signals};
use crate::progress::Talk;
use crate::say::{self, say};
use crate::selftest::{LEVELS, Options, STALLS, SelftestError, selftest};

#[derive(Debug, Args)]
pub struct SelftestArgs {
    /// Trials of each planted slowdown.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    trials: u32,
    /// Longest time of one trial; where stalls are planted, three times as long.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    patience: u64,
    /// Seed of the order of the trials and of all else that is random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object with every trial.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &SelftestArgs, talk: Talk) -> Result<ExitCode, Failure> {
    let stop = stop_on_signals()?;
    let _alone = alone_on_a_tidy_host(talk)?;
    let bar = ProgressBar::with_draw_target(
        Some(u64::from(args.trials) * (LEVELS.len() + STALLS.len()) as u64),
        match talk {
            Talk::Bar => ProgressDrawTarget::stderr(),
            Talk::Quiet | Talk::Verbose => ProgressDrawTarget::hidden(),
        },
    );
    bar.set_style(
        ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} trials, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.tick();
    let options = Options {
        levels: &LEVELS,
        stalls: &STALLS,
        trials: args.trials,
        patience: Duration::from_nanos(args.patience),
        seed: args.seed,
        stop: &stop,
    };
    let result = selftest(&options, |trial| {
        bar.inc(1);
        if talk == Talk::Verbose {
            say!("{trial}");
        }
    })
    .map_err(failure)?;
    bar.finish_and_clear();

    if args.json {
        let mut out = std::io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, &result).context("writing to stdout")?;
        writeln!(out).context("writing to stdout")?;
    } else {
        write!(say::stdout(), "{}", table(&result)).context("writing to stdout")?;
    }
    Ok(if result.interrupted {
        ExitCode::from(exit::INTERRUPTED)
    } else {
        ExitCode::SUCCESS
    })
}

fn failure(error: SelftestError) -> Failure {
    let code = match error {
        SelftestError::Rig(_) => exit::HOST,
        SelftestError::Boot(_) | SelftestError::Scenario(_) => exit::FAILED,
    };
    Failure::Message(error.into(), code)
}

fn table(result: &Selftest) -> String {
    let mut text = String::from(
        "planted       alarms                     truth covered   interval    time per trial (longest)\n",
    );
    for Level {
        planted,
        stalls,
        alarms,
        covered,
        median_seconds,
        longest_seconds,
        median_half_width,
    } in &result.levels
    {
        let planted = match stalls {
            Some(stalls) => stalls.to_string(),
            None if *planted > 0.0 => format!("{:.1} %", 100.0 * planted),
            None => "nothing".to_owned(),
        };
        let interval =
            median_half_width.map_or("–".to_owned(), |half| format!("±{:.2} %", 100.0 * half));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{planted:<12}  {:>3} of {:<3} [{:>3.0} %, {:>3.0} %]  {:>3} of {:<3}      {interval:<10}  {median_seconds:.1} s ({longest_seconds:.1} s)",
            alarms.hits,
            alarms.trials,
            100.0 * alarms.share.low,
            100.0 * alarms.share.high,
            covered.hits,
            covered.trials,
        );
    }
    let _ = writeln!(text, "\n{}", result.sentence);
    for (what, rate) in [
        (
            "Stalls were seen where none were planted",
            result.false_stumbles,
        ),
        ("Taking turns was seen to cost something", result.carry_over),
    ] {
        if let Some(Rate { hits, trials, .. }) = rate {
            let _ = writeln!(text, "{what} in {hits} of {trials} trials.");
        }
    }
    text
}
