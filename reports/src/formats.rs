//! The files of a run and the exports, described: `FORMATS.md` is made here, from the types where they are JSON, and from a
//! table beside the columns where they are CSV.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::claims::Suite;
use crate::counters::Counter;
use crate::record::RunRecord;
use crate::result::Results;

/// A column with what is in it.
type Column = (&'static str, &'static str);

const SAMPLES: [Column; 15] = [
    ("cell", "the cell's id in the plan"),
    ("boot", "the boot of that cell, from 0"),
    (
        "round",
        "the round of that boot, from 0; blocks of the warm-up count apart, from 0 too",
    ),
    ("position", "the place in the round, from 0"),
    (
        "side",
        "`native`, `guest`, or `control`, which is native once more",
    ),
    ("vcpu", "the vCPU, or the native thread in its place"),
    ("cpu", "the host CPU at the end of the block"),
    ("iterations", "units of work that were done"),
    ("ticks", "TSC ticks by the payload's own clock"),
    ("inner_nanos", "the same in nanoseconds"),
    (
        "outer_nanos",
        "nanoseconds of CLOCK_MONOTONIC_RAW around the block and the run-in before it",
    ),
    (
        "at_nanos",
        "start of the block, in nanoseconds since the run started",
    ),
    (
        "marks",
        "what there is to remark, with `+` between: see below; empty for a clean block",
    ),
    (
        "run_in_ticks",
        "TSC ticks of the untimed run-in right before; 0 where there was none",
    ),
    (
        "latency_ticks",
        "the median of the block's single latencies in TSC ticks, where those make the figure; 0 elsewhere",
    ),
];

const MARKS: [Column; 8] = [
    ("warmup", "before the steady state: in no estimate"),
    ("clock", "void: the two clocks disagree"),
    ("checksum", "void: the checksum is not the reference's"),
    ("migration", "disturbed: the thread changed its CPU"),
    ("preempted", "disturbed: the thread waited for its CPU"),
    (
        "steal",
        "disturbed: the hypervisor under this host took the CPU",
    ),
    ("interrupted", "void: a signal interrupted the block"),
    (
        "unsettled",
        "the boot's warm-up ended without a steady state",
    ),
];

const TRIALS: [Column; 5] = [
    ("experiment", "the experiment's id in the plan"),
    ("repetition", "the repetition, from 0"),
    ("metric", "the metric's name"),
    (
        "at_nanos",
        "of a point of a series nanoseconds since the repetition began, or the number of guests; empty for the repetition's value",
    ),
    (
        "value",
        "the value in the metric's unit; of an attempt at a forbidden event 1 where it happened, 0 where not",
    ),
];

const COUNTER_KEYS: [Column; 5] = [
    ("cell", "as in `samples.csv`, like the four below"),
    ("boot", ""),
    ("round", ""),
    ("side", ""),
    ("vcpu", ""),
];

