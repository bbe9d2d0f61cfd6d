//! What settings do to the guest, as rows of a table: one for each value and each work.

use vtax_scenarios::plan::What;
use vtax_scenarios::settings::setting_words;

use super::figures::percent_interval;
use crate::result::{Interval, Results, SettingEffect};
use crate::verdict::words;

/// A column of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// What is compared of the guests.
    Effect(What),
    /// The share of native under the setting.
    Share,
}

/// What a value does to one work.
pub struct Row<'r> {
    /// The setting with its value in words.
    pub setting: String,
    /// The value that it is held against.
    pub reference: &'r str,
    /// The workload with its other parameters.
    pub work: String,
    /// Whether rates and times are those of one vCPU, since the guests have different numbers of them.
    pub per_vcpu: bool,
    /// Cell id of the guest with the value.
    pub cell: u32,
    effects: Vec<&'r SettingEffect>,
    /// The share of native, as it is shown.
    share: Option<String>,
}

/// What a figure says of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It does better, beyond what chance explains.
    Better,
    /// It does worse.
    Worse,
    /// No difference is shown.
    Unclear,
}

impl Column {
    /// All columns of which some row has a figure, in their order.
    #[must_use]
    pub fn present(rows: &[Row<'_>]) -> Vec<Self> {
        const ALL: [Column; 6] = [
            Column::Effect(What::Rate),
            Column::Effect(What::P50),
            Column::Effect(What::P99),
            Column::Effect(What::P999),
            Column::Effect(What::CpuTime),
            Column::Share,
        ];
        let has = |column: &Self| rows.iter().any(|row| row.figure(*column).is_some());
        ALL.into_iter().filter(has).collect()
    }

    /// Its title.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Effect(What::Rate) => "rate",
            Self::Effect(What::Time) => "time",
            Self::Effect(What::P50) => "median latency",
            Self::Effect(What::P90) => "p90",
            Self::Effect(What::P99) => "p99",
            Self::Effect(What::P999) => "p99.9",
            Self::Effect(What::P9999) => "p99.99",
            Self::Effect(What::CpuTime) => "CPU time",
            Self::Share => "of native",
        }
    }
}

impl<'r> Row<'r> {
    /// The rows of all settings, by setting and value.
    #[must_use]
    pub fn all(results: &'r Results) -> Vec<Self> {
        let mut rows: Vec<Self> = Vec::new();
        for effect in &results.settings {
            let same = |row: &Self| {
                let first = row.effects.first();
                first.is_some_and(|it| it.key == effect.key && it.cell == effect.cell)
            };
            match rows.last_mut().filter(|row| same(row)) {
                Some(row) => row.effects.push(effect),
                None => rows.push(Self::new(results, effect)),
            }
        }
        rows
    }

    fn new(results: &'r Results, effect: &'r SettingEffect) -> Self {
        let cell = results.cells.iter().find(|cell| cell.id == effect.cell);
        let parameters = effect.parameters.iter();
        let threshold = results.headline.threshold;
        Self {
            setting: setting_words(&effect.key, &effect.value),
            reference: &effect.reference,
            work: parameters.fold(effect.workload.clone(), |work, (name, value)| {
                format!("{work} {name}={value}")
            }),
            per_vcpu: effect.per_vcpu,
            cell: effect.cell,
            effects: vec![effect],
            share: cell
                .and_then(|cell| cell.ratio)
                .map(|ratio| percent_interval(&ratio, threshold)),
        }
    }

    /// Its figure in this column, with its interval.
    #[must_use]
    pub fn figure(&self, column: Column) -> Option<String> {
        match column {
            Column::Effect(what) => self.effect(what).map(|it| changed(&it.ratio)),
            Column::Share => self.share.clone(),
        }
    }

    /// What that figure says of the guest.
    #[must_use]
    pub fn change(&self, column: Column) -> Change {
        match column {
            Column::Effect(what) => self.effect(what).map_or(Change::Unclear, Change::of),
            Column::Share => Change::Unclear,
        }
    }

    fn effect(&self, what: What) -> Option<&'r SettingEffect> {
        self.effects.iter().copied().find(|it| it.what == what)
    }
}

impl Change {
    /// What an effect says of the guest.
    #[must_use]
    pub fn of(effect: &SettingEffect) -> Self {
        if !words::is_shown(&effect.ratio) {
            Self::Unclear
        } else if (effect.ratio.value > 1.0) == effect.more_is_better() {
            Self::Better
        } else {
            Self::Worse
        }
    }
}

/// A quotient as a change with its interval: `−45.0 % [−46.1, −44.0]`, `3.1 × [3.0, 3.2]`.
#[must_use]
pub fn changed(ratio: &Interval) -> String {
    let (value, ends) = words::changed(ratio);
    format!("{value} {ends}")
}
