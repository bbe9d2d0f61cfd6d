//! The heat map: what each value of a setting does to the guest, against the first value with all else alike. One map for each
//! setting, a row for each work, a column for each value; the share of native, which says what virtualization adds under that
//! value, stands below it.

use std::collections::BTreeMap;

use vtax_scenarios::plan::{Cell, Plan, What};
use vtax_scenarios::settings::{Setting, SettingPair};

use super::words::{Badge, reason, share};
use crate::export::figures::{Outcome, cost, measured, nanos};
use crate::export::settings::Change;
use crate::result::{CellResult, Results, SettingEffect};
use crate::store::Run;
use crate::verdict::words;

/// Most maps.
const MOST_MAPS: usize = 24;
/// Most rows of one map.
const MOST_ROWS: usize = 60;
/// From these changes on, relative, a shade is darker.
const MUCH_BETTER: f64 = 0.1;
const WORSE: [(f64, &str); 3] = [(0.2, "bad3"), (0.05, "bad2"), (0.0, "bad1")];

/// The maps.
pub(super) struct Matrix<'a> {
    pub maps: Vec<Map<'a>>,
    pub more: usize,
    pub legend: Vec<Shade>,
}

/// One map.
pub(super) struct Map<'a> {
    pub setting: String,
    pub columns: Vec<String>,
    pub rows: Vec<(String, Vec<Field<'a>>)>,
    pub more_rows: usize,
}

/// One value at one work.
pub(super) struct Field<'a> {
    pub class: &'static str,
    /// The change, or the guest's own figure where others are held against it.
    pub main: String,
    /// Its interval.
    pub ends: String,
    /// The guest's own figure, and its share of native.
    pub more: Vec<String>,
    pub sign: &'static str,
    pub words: &'a str,
}

/// One class of changes.
pub(super) struct Shade {
    pub class: &'static str,
    pub label: &'static str,
}

impl<'a> Matrix<'a> {
    /// The maps of every setting in which alone some cells differ.
    pub fn new(run: &Run, results: &'a Results) -> Self {
        let plan = &run.record.plan;
        let pairs = plan.setting_pairs();
        let settings = plan.settings();
        let compared = settings.iter().enumerate();
        let compared = compared.filter(|(place, _)| pairs.iter().any(|it| it.setting == *place));
        let maps: Vec<Map<'a>> = compared
            .map(|(place, setting)| {
                let own = pairs.iter().filter(|pair| pair.setting == place);
                Map::new(plan, setting, own, results)
            })
            .collect();
        Self {
            more: maps.len().saturating_sub(MOST_MAPS),
            legend: if maps.is_empty() {
                Vec::new()
            } else {
                legend()
            },
            maps: maps.into_iter().take(MOST_MAPS).collect(),
        }
    }
}

impl<'a> Map<'a> {
    /// A row for each cell that others are held against.
    fn new<'p>(
        plan: &Plan,
        setting: &Setting,
        pairs: impl Iterator<Item = &'p SettingPair<'p>>,
        results: &'a Results,
    ) -> Self {
        let key = setting.key();
        let columns = setting.values();
        let mut rows: Vec<(String, Vec<Field<'a>>)> = Vec::new();
        let mut places: BTreeMap<u32, usize> = BTreeMap::new();
        let mut more_rows = 0;
        let result = |cell: &Cell| results.cells.iter().find(|it| it.id == cell.id);
        let column = |cell: &Cell| {
            let value = setting.value(plan, cell);
            columns.iter().position(|column| *column == value)
        };
        for pair in pairs {
            let (Some(of), Some(against)) = (result(pair.cell), result(pair.reference)) else {
                continue;
            };
            let place = match places.get(&against.id) {
                Some(place) => *place,
                None if rows.len() == MOST_ROWS => {
                    more_rows += 1;
                    continue;
                }
                None => {
                    let fields = columns.iter().map(|_| Field::empty()).collect();
                    rows.push((rest(against, &key), fields));
                    places.insert(against.id, rows.len() - 1);
                    rows.len() - 1
                }
            };
            let effects = results.settings.iter();
            let effects = effects.filter(|it| it.key == key && it.cell == of.id);
            let fields = [
                (column(pair.reference), Field::new(against, &[], results)),
                (
                    column(pair.cell),
                    Field::new(of, &effects.collect::<Vec<_>>(), results),
                ),
            ];
            for (column, field) in fields {
                if let Some(place) = column.and_then(|column| rows[place].1.get_mut(column)) {
                    *place = field;
                }
            }
        }
        let mut map = Self {
            setting: key,
            columns,
            rows,
            more_rows,
        };
        map.leave_out_empty_columns();
        map
    }

    /// A value that only cells without a partner have is none of the question.
    fn leave_out_empty_columns(&mut self) {
        let is_filled = |column: usize| {
            let mut fields = self.rows.iter().filter_map(|(_, row)| row.get(column));
            fields.any(|field| !field.main.is_empty())
        };
        let filled: Vec<bool> = (0..self.columns.len()).map(is_filled).collect();
        let mut keep = filled.iter();
        self.columns
            .retain(|_| keep.next().copied().unwrap_or(true));
        for (_, row) in &mut self.rows {
            let mut keep = filled.iter();
            row.retain(|_| keep.next().copied().unwrap_or(true));
        }
    }
}

