//! The heat map: what each setting of the matrix is worth.
//!
//! With one axis it is one map, a row per cell and a column per setting. With more, it is one map per workload and
//! remaining settings: the two axes with the most values become its rows and columns.

use std::collections::BTreeMap;

use super::words::{Badge, ends, reason, share};
use crate::export::figures::{Outcome, cost, percent};
use crate::result::{CellResult, Results};

/// Most maps.
const MOST_MAPS: usize = 24;
/// Most rows of one map.
const MOST_ROWS: usize = 60;

/// The maps.
pub(super) struct Matrix<'a> {
    pub maps: Vec<Map<'a>>,
    pub more: usize,
    pub legend: Vec<Shade>,
}

/// One map.
pub(super) struct Map<'a> {
    pub title: String,
    pub row_axis: &'a str,
    pub column_axis: &'a str,
    pub columns: Vec<&'a str>,
    pub rows: Vec<(String, Vec<Field<'a>>)>,
    pub more_rows: usize,
}

/// One combination.
pub(super) struct Field<'a> {
    pub class: &'static str,
    pub share: String,
    pub ends: String,
    pub sign: &'static str,
    pub words: &'a str,
}

/// One class of ratios.
pub(super) struct Shade {
    pub class: &'static str,
    pub label: String,
}

impl<'a> Matrix<'a> {
    /// The maps of every setting that the scenario varies.
    pub fn new(results: &'a Results) -> Self {
        let shades = Shades::new(results.headline.threshold);
        let axes = axes(results);
        let maps = match axes.as_slice() {
            [] => Vec::new(),
            [(axis, columns)] => {
                let cells = results.cells.iter().collect();
                vec![Map::new(
                    String::new(),
                    "",
                    axis,
                    columns,
                    cells,
                    |cell| rest(cell, &[axis]),
                    &shades,
                )]
            }
            [(first, one), (second, other), ..] => {
                let (rows, columns) = if one.len() > other.len() {
                    (*first, (*second, other))
                } else {
                    (*second, (*first, one))
                };
                facets(results, &[rows, columns.0])
                    .into_iter()
                    .map(|(title, cells)| {
                        Map::new(
                            title,
                            rows,
                            columns.0,
                            columns.1,
                            cells,
                            |cell| cell.parameters.get(rows).cloned().unwrap_or_default(),
                            &shades,
                        )
                    })
                    .collect()
            }
        };
        Self {
            more: maps.len().saturating_sub(MOST_MAPS),
            legend: if maps.is_empty() {
                Vec::new()
            } else {
                shades.legend()
            },
            maps: maps.into_iter().take(MOST_MAPS).collect(),
        }
    }
}

/// The settings with more than one value, those with the most values first; values in the order of the plan. Only a
/// setting's name has a dot; a workload's own parameter has none.
fn axes(results: &Results) -> Vec<(&str, Vec<&str>)> {
    let mut axes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for cell in &results.cells {
        for (name, value) in &cell.parameters {
            if name.contains('.') {
                let values = axes.entry(name).or_default();
                if !values.contains(&value.as_str()) {
                    values.push(value);
                }
            }
        }
    }
    let mut axes: Vec<_> = axes
        .into_iter()
        .filter(|(_, values)| values.len() > 1)
        .collect();
    axes.sort_by_key(|(_, values)| std::cmp::Reverse(values.len()));
    axes
}

/// The cells that have both `axes`, by all that sets them apart otherwise, in the order of the plan.
fn facets<'a>(results: &'a Results, axes: &[&str]) -> Vec<(String, Vec<&'a CellResult>)> {
    let mut order: Vec<(String, Vec<&CellResult>)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for cell in &results.cells {
        if !axes.iter().all(|axis| cell.parameters.contains_key(*axis)) {
            continue;
        }
        let title = rest(cell, axes);
        let place = *places.entry(title.clone()).or_insert_with(|| {
            order.push((title, Vec::new()));
            order.len() - 1
        });
        order[place].1.push(cell);
    }
    order
}