/// What an interval's three columns are; `_low` and `_high` stand behind the name.
const EXPORT: [Column; 59] = [
    ("id", "the cell's id in the plan"),
    ("scenario", "the scenario's name"),
    ("label", "the cell's label"),
    (
        "parameters",
        "matrix values and parameters, `name=value` with semicolons between",
    ),
    ("workload", "the workload's name"),
    ("unit", "unit of the native and guest figures"),
    ("direction", "`higher is better` or `lower is better`"),
    (
        "native_mean",
        "native figure by work per time, stalls included",
    ),
    ("native_median", "median over boots of the median round"),
    ("native_min", "smallest boot median"),
    ("native_max", "largest boot median"),
    ("guest_mean", "the same of the guest"),
    ("guest_median", ""),
    ("guest_min", ""),
    ("guest_max", ""),
    (
        "ratio",
        "guest throughput as a share of native; 1 is no loss",
    ),
    ("ratio_low", "lower end of its interval"),
    ("ratio_high", "upper end"),
    ("typical", "the same of the typical (median) block"),
    ("typical_low", ""),
    ("typical_high", ""),
    ("stumbles", "whether the guest stalls more than native"),
    ("guest_stalls", "guest blocks that stalled"),
    ("guest_blocks", "of so many"),
    ("native_stalls", "native blocks that stalled"),
    ("native_blocks", "of so many"),
    (
        "stalls_cost",
        "share of throughput that stalls cost the guest",
    ),
    ("stalls_cost_low", ""),
    ("stalls_cost_high", ""),
    (
        "cost",
        "what one operation costs in the guest, where there is no ratio",
    ),
    ("cost_low", ""),
    ("cost_high", ""),
    ("cost_ticks", "the same in TSC ticks"),
    ("cost_ticks_low", ""),
    ("cost_ticks_high", ""),
    ("control", "native against native (A/A)"),
    ("control_low", ""),
    ("control_high", ""),
    ("confidence", "confidence of the intervals"),
    (
        "noise_floor",
        "the control interval's largest distance from 1",
    ),
    (
        "loss_ns",
        "nanoseconds per unit of work that the guest takes longer",
    ),
    ("loss_ns_low", ""),
    ("loss_ns_high", ""),
    ("predicted_ns", "events × cost of all known causes"),
    ("predicted_ns_low", ""),
    ("predicted_ns_high", ""),
    ("residual_ns", "what is left over"),
    ("residual_ns_low", ""),
    ("residual_ns_high", ""),
    ("largest_cause", "the largest of the causes"),
    ("finding", "whether the causes explain the loss"),
    ("boots", "boots that count"),
    ("rounds", "rounds that count"),
    (
        "voided",
        "blocks left out, `reason=number` with semicolons between",
    ),
    (
        "verdict",
        "`holds`, `refuted`, `undecided`, `not_testable`, or `cost` where nothing is claimed",
    ),
    ("failed", "whether the guest failed"),
    ("anomaly", "why it looks better than native, where it does"),
    ("reason", "the verdict in words"),
    (
        "settings",
        "what the cell's settings do to its guest, against cells with their first values",
    ),
];

const CLAIMS: [Column; 10] = [
    ("id", "the claim's name"),
    (
        "part",
        "the workload, in rows about a part of the claim; empty for the whole",
    ),
    ("words", "the claim as it was published"),
    ("verdict", "as in a run's export"),
    (
        "unit",
        "unit of the figure: `nanos`, `bytes`, `share`, `number`, `watts`",
    ),
    (
        "value",
        "the figure that decides; empty where nothing was measured",
    ),
    ("low", "lower end of its interval"),
    ("high", "upper end"),
    ("confidence", "confidence of the interval"),
    ("reason", "the verdict in words"),
];

/// The whole of `FORMATS.md`.
#[must_use]
pub fn formats() -> String {
    let mut text = String::from(
        "# The files of a run\n\n\
         Made from the types: do not edit; `VTAX_BLESS=1 cargo test -p vtax-reports --test formats` writes it anew. Fields may be \
         added; one that changes its meaning takes a new `schema` number. A ratio is always performance: guest as a share of \
         native. What was not measured is empty or null, never 0.\n",
    );
    text += &json::<Results>(
        "results.json",
        "What `--json` and `--export-json` write too.",
    );
    text += &json::<Suite>("claims.json", "What `vtax claims --json` writes too.");
    text += &json::<RunRecord>(
        "run.json",
        "All that is known before the first sample. The plan is the scenario with all defaults filled in; what its keys mean is \
         in [../scenarios/REFERENCE.md](../scenarios/REFERENCE.md).",
    );
    text += &csv(
        "samples.csv",
        "A row for every block on every vCPU.",
        &SAMPLES,
    );
    text += "\nMarks:\n";
    text += &rows("mark", &MARKS);
    text += &csv(
        "counters.csv",
        "What was counted around each block; a counter that the host has not is empty.",
        &COUNTER_KEYS,
    );
    for counter in Counter::ALL {
        text += &row(counter.name(), counter.help());
    }
    text += &csv(
        "trials.csv",
        "Every value of every repetition of an experiment.",
        &TRIALS,
    );
    text += &csv("--export-csv", "A row for each cell.", &EXPORT);
    text += &csv(
        "claims --export-csv",
        "A row for each claim and each of its parts.",
        &CLAIMS,
    );
    text + "\n## latency-*.hlog\n\nSingle latencies in nanoseconds, as HdrHistogram interval logs: one file for each cell and \
            side, an interval for each boot, tagged with its number.\n\n\
            ## events.jsonl\n\nThe audit log, an object a line: `at_nanos` (since the run started), `time` (RFC 3339, UTC), \
            `event`, and fields of its own, such as the cell and the boot of `guest-created` and `guest-stopped`, or the knob \
            with `from` and `to` of a change to the host.\n"
}

