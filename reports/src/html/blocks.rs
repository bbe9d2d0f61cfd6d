//! The block series: every block of a cell in the order in which it was measured, so that drift, boots that differ
//! and disturbances are visible.
//!
//! Bounded: a few cells, those most worth a look, and of each at most some 600 marks. Where there are more blocks, the
//! lowest and the highest of each stretch stand for it, so that no outlier is lost.

use super::attention::by_worry;
use super::head::trimmed;
use super::scale::{Axis, Tick, place};
use super::words::Badge;
use crate::export::figures::{NONE, percent};
use crate::record::{Marks, Sample, Side};
use crate::result::{CellResult, Results};
use crate::store::Run;

/// Most series.
const MOST: usize = 24;
/// Series that are open from the start.
const OPEN: usize = 6;
/// Stretches per side; each shows its lowest and highest block.
const STRETCHES: usize = 120;
/// Most marked blocks (void, disturbed) of one series.
const MOST_MARKED: usize = 100;
/// Most boots with a band and a table row of their own; beyond it neighbours share one.
const MOST_BANDS: usize = 60;

/// The series.
pub(super) struct Blocks<'a> {
    /// Shown from the start.
    pub open: Vec<Series<'a>>,
    /// Shown when unfolded.
    pub folded: Vec<Series<'a>>,
    /// Measured cells without a series.
    pub more: usize,
}

/// One cell's series. Values are performance as a share of the cell's native median.
pub(super) struct Series<'a> {
    pub label: &'a str,
    pub badge: Badge,
    pub words: String,
    pub y_ticks: Vec<Tick>,
    pub native_path: String,
    pub guest_path: String,
    pub warmup_path: String,
    pub marked: Vec<Marked>,
    pub bands: Vec<Band>,
    pub boots: usize,
    /// What the picture leaves out or cannot show at its place.
    pub note: String,
}

/// A void or disturbed block.
pub(super) struct Marked {
    pub class: &'static str,
    pub x: String,
    pub y: String,
    pub words: String,
}

/// A boot, or several neighbouring ones.
pub(super) struct Band {
    pub x: String,
    pub width: String,
    pub odd: bool,
    pub name: String,
    pub native: String,
    pub guest: String,
    pub blocks: usize,
    pub left_out: usize,
    pub words: String,
}

/// A block with its place in the cell's order.
#[derive(Clone, Copy)]
struct Block<'s> {
    order: usize,
    share: f64,
    sample: &'s Sample,
}

impl<'a> Blocks<'a> {
    /// The series of the cells most worth a look.
    pub fn new(run: &'a Run, results: &'a Results) -> Self {
        let measured: Vec<&CellResult> = by_worry(results)
            .into_iter()
            .filter(|cell| cell.native.is_some())
            .collect();
        let chosen = &measured[..measured.len().min(MOST)];
        let mut open: Vec<Series<'_>> = chosen
            .iter()
            .zip(samples_of(chosen, &run.samples))
            .filter_map(|(cell, samples)| Series::new(cell, &samples, run.record.nanos_per_tick))
            .collect();
        Self {
            folded: open.split_off(open.len().min(OPEN)),
            open,
            more: measured.len() - chosen.len(),
        }
    }
}

/// The samples of each of `cells`, in one pass over all.
fn samples_of<'s>(cells: &[&CellResult], samples: &'s [Sample]) -> Vec<Vec<&'s Sample>> {
    let top = cells.iter().map(|cell| cell.id).max().unwrap_or_default();
    let mut place_of = vec![None; usize::try_from(top).unwrap_or_default() + 1];
    for (place, cell) in cells.iter().enumerate() {
        if let Some(slot) = usize::try_from(cell.id)
            .ok()
            .and_then(|id| place_of.get_mut(id))
        {
            *slot = Some(place);
        }
    }
    let mut found = vec![Vec::new(); cells.len()];
    for sample in samples {
        let place = usize::try_from(sample.cell)
            .ok()
            .and_then(|id| place_of.get(id).copied().flatten());
        if let Some(place) = place {
            found[place].push(sample);
        }
    }
    found
}

