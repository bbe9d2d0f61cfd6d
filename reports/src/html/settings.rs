//! The table of all that settings do to the guest.

use crate::export::figures::NONE;
use crate::export::settings::{Change, Column, Row as Effects};
use crate::result::Results;

/// The table.
pub(super) struct Settings {
    pub titles: Vec<&'static str>,
    pub rows: Vec<Row>,
}

/// What a value does to one work.
pub(super) struct Row {
    pub setting: String,
    pub reference: String,
    pub work: String,
    pub per_vcpu: bool,
    /// CSS class, value and interval in each column.
    pub figures: Vec<(&'static str, String, String)>,
}

impl Settings {
    /// All of them, by setting and value.
    pub fn new(results: &Results) -> Self {
        let rows = Effects::all(results);
        let columns = Column::present(&rows);
        let figure = |row: &Effects<'_>, column: Column| {
            let class = match row.change(column) {
                Change::Better => "better",
                Change::Worse => "worse",
                Change::Unclear => "",
            };
            let text = row.figure(column).unwrap_or_else(|| NONE.to_owned());
            match text.split_once(" [") {
                Some((value, ends)) => (class, value.to_owned(), format!("[{ends}")),
                None => (class, text, String::new()),
            }
        };
        Self {
            titles: columns.iter().map(|it| it.title()).collect(),
            rows: rows
                .iter()
                .map(|row| Row {
                    setting: row.setting.clone(),
                    reference: row.reference.to_owned(),
                    work: row.work.clone(),
                    per_vcpu: row.per_vcpu,
                    figures: columns.iter().map(|&column| figure(row, column)).collect(),
                })
                .collect(),
        }
    }
}
