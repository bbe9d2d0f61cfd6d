//! The report for people: one self-contained HTML file.
//!
//! ```text
//! Run + Results ──► one view per section (words, places, classes) ──► templates/*.html ──► one file
//! ```
//!
//! The views hold nothing but text and places; the templates escape every text. Styles and the script are allowed by
//! their hash alone, and the network not at all, so not even a flaw in escaping could run or fetch anything. Plots are
//! SVG with places in percent and text in pixels: they fit a phone and a wall without scaling their text, and follow
//! the reader's choice of dark or light through the style sheet.

mod attention;
mod blocks;
mod cells;
pub mod claims;
mod curves;
mod devices;
mod experiments;
mod forest;
mod head;
mod ledger;
mod matrix;
mod noise;
mod plan;
mod quantiles;
mod scale;
mod settings;
mod stalls;
mod words;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::result::Results;
use crate::store::Run;

const STYLE: &str = include_str!("../../templates/style.css");
const SCRIPT: &str = include_str!("../../templates/script.js");

/// Why the report could not be made.
#[derive(Debug, Error)]
#[error("cannot fill in the report's template: {0}")]
pub struct HtmlError(#[from] askama::Error);

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    style: &'static str,
    style_hash: String,
    script: &'static str,
    script_hash: String,
    head: head::Head<'a>,
    attention: attention::Attention<'a>,
    forest: forest::Forest<'a>,
    curves: curves::Curves<'a>,
    matrix: matrix::Matrix<'a>,
    settings: settings::Settings,
    account: ledger::Account<'a>,
    stumbles: stalls::Stumbles<'a>,
    devices: devices::Devices,
    experiments: experiments::Experiments,
    quantiles: quantiles::Quantiles<'a>,
    blocks: blocks::Blocks<'a>,
    noise: noise::Noise<'a>,
    cells: Vec<cells::Row<'a>>,
    common: Vec<(usize, &'a str)>,
    plan: plan::PlanView<'a>,
}

/// The report on `run`, as one HTML document that needs no other file and no network.
///
/// # Errors
/// When a template cannot be filled in.
pub fn render(run: &Run, results: &Results) -> Result<String, HtmlError> {
    let (cells, common) = cells::rows(results);
    let page = Page {
        style: STYLE,
        style_hash: hash(STYLE),
        script: SCRIPT,
        script_hash: hash(SCRIPT),
        head: head::Head::new(run, results),
        attention: attention::Attention::new(results),
        forest: forest::Forest::new(run, results),
        curves: curves::Curves::new(run, results),
        matrix: matrix::Matrix::new(run, results),
        settings: settings::Settings::new(results),
        account: ledger::Account::new(run, results),
        stumbles: stalls::Stumbles::new(results),
        devices: devices::Devices::new(run, results),
        experiments: experiments::Experiments::new(run, results),
        quantiles: quantiles::Quantiles::new(results),
        blocks: blocks::Blocks::new(run, results),
        noise: noise::Noise::new(run, results),
        cells,
        common,
        plan: plan::PlanView::new(run),
    };
    Ok(page.render()?)
}

/// A source expression of the Content Security Policy, level 3: `sha256-…`.
fn hash(source: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(source)))
}