impl<'a> Series<'a> {
    fn new(cell: &'a CellResult, samples: &[&Sample], nanos_per_tick: f64) -> Option<Self> {
        let blocks = shares(samples, nanos_per_tick)?;
        let y = axis(&blocks);
        let x = Axis::linear(-0.5, samples.len() as f64 - 0.5);
        let side = |guest: bool| {
            blocks
                .iter()
                .filter(move |block| {
                    block.sample.marks == Marks::CLEAN
                        && (block.sample.side == Side::Guest) == guest
                })
                .copied()
        };
        let marked: Vec<Block<'_>> = blocks
            .iter()
            .filter(|block| class(block.sample.marks).is_some())
            .copied()
            .collect();
        let beyond = blocks.iter().filter(|block| !y.holds(block.share)).count();
        let shown = extremes(marked.iter().copied(), samples.len(), MOST_MARKED / 2);
        let bands = bands(&blocks, x);
        Some(Self {
            label: &cell.label,
            badge: Badge::of(cell),
            words: format!(
                "Blocks of {} in the order measured, native and guest, as a share of the native median; \
                 {} blocks in {} boots, {} of them void or disturbed",
                cell.label,
                blocks.len(),
                boots(&blocks),
                marked.len()
            ),
            y_ticks: y
                .ticks(4)
                .into_iter()
                .map(|tick| Tick {
                    at: place(y.down(tick)),
                    label: format!("{} %", trimmed(tick * 100.0)),
                })
                .collect(),
            native_path: dots(side(false), samples.len(), x, y),
            guest_path: dots(side(true), samples.len(), x, y),
            warmup_path: dots(
                blocks
                    .iter()
                    .filter(|block| block.sample.marks == Marks::WARMUP)
                    .copied(),
                samples.len(),
                x,
                y,
            ),
            boots: boots(&blocks),
            note: note(blocks.len(), beyond, marked.len() - shown.len()),
            marked: shown
                .into_iter()
                .filter_map(|block| Marked::new(block, x, y))
                .collect(),
            bands,
        })
    }
}

/// Each block's performance against the median of the clean native ones; `None` where there are none.
fn shares<'s>(samples: &[&'s Sample], nanos_per_tick: f64) -> Option<Vec<Block<'s>>> {
    let cost = |sample: &Sample| sample.cost() * nanos_per_tick;
    let native = median(
        samples
            .iter()
            .filter(|sample| sample.side != Side::Guest && sample.marks == Marks::CLEAN)
            .map(|sample| cost(sample))
            .collect(),
    )?;
    let blocks = samples
        .iter()
        .enumerate()
        .map(|(order, sample)| Block {
            order,
            share: native / cost(sample),
            sample,
        })
        .filter(|block| block.share.is_finite())
        .collect();
    Some(blocks)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// From the 1 % to the 99 % point of the clean blocks, with some room: outliers stand at the edge.
fn axis(blocks: &[Block<'_>]) -> Axis {
    let mut clean: Vec<f64> = blocks
        .iter()
        .filter(|block| block.sample.marks == Marks::CLEAN)
        .map(|block| block.share)
        .collect();
    clean.sort_by(f64::total_cmp);
    let at = |hundredth: usize| {
        clean
            .get((clean.len().saturating_sub(1)) * hundredth / 100)
            .copied()
            .unwrap_or(1.0)
    };
    let (low, high) = (at(1).min(1.0), at(99).max(1.0));
    let room = ((high - low) * 0.2).max(0.005);
    Axis::linear(low - room, high + room)
}

/// The blocks that stand for all: of each stretch of the order, the lowest and the highest.
fn extremes<'s>(
    blocks: impl Iterator<Item = Block<'s>>,
    length: usize,
    stretches: usize,
) -> Vec<Block<'s>> {
    let all: Vec<Block<'s>> = blocks.collect();
    if all.len() <= stretches * 2 {
        return all;
    }
    let stretch_of = |block: &Block<'_>| block.order * stretches / length.max(1);
    all.chunk_by(|a, b| stretch_of(a) == stretch_of(b))
        .flat_map(|stretch| {
            let by_share = |a: &&Block<'s>, b: &&Block<'s>| a.share.total_cmp(&b.share);
            let low = stretch.iter().min_by(by_share);
            let high = stretch
                .iter()
                .max_by(by_share)
                .filter(|_| stretch.len() > 1);
            low.into_iter().chain(high).copied()
        })
        .collect()
}

/// Points without extent, which round line caps make dots, in a view box of 1000 × 100.
fn dots<'s>(blocks: impl Iterator<Item = Block<'s>>, length: usize, x: Axis, y: Axis) -> String {
    extremes(blocks, length, STRETCHES)
        .into_iter()
        .map(|block| {
            format!(
                "M{:.1} {:.1}h0",
                x.at(block.order as f64) * 10.0,
                y.down(block.share)
            )
        })
        .collect()
}

/// The class of a marked block; clean and warm-up blocks have none.
const fn class(marks: Marks) -> Option<&'static str> {
    if marks.is_void() {
        Some("void")
    } else if marks.intersects(Marks::WARMUP) {
        None
    } else if marks.is_disturbed() {
        Some("disturbed")
    } else {
        None
    }
}

