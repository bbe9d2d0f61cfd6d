//! What a run left behind, read without any code of vtax: the formats are a promise to other readers.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// A run directory.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

/// A row of `samples.csv`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the columns are those of `vtax_reports::record::Sample`"
)]
pub struct Row {
    pub cell: u32,
    pub boot: u32,
    pub round: u32,
    pub position: u8,
    pub side: String,
    pub vcpu: u16,
    pub cpu: u16,
    pub iterations: u64,
    pub ticks: u64,
    pub inner_nanos: f64,
    pub outer_nanos: u64,
    pub at_nanos: u64,
    pub marks: String,
    pub run_in_ticks: u32,
    pub latency_ticks: u32,
}

impl RunDir {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text of one of its files.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    #[track_caller]
    pub fn text(&self, name: &str) -> String {
        let path = self.path.join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// One of its JSON files.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// `run.json`.
    #[must_use]
    #[track_caller]
    pub fn record(&self) -> Value {
        self.json("run.json")
    }

    /// The events' names, in order.
    ///
    /// # Panics
    /// Where a line is not an event.
    #[must_use]
    #[track_caller]
    pub fn events(&self) -> Vec<String> {
        let name = |line: &str| {
            let event: Value = serde_json::from_str(line).expect("each line is JSON");
            event["event"]
                .as_str()
                .expect("each event has a name")
                .to_owned()
        };
        self.text("events.jsonl").lines().map(name).collect()
    }

    /// All rows of `samples.csv`.
    ///
    /// # Panics
    /// Where it has other columns or a broken row.
    #[must_use]
    #[track_caller]
    pub fn samples(&self) -> Vec<Row> {
        csv::Reader::from_reader(self.text("samples.csv").as_bytes())
            .into_deserialize()
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("samples.csv: {error}"))
    }

    /// How many whole rows are on disk by now; 0 while there is no file yet.
    #[must_use]
    pub fn rows_so_far(&self) -> usize {
        let text = fs::read(self.path.join("samples.csv")).unwrap_or_default();
        let lines = text.iter().filter(|&&byte| byte == b'\n').count();
        lines.saturating_sub(1)
    }
}

impl Row {
    /// Whether it was measured before the steady state; such rows have rounds of their own.
    #[must_use]
    pub fn is_warmup(&self) -> bool {
        self.marks.split('+').any(|mark| mark == "warmup")
    }
}