/// The objects of a JSON file, the outermost first.
fn json<T: JsonSchema>(file: &str, what: &str) -> String {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    let mut text = format!("\n## {file}\n\n{what}\n");
    text += &object("", &schema);
    for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
        text += &object(name, definition);
    }
    text
}

/// An object with its fields, or a type with its words.
fn object(name: &str, schema: &Value) -> String {
    let mut text = String::new();
    if !name.is_empty() {
        text += &format!("\n### {name}\n");
    }
    text += &format!(
        "\n{}\n",
        line(schema["description"].as_str().unwrap_or_default())
    );
    let fields = schema["properties"].as_object();
    let variants = ["oneOf", "anyOf"].map(|key| schema[key].as_array());
    let variants: Vec<&Value> = variants.into_iter().flatten().flatten().collect();
    let words = schema["enum"].as_array().into_iter().flatten();
    let mut described: Vec<String> = words.map(|word| format!("| `{word}` | | |\n")).collect();
    for (field, schema) in fields.into_iter().flatten() {
        described.push(field_row(field, schema));
    }
    for variant in variants {
        let what = line(variant["description"].as_str().unwrap_or_default());
        match (variant.get("const"), variant["properties"].as_object()) {
            (Some(word), _) => described.push(format!("| `{word}` | | {what} |\n")),
            (None, Some(fields)) => described.extend(
                fields
                    .iter()
                    .map(|(field, schema)| format!("| `{field}` | {} | {what} |\n", kind(schema))),
            ),
            (None, None) => {
                let words = variant["enum"].as_array().into_iter().flatten();
                described.extend(words.map(|word| format!("| `{word}` | | {what} |\n")));
            }
        }
    }
    if !described.is_empty() {
        text += "\n| | type | |\n|---|---|---|\n";
        text.extend(described);
    }
    text
}

fn field_row(field: &str, schema: &Value) -> String {
    let what = line(schema["description"].as_str().unwrap_or_default());
    format!("| `{field}` | {} | {what} |\n", kind(schema))
}

/// The type of a value, in a word.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        return name.rsplit('/').next().unwrap_or_default().to_owned();
    }
    if let Some(variants) = schema["anyOf"].as_array() {
        let kinds: Vec<String> = variants.iter().map(kind).collect();
        return kinds.join(" or ");
    }
    let of = |schema: &Value| format!(" of {}", kind(schema));
    match &schema["type"] {
        Value::String(name) if name == "array" => {
            "array".to_owned() + &schema.get("items").map(of).unwrap_or_default()
        }
        Value::String(name) if name == "object" => {
            let values = schema
                .get("additionalProperties")
                .filter(|it| it.is_object());
            "object".to_owned() + &values.map(of).unwrap_or_default()
        }
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            names.join(" or ")
        }
        _ => String::new(),
    }
}

fn csv(file: &str, what: &str, columns: &[Column]) -> String {
    format!("\n## {file}\n\n{what}\n") + &rows("column", columns)
}

fn rows(title: &str, columns: &[Column]) -> String {
    let mut text = format!("\n| {title} | |\n|---|---|\n");
    text.extend(columns.iter().map(|(name, what)| row(name, what)));
    text
}

fn row(name: &str, what: &str) -> String {
    format!("| `{name}` | {} |\n", line(what))
}

/// Text that stays within its cell of a table.
fn line(text: &str) -> String {
    // Links of the documentation lead nowhere here.
    let text = text
        .replace("[`", "`")
        .replace("`]", "`")
        .replace('|', "\\|");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_and_every_mark_is_described() {
        use crate::export::csv::{CLAIM_COLUMNS, COLUMNS};
        use crate::record::Marks;
        use crate::store::{counters, samples, trials};
        let names = |columns: &[Column]| columns.iter().map(|it| it.0).collect::<Vec<_>>();
        assert_eq!(names(&SAMPLES), samples::COLUMNS);
        assert_eq!(names(&TRIALS), trials::COLUMNS);
        assert_eq!(names(&COUNTER_KEYS), counters::KEYS);
        assert_eq!(names(&EXPORT), COLUMNS);
        assert_eq!(names(&CLAIMS), CLAIM_COLUMNS);
        let marks: Vec<&str> = Marks::NAMES.iter().map(|it| it.1).collect();
        assert_eq!(names(&MARKS), marks);
    }
}
