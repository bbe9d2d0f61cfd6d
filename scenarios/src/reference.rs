//! What a user may write, as text for people and for programs: the workloads of the catalogue, the kinds of experiments, and
//! the keys of a scenario file. `REFERENCE.md` is made of it, and so is what `vtax workload` prints.

use serde_json::{Value, json};
use vtax_workloads::{
    CATALOGUE, Direction, Family, Features, Param, ParamKind, Workload, default_params,
};

use crate::experiment::Unit;
use crate::keys;
use crate::plan::ExperimentKind;
use crate::schema::{document_schema, parameter_text};
use crate::units::{duration_text, size_text};

/// How a family of workloads is called.
#[must_use]
pub const fn family_text(family: Family) -> &'static str {
    match family {
        Family::Cpu => "CPU",
        Family::Memory => "memory",
        Family::Latency => "latency",
        Family::Block => "disk",
        Family::Network => "network",
        Family::Diagnostic => "diagnostic",
    }
}

/// A workload as an object.
#[must_use]
pub fn workload_json(workload: &Workload) -> Value {
    let params: Vec<Value> = workload.params.iter().map(param_json).collect();
    json!({
        "name": workload.name,
        "family": family_text(workload.family),
        "title": workload.title,
        "stresses": workload.stresses,
        "source": workload.source,
        "unit": workload.metric.unit,
        "direction": direction(workload),
        "compared_with_native": workload.has_native_twin(),
        "single_latencies": workload.latencies,
        "cpu_features": features(workload),
        "params": params,
    })
}

fn param_json(param: &Param) -> Value {
    json!({
        "name": param.name,
        "help": param.help,
        "default": parameter_text(param, param.default),
        "values": values(param),
    })
}

fn direction(workload: &Workload) -> &'static str {
    match workload.metric.direction {
        Direction::HigherIsBetter => "higher is better",
        Direction::LowerIsBetter => "lower is better",
    }
}

/// The CPU features that it needs with its defaults.
fn features(workload: &Workload) -> Vec<&'static str> {
    let Features(bits) = (workload.requires)(&default_params(workload));
    Features(bits).names().collect()
}

/// Which values a parameter may have.
fn values(param: &Param) -> String {
    match param.kind {
        ParamKind::Choice(words) => words.join(", "),
        ParamKind::Count => format!("{} to {}", param.min, param.max),
        ParamKind::Bytes => format!("{} to {}", size_text(param.min), size_text(param.max)),
        ParamKind::Duration => {
            format!(
                "{} to {}",
                duration_text(param.min),
                duration_text(param.max)
            )
        }
    }
}

/// One line for each workload.
#[must_use]
pub fn workloads_text() -> String {
    let lines = CATALOGUE.iter().map(|workload| {
        let family = family_text(workload.family);
        format!("{:20} {:10} {}\n", workload.name, family, workload.title)
    });
    lines.collect()
}

/// All that the catalogue says of a workload.
#[must_use]
pub fn workload_text(workload: &Workload) -> String {
    let mut text = format!(
        "{}: {}\n\n{}\n\nFigure: {}, {}",
        workload.name,
        workload.title,
        workload.stresses,
        workload.metric.unit,
        direction(workload)
    );
    text += if workload.has_native_twin() {
        "; compared with native.\n"
    } else {
        "; the host has nothing to compare with, so the cost is the result.\n"
    };
    if workload.latencies {
        text += "Every operation is timed by itself: quantiles are reported.\n";
    }
    let features = features(workload);
    if !features.is_empty() {
        text += &format!("It needs a CPU with {}.\n", features.join(" "));
    }
    text += &format!("Source: {}\n", workload.source);
    for param in workload.params {
        text += &format!(
            "\n  {} = {}\n      {} Values: {}.\n",
            param.name,
            toml_value(param, param.default),
            sentence(param.help),
            values(param)
        );
    }
    text
}