/// The cell's workload and parameters but for a setting.
fn rest(cell: &CellResult, setting: &str) -> String {
    let own: Vec<&str> = setting.split(" + ").collect();
    let others = cell.parameters.iter();
    let others = others.filter(|(name, _)| !own.contains(&name.as_str()));
    others.fold(cell.workload.clone(), |rest, (name, value)| {
        format!("{rest} {name}={value}")
    })
}

impl<'a> Field<'a> {
    const fn empty() -> Self {
        Self {
            class: "absent",
            main: String::new(),
            ends: String::new(),
            more: Vec::new(),
            sign: "",
            words: "not in the scenario",
        }
    }

    fn new(cell: &'a CellResult, effects: &[&SettingEffect], results: &Results) -> Self {
        let threshold = results.headline.threshold;
        let of = |what| effects.iter().copied().find(|it| it.what == what);
        let own = own_figure(cell);
        let kept = cell.ratio.map(|ratio| {
            let sign = match Outcome::of(cell) {
                Outcome::Anomaly => "▲ ",
                _ => "",
            };
            format!("{sign}{} of native", share(Some(&ratio), threshold))
        });
        let Some(main) = of(What::Rate).or(of(What::P50)) else {
            let badge = Badge::of(cell);
            return Self {
                class: if own.is_some() { "base" } else { "absent" },
                sign: if own.is_some() { "" } else { badge.sign },
                main: own.unwrap_or_else(|| badge.word.to_owned()),
                ends: String::new(),
                more: kept.into_iter().collect(),
                words: reason(cell),
            };
        };
        let (value, ends) = words::changed(&main.ratio);
        let tail = of(What::P99).map(|it| format!("p99 {}", words::changed(&it.ratio).0));
        Self {
            class: class(main),
            main: match main.what {
                What::P50 => format!("p50 {value}"),
                _ => value,
            },
            ends,
            more: tail.into_iter().chain(own).chain(kept).collect(),
            sign: match Change::of(main) {
                Change::Better => "↑",
                Change::Worse => "↓",
                Change::Unclear => "",
            },
            words: reason(cell),
        }
    }
}

/// What the guest does, in the workload's unit; its median latency where waiting is the question.
fn own_figure(cell: &CellResult) -> Option<String> {
    if let Some(of) = &cell.cost {
        let text = cost(of, &cell.unit);
        return Some(text.split(" [").next().unwrap_or_default().to_owned());
    }
    let median = cell.quantiles.iter().find(|row| row.quantile == 0.5);
    if let Some(median) = median.filter(|_| cell.ratio.is_none()) {
        return Some(format!("p50 {}", nanos(median.guest.value)));
    }
    let guest = cell.guest.as_ref()?;
    Some(measured(guest.median, &cell.unit))
}

/// The shade of a change.
fn class(effect: &SettingEffect) -> &'static str {
    let change = (effect.ratio.value - 1.0).abs();
    match Change::of(effect) {
        Change::Unclear => "even",
        Change::Better if change >= MUCH_BETTER => "good2",
        Change::Better => "good1",
        Change::Worse => {
            let found = WORSE.iter().find(|(least, _)| change >= *least);
            found.map_or("bad1", |(_, class)| class)
        }
    }
}

fn legend() -> Vec<Shade> {
    let shade = |class, label| Shade { class, label };
    vec![
        shade("base", "what others are held against"),
        shade("good2", "better by 10 % or more"),
        shade("good1", "better"),
        shade("even", "no difference shown"),
        shade("bad1", "worse"),
        shade("bad2", "worse by 5 % or more"),
        shade("bad3", "worse by 20 % or more"),
    ]
}