/// The cell's workload and parameters but for `axes`.
fn rest(cell: &CellResult, axes: &[&str]) -> String {
    cell.parameters
        .iter()
        .filter(|(name, _)| !axes.contains(&name.as_str()))
        .fold(cell.workload.clone(), |rest, (name, value)| {
            format!("{rest} {name}={value}")
        })
}

impl<'a> Map<'a> {
    fn new(
        title: String,
        row_axis: &'a str,
        column_axis: &'a str,
        columns: &[&'a str],
        cells: Vec<&'a CellResult>,
        row_of: impl Fn(&CellResult) -> String,
        shades: &Shades,
    ) -> Self {
        let mut rows: Vec<(String, Vec<Field<'a>>)> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut more_rows = 0;
        for cell in cells {
            let Some(column) = cell
                .parameters
                .get(column_axis)
                .and_then(|value| columns.iter().position(|column| column == value))
            else {
                continue;
            };
            let name = row_of(cell);
            let place = match places.get(&name) {
                Some(place) => *place,
                None if rows.len() == MOST_ROWS => {
                    more_rows += 1;
                    continue;
                }
                None => {
                    rows.push((
                        name.clone(),
                        columns.iter().map(|_| Field::empty()).collect(),
                    ));
                    places.insert(name, rows.len() - 1);
                    rows.len() - 1
                }
            };
            rows[place].1[column] = Field::new(cell, shades);
        }
        Self {
            title,
            row_axis,
            column_axis,
            columns: columns.to_vec(),
            rows,
            more_rows,
        }
    }
}

impl<'a> Field<'a> {
    const fn empty() -> Self {
        Self {
            class: "absent",
            share: String::new(),
            ends: String::new(),
            sign: "",
            words: "not in the scenario",
        }
    }

    fn new(cell: &'a CellResult, shades: &Shades) -> Self {
        let badge = Badge::of(cell);
        Self {
            class: match cell.ratio {
                None => "absent",
                Some(_) if Outcome::of(cell) == Outcome::Anomaly => "above",
                Some(ratio) => shades.class(ratio.value),
            },
            share: match (&cell.ratio, &cell.cost) {
                (Some(ratio), _) => share(Some(ratio), shades.threshold),
                (None, Some(of)) => cost(of, &cell.unit),
                (None, None) => badge.word.to_owned(),
            },
            ends: ends(cell.ratio.as_ref(), shades.threshold),
            sign: badge.sign,
            words: reason(cell),
        }
    }
}

/// Classes of loss, in steps that double away from the threshold, and none below nothing.
struct Shades {
    threshold: f64,
    /// Lower end and class, from the best down.
    classes: [(f64, &'static str); 5],
}

impl Shades {
    fn new(threshold: f64) -> Self {
        let allowed = (1.0 - threshold).max(0.01);
        let step = allowed.min(threshold / 4.0);
        Self {
            threshold,
            classes: [
                (threshold + allowed / 2.0, "good2"),
                (threshold, "good1"),
                (threshold - step, "bad1"),
                (threshold - 3.0 * step, "bad2"),
                (f64::NEG_INFINITY, "bad3"),
            ],
        }
    }

    fn class(&self, ratio: f64) -> &'static str {
        self.classes
            .iter()
            .find(|(low, _)| ratio >= *low)
            .map_or("absent", |(_, class)| class)
    }

    fn legend(&self) -> Vec<Shade> {
        let mut legend = vec![Shade {
            class: "above",
            label: "anomaly: above native".to_owned(),
        }];
        let mut below = None;
        for (low, class) in self.classes {
            legend.push(Shade {
                class,
                label: match below {
                    Some(high) if low.is_infinite() => format!("below {}", percent(high)),
                    _ => format!("from {}", percent(low)),
                },
            });
            below = Some(low);
        }
        legend
    }
}