fn toml_value(param: &Param, value: u64) -> String {
    let text = parameter_text(param, value);
    match param.kind {
        ParamKind::Count => text,
        _ => format!("\"{text}\""),
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    let first = letters.next().map(|it| it.to_ascii_uppercase());
    first.into_iter().chain(letters).collect::<String>() + "."
}

/// The whole of `REFERENCE.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# What a scenario may say\n\n\
         Made from the catalogue of workloads and from the JSON schema: do not edit; `VTAX_BLESS=1 cargo test -p vtax-scenarios \
         --test reference` writes it anew. `vtax workload NAME` prints the same of one workload, `vtax scenario schema` prints the \
         schema.\n\n## Workloads\n",
    );
    let families = [
        Family::Cpu,
        Family::Memory,
        Family::Latency,
        Family::Block,
        Family::Network,
        Family::Diagnostic,
    ];
    for family in families {
        text += &format!("\n### Family: {}\n", family_text(family));
        let workloads = CATALOGUE.iter().filter(|it| it.family == family);
        text.extend(workloads.map(workload_section));
    }
    text += "\n## Experiments\n";
    text.extend(ExperimentKind::ALL.map(experiment_section));
    text += "\n## Keys\n";
    let schema = document_schema();
    for key in keys::keys_of(&schema) {
        text += &section(key, &schema["properties"][key]);
    }
    text
}

fn workload_section(workload: &Workload) -> String {
    let mut text = format!(
        "\n#### {}\n\n{}. {}\n\nFigure: {} ({}){}. Source: {}.\n",
        workload.name,
        workload.title.trim_end_matches('.'),
        workload.stresses,
        workload.metric.unit,
        direction(workload),
        match workload.has_native_twin() {
            true => "",
            false => "; a cost, with nothing to compare with on the host",
        },
        workload.source.trim_end_matches('.'),
    );
    text += &params_table(workload.params);
    text
}

fn params_table(params: &[Param]) -> String {
    if params.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n| parameter | default | values | |\n|---|---|---|---|\n");
    for param in params {
        text += &format!(
            "| `{}` | `{}` | {} | {} |\n",
            param.name,
            parameter_text(param, param.default),
            values(param),
            cell(param.help)
        );
    }
    text
}

fn experiment_section(kind: ExperimentKind) -> String {
    let entry = kind.entry();
    let mut text = format!("\n### {}\n\n{}\n", entry.name, entry.help);
    text += &params_table(entry.params);
    text += "\n| metric | unit | |\n|---|---|---|\n";
    for metric in entry.metrics {
        text += &format!(
            "| `{}` | {} | {} |\n",
            metric.name,
            unit_text(metric.unit),
            cell(metric.help)
        );
    }
    text
}

const fn unit_text(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanos => "ns",
        Unit::Bytes => "bytes",
        Unit::Share => "share",
        Unit::Number => "number",
        Unit::Watts => "W",
    }
}

/// A top-level key: a value, or a table with its keys.
fn section(key: &str, schema: &Value) -> String {
    let table = schema.get("items").unwrap_or(schema);
    let keys = keys::keys_of(table);
    let title = match (schema.get("items").is_some(), keys.is_empty()) {
        (true, _) => format!("`[[{key}]]`"),
        (false, false) => format!("`[{key}]`"),
        (false, true) => format!("`{key}`"),
    };
    let mut text = format!("\n### {title}\n\n{}\n", one_line(description(schema)));
    if keys.is_empty() {
        return text;
    }
    text += "\n| key | values | |\n|---|---|---|\n";
    for key in keys {
        let field = &table["properties"][key];
        text += &format!(
            "| `{key}` | {} | {} |\n",
            cell(&field_values(field)),
            cell(description(field))
        );
    }
    text
}

fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// The words that a field may be, else what one writes for example.
fn field_values(schema: &Value) -> String {
    let code = |value: &Value| format!("`{value}`");
    let words =
        |list: &Value| -> Vec<String> { list.as_array().into_iter().flatten().map(code).collect() };
    let constants = schema["oneOf"].as_array().into_iter().flatten();
    let constants = constants.filter_map(|it| it.get("const")).map(code);
    let allowed: Vec<String> = words(&schema["enum"])
        .into_iter()
        .chain(constants)
        .collect();
    if !allowed.is_empty() {
        return allowed.join(", ");
    }
    let examples = words(&schema["examples"]);
    match (examples.is_empty(), schema["type"].as_str()) {
        (false, _) => format!("such as {}", examples.join(", ")),
        (true, Some("boolean")) => "`true`, `false`".to_owned(),
        (true, Some(kind)) => kind.to_owned(),
        (true, None) => String::new(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text that stays within its cell of a table.
fn cell(text: &str) -> String {
    one_line(text).replace('|', "\\|")
}
