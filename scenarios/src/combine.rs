//! From axes to combinations: for each workload the product of the axes that concern it, without what is excluded,
//! and what is included.

use std::ops::Range;

use toml::Spanned;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::matrix::{Assignment, Axis, Matrix, Selection};
use crate::workload::Entry;

/// More cells than this are a mistake: at one second each they would take three hours.
pub(crate) const MOST_CELLS: u128 = 10_000;

/// One cell to be: a workload, and what the matrix and the lists of parameters say for it.
pub(crate) struct Combination<'i> {
    /// Position of the `[[workload]]` table.
    pub entry: usize,
    /// What called for it: the workload's name or the `include` table.
    pub span: Range<usize>,
    /// Parameters in the order of the catalogue, then fields in the order of the file.
    pub assignments: Vec<Assignment<'i>>,
}

/// All combinations, workload by workload; none, with an error, where they would be too many or none at all.
pub(crate) fn combinations<'i>(
    matrix: &Matrix<'i>,
    entries: &[Entry],
    errors: &mut Diagnostics,
) -> Vec<Combination<'i>> {
    let own: Vec<Vec<Axis<'i>>> = entries.iter().map(own_axes).collect();
    let grids: Vec<Grid<'_, 'i>> = entries
        .iter()
        .zip(&own)
        .enumerate()
        .flat_map(|(index, (entry, own))| grids(matrix, index, entry, own))
        .collect();
    if let Some(error) = too_many(&grids) {
        errors.push(error);
        return Vec::new();
    }
    let mut used = vec![false; matrix.exclude.len()];
    let mut found = Vec::new();
    for grid in &grids {
        for mut assignments in grid.points() {
            let excluded = grid.from_axes
                && matrix
                    .exclude
                    .iter()
                    .zip(&mut used)
                    .filter(|(selection, _)| {
                        selection.suits(&entries[grid.entry]) && matches(selection, &assignments)
                    })
                    // Each that matches is used, not the first alone.
                    .fold(false, |_, (_, used)| {
                        *used = true;
                        true
                    });
            if excluded {
                continue;
            }
            assignments.sort_by_key(|given| match given {
                Assignment::Param { index, .. } => *index,
                Assignment::Setting { .. } => usize::MAX,
            });
            found.push(Combination {
                entry: grid.entry,
                span: grid.span.clone(),
                assignments: assignments.into_iter().cloned().collect(),
            });
        }
    }
    for (selection, _) in matrix.exclude.iter().zip(used).filter(|(_, used)| !used) {
        errors.push(
            Diagnostic::new(selection.span.clone(), "this excludes nothing")
                .label("no combination of the matrix has these values")
                .help("write values that are in the matrix, or remove it"),
        );
    }
    if found.is_empty() && !entries.is_empty() && errors.is_empty() {
        let span = matrix
            .exclude
            .first()
            .map_or(0..0, |selection| selection.span.clone());
        errors.push(
            Diagnostic::new(
                span,
                "nothing is left to measure: all combinations are excluded",
            )
            .help("exclude less, or include a combination"),
        );
    }
    found
}

/// Axes whose every point is a combination.
struct Grid<'m, 'i> {
    entry: usize,
    span: Range<usize>,
    /// Whether excludes apply.
    from_axes: bool,
    axes: Vec<&'m Axis<'i>>,
    /// What holds for all points.
    fixed: &'m [Assignment<'i>],
}

impl<'m, 'i> Grid<'m, 'i> {
    fn size(&self) -> u128 {
        self.axes.iter().fold(1, |size: u128, axis| {
            size.saturating_mul(axis.values.len() as u128)
        })
    }

    /// Every point; the last axis runs fastest.
    fn points(&self) -> Vec<Vec<&'m Assignment<'i>>> {
        self.axes
            .iter()
            .fold(vec![self.fixed.iter().collect()], |points, axis| {
                points
                    .iter()
                    .flat_map(|point: &Vec<_>| {
                        axis.values.iter().map(move |value| {
                            let mut longer = point.clone();
                            longer.push(value);
                            longer
                        })
                    })
                    .collect()
            })
    }
}

/// The lists of parameters in a `[[workload]]` table, as axes.
fn own_axes<'i>(entry: &Entry) -> Vec<Axis<'i>> {
    entry
        .params
        .iter()
        .map(|param| Axis {
            span: param.span.clone(),
            values: param
                .values
                .iter()
                .map(|value| Assignment::Param {
                    workload: entry.workload,
                    index: param.index,
                    value: Spanned::new(value.span(), *value.get_ref()),
                })
                .collect(),
        })
        .collect()
}

/// The product of all axes that concern the workload, and one grid for each `include`.
fn grids<'m, 'i>(
    matrix: &'m Matrix<'i>,
    index: usize,
    entry: &Entry,
    own: &'m [Axis<'i>],
) -> Vec<Grid<'m, 'i>> {
    // The matrix and an include go before what stands in the `[[workload]]` table.
    let own_without = |others: &[&Assignment<'i>]| -> Vec<_> {
        own.iter()
            .filter(|axis| {
                !others
                    .iter()
                    .any(|other| other.same_target(&axis.values[0]))
            })
            .collect()
    };
    let shared: Vec<&Axis<'i>> = matrix
        .axes
        .iter()
        .filter(|axis| axis.values[0].suits(entry))
        .collect();
    let firsts: Vec<&Assignment<'i>> = shared.iter().map(|axis| &axis.values[0]).collect();
    let mut axes = own_without(&firsts);
    axes.extend(shared);
    let product = Grid {
        entry: index,
        span: entry.span.clone(),
        from_axes: true,
        axes,
        fixed: &[],
    };
    let included = matrix
        .include
        .iter()
        .filter(|selection| selection.suits(entry))
        .map(|selection| Grid {
            entry: index,
            span: selection.span.clone(),
            from_axes: false,
            axes: own_without(&selection.assignments.iter().collect::<Vec<_>>()),
            fixed: &selection.assignments,
        });
    std::iter::once(product).chain(included).collect()
}

fn matches(selection: &Selection<'_>, assignments: &[&Assignment<'_>]) -> bool {
    selection.assignments.iter().all(|wanted| {
        assignments
            .iter()
            .any(|given| given.same_target(wanted) && given.text() == wanted.text())
    })
}

fn too_many(grids: &[Grid<'_, '_>]) -> Option<Diagnostic> {
    let cells = grids
        .iter()
        .fold(0, |sum: u128, grid| sum.saturating_add(grid.size()));
    if cells <= MOST_CELLS {
        return None;
    }
    let longest = grids
        .iter()
        .flat_map(|grid| &grid.axes)
        .max_by_key(|axis| axis.values.len())?;
    let count = if cells == u128::MAX {
        "far too many".to_owned()
    } else {
        cells.to_string()
    };
    Some(
        Diagnostic::new(
            longest.span.clone(),
            format!("this scenario has {count} cells; at most {MOST_CELLS} make sense in one run"),
        )
        .label(format!("the longest axis: {} values", longest.values.len()))
        .help("give fewer values, or split the scenario; an exclude does not lower this count"),
    )
}
