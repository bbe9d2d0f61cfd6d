//! What a plan would change on the host, as a diff.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use vtax_scenarios::plan::{Cell, HostSettings, Knob, KnobFact, Plan};

use crate::host::affinity::allowed_cpus;
use crate::host::knobs;
use crate::host::prepared::difference;
use crate::host::root::HostRoot;

/// For each way in which cells want the host set: a `-` line with what it is and a `+` line with what it would be.
/// Empty where no cell sets anything.
pub fn text(host: &HostRoot, plan: &Plan) -> String {
    let facts = knobs::facts(host);
    let cpus = allowed_cpus().unwrap_or_default();
    let mut ways: Vec<(&HostSettings, Vec<u32>, Vec<&Cell>)> = Vec::new();
    for cell in &plan.cells {
        let measured = cell.guest.measured_cpus(&cpus);
        let same = |way: &&mut (&HostSettings, Vec<u32>, Vec<&Cell>)| {
            *way.0 == cell.host && (!cell.host.contains_key(&Knob::IrqsAway) || way.1 == measured)
        };
        match ways.iter_mut().find(same) {
            Some((_, _, cells)) => cells.push(cell),
            None => ways.push((&cell.host, measured, vec![cell])),
        }
    }
    let mut text = experiments(host, plan, &facts);
    for (settings, measured, cells) in ways.iter().filter(|(settings, ..)| !settings.is_empty()) {
        let bold = Style::new().bold();
        let whose = if cells.len() == plan.cells.len() {
            "all cells".to_owned()
        } else {
            let more = cells.len() - 1;
            let others = if more == 0 {
                String::new()
            } else {
                format!(" and {more} more")
            };
            cells
                .first()
                .map_or(String::new(), |cell| format!("{}{others}", cell.label))
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{bold}The host, for {whose}{bold:#}");
        for (&knob, wanted) in *settings {
            text += &line(host, knob, wanted, measured, facts.get(&knob));
        }
    }
    text
}

/// The same for experiments, which set the host by themselves.
fn experiments(host: &HostRoot, plan: &Plan, facts: &BTreeMap<Knob, KnobFact>) -> String {
    let mut text = String::new();
    for experiment in &plan.experiments {
        let Some(settings) = experiment.host_settings("on") else {
            continue;
        };
        let bold = Style::new().bold();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\n{bold}The host, for {}, with ksm off in between{bold:#}",
            experiment.label
        );
        for (&knob, wanted) in &settings {
            text += &line(host, knob, wanted, &[], facts.get(&knob));
        }
    }
    text
}

fn line(
    host: &HostRoot,
    knob: Knob,
    wanted: &str,
    measured: &[u32],
    fact: Option<&KnobFact>,
) -> String {
    let differs = match difference(host, None, knob, wanted, measured) {
        Ok(parts) => parts.iter().any(|part| part.present != part.wanted),
        Err(error) => return coloured(AnsiColor::Yellow, &format!("! {error}")),
    };
    let present = fact.and_then(|fact| fact.present.as_deref());
    if !differs {
        return format!("  {knob} = {wanted}\n");
    }
    let mut text = coloured(
        AnsiColor::Red,
        &format!("- {knob} = {}", present.unwrap_or("?")),
    );
    text += &coloured(AnsiColor::Green, &format!("+ {knob} = {wanted}"));
    if let Some(obstacle) = fact.and_then(|fact| fact.obstacle.as_ref()) {
        text += &coloured(
            AnsiColor::Yellow,
            &format!("! not testable here: {obstacle}"),
        );
    }
    text
}

fn coloured(color: AnsiColor, line: &str) -> String {
    let style = color.on_default();
    format!("{style}{line}{style:#}\n")
}