impl Marked {
    fn new(block: Block<'_>, x: Axis, y: Axis) -> Option<Self> {
        let sample = block.sample;
        let class = class(sample.marks)?;
        let side = match sample.side {
            Side::Native => "native",
            Side::Guest => "guest",
            Side::Control => "native control",
        };
        let names = Marks::NAMES
            .iter()
            .filter(|(mark, _)| sample.marks.intersects(*mark))
            .map(|(_, name)| *name)
            .collect::<Vec<_>>()
            .join(", ");
        Some(Self {
            class,
            x: place(x.at(block.order as f64)),
            y: place(y.down(block.share)),
            words: format!(
                "{class} ({names}): {side}, boot {}, round {}, {}",
                sample.boot,
                sample.round,
                percent(block.share)
            ),
        })
    }
}

fn boots(blocks: &[Block<'_>]) -> usize {
    blocks
        .chunk_by(|a, b| a.sample.boot == b.sample.boot)
        .count()
}

fn bands(blocks: &[Block<'_>], x: Axis) -> Vec<Band> {
    let boots: Vec<&[Block<'_>]> = blocks
        .chunk_by(|a, b| a.sample.boot == b.sample.boot)
        .collect();
    let together = boots.len().div_ceil(MOST_BANDS).max(1);
    let mut start = 0;
    boots
        .chunks(together)
        .enumerate()
        .filter_map(|(index, boots)| {
            let length: usize = boots.iter().map(|boot| boot.len()).sum();
            let band = &blocks[start..start + length];
            start += length;
            Band::new(band, index % 2 == 1, x)
        })
        .collect()
}

impl Band {
    fn new(blocks: &[Block<'_>], odd: bool, x: Axis) -> Option<Self> {
        let (first, last) = (blocks.first()?, blocks.last()?);
        let (low, high) = (
            x.at(first.order as f64 - 0.5),
            x.at(last.order as f64 + 0.5),
        );
        let side = |guest: bool| {
            median(
                blocks
                    .iter()
                    .filter(|block| {
                        block.sample.marks == Marks::CLEAN
                            && (block.sample.side == Side::Guest) == guest
                    })
                    .map(|block| block.share)
                    .collect(),
            )
            .map_or(NONE.to_owned(), percent)
        };
        let (native, guest) = (side(false), side(true));
        let left_out = blocks
            .iter()
            .filter(|block| block.sample.marks != Marks::CLEAN)
            .count();
        let name = if first.sample.boot == last.sample.boot {
            format!("boot {}", first.sample.boot)
        } else {
            format!("boots {} to {}", first.sample.boot, last.sample.boot)
        };
        Some(Self {
            x: place(low),
            width: place(high - low),
            odd,
            words: format!(
                "{name}: native median {native}, guest median {guest}, {} blocks, {left_out} of them marked",
                blocks.len()
            ),
            name,
            native,
            guest,
            blocks: blocks.len(),
            left_out,
        })
    }
}

fn note(blocks: usize, beyond: usize, hidden: usize) -> String {
    let mut notes = Vec::new();
    if blocks > STRETCHES * 4 {
        notes.push(format!(
            "{blocks} blocks: the lowest and the highest of each stretch are shown"
        ));
    }
    if beyond > 0 {
        notes.push(format!("{beyond} beyond the axis stand at its edge"));
    }
    if hidden > 0 {
        notes.push(format!("{hidden} further marked blocks are in samples.csv"));
    }
    notes.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimation_keeps_the_outliers() {
        let samples: Vec<Sample> = (0..100_000_u64)
            .map(|index| Sample {
                cell: 0,
                boot: u32::try_from(index / 100).unwrap(),
                round: 0,
                position: 0,
                side: if index % 3 == 1 {
                    Side::Guest
                } else {
                    Side::Native
                },
                vcpu: 0,
                cpu: 0,
                iterations: 1000,
                ticks: match index {
                    // One block, a guest's, takes four times as long.
                    50_002 => 4_000_000,
                    _ => 1_000_000 + index % 7 * 1000,
                },
                outer_nanos: 0,
                run_in_ticks: 0,
                latency_ticks: 0,
                marks: Marks::CLEAN,
                at_nanos: 0,
            })
            .collect();
        let samples: Vec<&Sample> = samples.iter().collect();
        let blocks = shares(&samples, 1.0).unwrap();
        let guests = blocks
            .iter()
            .filter(|block| block.sample.side == Side::Guest)
            .copied();
        let kept = extremes(guests, blocks.len(), STRETCHES);
        assert!(kept.len() <= STRETCHES * 2);
        assert!(kept.iter().any(|block| block.order == 50_002));
        assert!(bands(&blocks, Axis::linear(0.0, 1e5)).len() <= MOST_BANDS);
    }
}
