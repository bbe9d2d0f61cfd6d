//! The table that a run prints.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, LineStyle, Table,
};

use super::figures::{NONE, Outcome, cost, figure, floor, percent_interval};
use crate::result::{CellResult, Results, SideSummary};

/// Below this many columns the two sides' figures move under the cell's label.
const ROOMY: u16 = 110;

/// The table of all cells, at most `width` columns wide, with ANSI colours where `colours` says so.
#[must_use]
pub fn table(results: &Results, width: u16, colours: bool) -> String {
    let roomy = width >= ROOMY;
    let titles: &[&str] = if roomy {
        &["cell", "native", "guest", "ratio", "noise floor", "verdict"]
    } else {
        &["cell, native → guest", "ratio", "noise floor", "verdict"]
    };
    let mut style = UTF8_HORIZONTAL_ONLY;
    style.row_separator = LineStyle::none();
    let mut table = Table::new();
    table
        .load_style(style)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(
            titles
                .iter()
                .map(|title| Cell::new(title).add_attribute(Attribute::Bold)),
        )
        .add_rows(
            results
                .cells
                .iter()
                .map(|cell| row(cell, roomy, results.headline.threshold)),
        );
    let last = titles.len() - 1;
    for (index, column) in table.column_iter_mut().enumerate().skip(1) {
        // Labels may wrap, figures never.
        column.set_constraint(ColumnConstraint::ContentWidth);
        if index < last {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if colours {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.trim_fmt()
}

fn row(cell: &CellResult, roomy: bool, threshold: f64) -> Vec<Cell> {
    let value = |side: &Option<SideSummary>| {
        side.as_ref()
            .map_or(NONE.to_owned(), |side| figure(side.median))
    };
    let (native, guest) = (value(&cell.native), value(&cell.guest));
    let label = printable(&cell.label);
    let unit = if cell.guest.is_some() {
        printable(&cell.unit)
    } else {
        String::new()
    };
    let mut row = if roomy {
        vec![
            Cell::new(label),
            Cell::new(if cell.native.is_some() {
                format!("{native} {unit}")
            } else {
                native
            }),
            Cell::new(format!("{guest} {unit}")),
        ]
    } else if cell.native.is_some() {
        vec![Cell::new(format!("{label}\n{native} → {guest} {unit}"))]
    } else {
        vec![Cell::new(label)]
    };
    let outcome = Outcome::of(cell);
    row.extend([
        Cell::new(match (&cell.ratio, &cell.cost) {
            (Some(ratio), _) => percent_interval(ratio, threshold),
            (None, Some(of)) => cost(of, &cell.unit),
            (None, None) => NONE.to_owned(),
        }),
        Cell::new(cell.noise_floor.map_or(NONE.to_owned(), floor)),
        Cell::new(format!("{} {}", outcome.sign(), outcome.word())).fg(match outcome {
            Outcome::Holds => Color::Green,
            Outcome::Refuted | Outcome::Failed => Color::Red,
            Outcome::Anomaly | Outcome::Undecided => Color::Yellow,
            Outcome::NotTestable | Outcome::Cost => Color::DarkGrey,
        }),
    ]);
    row
}

/// The text without what could steer a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect()
}
