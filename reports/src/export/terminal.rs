//! The table that a run prints.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, LineStyle, Table,
};

use super::figures::{NONE, Outcome, cost, figure, floor, percent_interval, quantity, share};
use super::settings::{Change, Column, Row};
use crate::claims::{Line, Suite};
use crate::result::{CellResult, Results, SideSummary, Verdict};

/// Below this many columns the two sides' figures move under the cell's label.
const ROOMY: u16 = 110;

/// In fewer columns than this a table would break its words: what it says is then told row by row.
const NARROW: u16 = 72;

/// The text in lines of at most `width` columns, broken at spaces; a word that is longer has a line of its own.
#[must_use]
pub fn words(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// The table of all cells, at most `width` columns wide, with ANSI colours where `colours` says so.
#[must_use]
pub fn table(results: &Results, width: u16, colours: bool) -> String {
    let roomy = width >= ROOMY;
    let titles: &[&str] = if roomy {
        &[
            "cell",
            "native",
            "guest",
            "ratio",
            "typical",
            "noise floor",
            "verdict",
        ]
    } else {
        &["cell, native → guest", "ratio", "noise floor", "verdict"]
    };
    let mut table = new_table(titles, width);
    table.add_rows(
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
    finished(table, width, colours)
}

/// The table of a suite of claims, and below it a line for each that the table says nothing certain of: why.
#[must_use]
pub fn claims(suite: &Suite, width: u16, colours: bool) -> String {
    let mut table = new_table(&["claim", "figure", "must be", "verdict"], width);
    for claim in &suite.claims {
        table.add_row(line(&claim.id, &claim.whole));
        for part in &claim.parts {
            table.add_row(line(&format!("  {}", part.words), part));
        }
    }
    let mut text = finished(table, width, colours);
    for claim in &suite.claims {
        let whole = &claim.whole;
        if whole.finding.is_none() || whole.verdict == Verdict::Undecided {
            let why = format!("{}: {}", printable(&claim.id), printable(&whole.sentence));
            let lines = match width < NARROW {
                true => words(&why, width.into()),
                false => vec![why],
            };
            text += &format!("\n{}", lines.join("\n"));
        }
    }
    text
}

fn line(name: &str, line: &Line) -> Vec<Cell> {
    let (value, ends, threshold) = line.figures().unwrap_or_else(|| {
        let none = || NONE.to_owned();
        (none(), String::new(), none())
    });
    vec![
        Cell::new(printable(name)),
        Cell::new(format!("{value} {ends}").trim_end()).set_alignment(CellAlignment::Right),
        Cell::new(threshold),
        verdict(Outcome::of_verdict(line.verdict)),
    ]
}

/// The table of all metrics of experiments; `None` where there are none.
#[must_use]
pub fn experiments(results: &Results, width: u16, colours: bool) -> Option<String> {
    let mut table = new_table(&["experiment", "metric", "figure", "values"], width);
    for experiment in &results.experiments {
        for metric in &experiment.metrics {
            let show = |value| quantity(value, metric.unit);
            let lack = || experiment.reason.as_ref().or(metric.unavailable.as_ref());
            let figure = metric.interval.map_or_else(
                || lack().map_or(NONE.to_owned(), |why| printable(why)),
                |it| format!("{} [{}, {}]", show(it.value), show(it.low), show(it.high)),
            );
            table.add_row(vec![
                Cell::new(printable(&experiment.label)),
                Cell::new(&metric.name),
                Cell::new(figure),
                Cell::new(metric.repetitions).set_alignment(CellAlignment::Right),
            ]);
        }
    }
    (!results.experiments.is_empty()).then(|| finished(table, width, colours))
}

/// The table of what settings do to the guest, guest against guest; `None` where none were compared.
#[must_use]
pub fn settings(results: &Results, width: u16, colours: bool) -> Option<String> {
    let rows = Row::all(results);
    let columns = Column::present(&rows);
    // The label takes what figures leave it; where that is little, it stands in one column.
    let roomy = usize::from(width) >= 40 + 24 * columns.len();
    let mut titles = vec!["guest against guest"];
    titles.extend(roomy.then_some("work"));
    titles.extend(columns.iter().map(|it| it.title()));
    let mut table = new_table(&titles, width);
    for row in &rows {
        let setting = printable(&format!("{} against {}", row.setting, row.reference));
        let each = if row.per_vcpu { " (for each vCPU)" } else { "" };
        let work = printable(&format!("{}{each}", row.work));
        let mut cells = if roomy {
            vec![Cell::new(setting), Cell::new(work)]
        } else {
            vec![Cell::new(format!("{setting}\n{work}"))]
        };
        for &column in &columns {
            let figure = row.figure(column).unwrap_or_else(|| NONE.to_owned());
            // The interval may go to a line of its own, but not into two.
            let figure = if roomy {
                figure
            } else {
                figure.replacen(" [", "\n[", 1)
            };
            let cell = Cell::new(figure).set_alignment(CellAlignment::Right);
            cells.push(match row.change(column) {
                Change::Better => cell.fg(Color::Green),
                Change::Worse => cell.fg(Color::Red),
                Change::Unclear => cell,
            });
        }
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(titles.len() - columns.len()) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    (!rows.is_empty()).then(|| finished(table, width, colours))
}

fn new_table(titles: &[&str], width: u16) -> Table {
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
        );
    table
}

fn finished(mut table: Table, width: u16, colours: bool) -> String {
    if width < NARROW {
        return row_by_row(&table, usize::from(width));
    }
    if colours {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.trim_fmt()
}

/// Each row as its first field with the others below it, each behind its column's title.
fn row_by_row(table: &Table, width: usize) -> String {
    let titles: Vec<String> = table
        .header()
        .into_iter()
        .flat_map(|header| header.cell_iter())
        .map(Cell::content)
        .collect();
    let mut lines = Vec::new();
    for row in table.row_iter() {
        for (index, (cell, title)) in row.cell_iter().zip(&titles).enumerate() {
            let content = cell.content();
            let (text, indent) = match index {
                0 => (content, ""),
                _ => (format!("{title}: {content}"), "  "),
            };
            let room = width.saturating_sub(indent.len()).max(1);
            let wrapped = text.lines().flat_map(|line| words(line, room));
            lines.extend(wrapped.map(|line| format!("{indent}{line}")));
        }
    }
    lines.join("\n")
}

fn verdict(outcome: Outcome) -> Cell {
    Cell::new(format!("{} {}", outcome.sign(), outcome.word())).fg(match outcome {
        Outcome::Holds => Color::Green,
        Outcome::Refuted | Outcome::Failed => Color::Red,
        Outcome::Anomaly | Outcome::Undecided => Color::Yellow,
        Outcome::NotTestable | Outcome::Cost => Color::DarkGrey,
    })
}

fn row(cell: &CellResult, roomy: bool, threshold: f64) -> Vec<Cell> {
    let value = |side: &Option<SideSummary>| {
        side.as_ref()
            .map_or(NONE.to_owned(), |side| figure(side.mean))
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
    row.push(Cell::new(match (&cell.ratio, &cell.cost) {
        (Some(ratio), _) => percent_interval(ratio, threshold),
        (None, Some(of)) => cost(of, &cell.unit),
        (None, None) => NONE.to_owned(),
    }));
    if roomy {
        row.push(Cell::new(
            (cell.typical.as_ref()).map_or(NONE.to_owned(), |it| share(it, threshold)),
        ));
    }
    row.extend([
        Cell::new(cell.noise_floor.map_or(NONE.to_owned(), floor)),
        verdict(outcome),
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
