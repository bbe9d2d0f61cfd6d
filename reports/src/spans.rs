//! Samples by cell and boot, without a copy.
//!
//! Samples lie in the order in which they were measured: the blocks of a boot together, the boots of different cells in
//! turn. A boot is therefore a span of indices, and a run of ten million samples needs some hundred thousand spans.

use std::borrow::Cow;
use std::time::Duration;

use crate::record::Sample;

/// The samples of one boot.
#[derive(Clone, Debug, PartialEq)]
pub struct BootSamples<'a> {
    /// Its blocks; borrowed where they lie together, as they do in every run.
    pub blocks: Cow<'a, [Sample]>,
    /// Wall-clock time from the end of the boot measured before, of whatever cell, to the end of this one: setting up
    /// the guest is part of what a boot costs.
    pub time: Duration,
}

/// Where the boots of every cell lie.
#[derive(Clone, Debug)]
pub struct Spans<'a> {
    samples: &'a [Sample],
    /// Sorted by cell, boot and position.
    spans: Vec<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    cell: u32,
    boot: u32,
    start: usize,
    end: usize,
    starts_nanos: u64,
    ends_nanos: u64,
    /// From the end of the span before it in time to its own end.
    costs_nanos: u64,
}

impl<'a> Spans<'a> {
    /// Finds the boots of `samples`.
    #[must_use]
    pub fn new(samples: &'a [Sample]) -> Self {
        let mut spans: Vec<Span> = samples
            .chunk_by(|one, next| (one.cell, one.boot) == (next.cell, next.boot))
            .scan(0, |start, blocks| {
                let end = *start + blocks.len();
                let span = Span::new(blocks, *start, end);
                *start = end;
                Some(span)
            })
            .collect();
        spans.sort_unstable_by_key(|span| (span.starts_nanos, span.start));
        let mut now = 0;
        for span in &mut spans {
            span.costs_nanos = span.ends_nanos.saturating_sub(now);
            now = now.max(span.ends_nanos);
        }
        spans.sort_unstable_by_key(|span| (span.cell, span.boot, span.start));
        Self { samples, spans }
    }

    /// The boots of `cell`, by boot number.
    #[must_use]
    pub fn boots(&self, cell: u32) -> Vec<BootSamples<'a>> {
        let from = self.spans.partition_point(|span| span.cell < cell);
        let to = self.spans.partition_point(|span| span.cell <= cell);
        self.spans[from..to]
            .chunk_by(|one, next| one.boot == next.boot)
            .map(|spans| BootSamples {
                blocks: self.blocks(spans),
                time: Duration::from_nanos(spans.iter().map(|span| span.costs_nanos).sum()),
            })
            .collect()
    }

    fn blocks(&self, spans: &[Span]) -> Cow<'a, [Sample]> {
        match spans {
            [span] => Cow::Borrowed(&self.samples[span.start..span.end]),
            _ => spans
                .iter()
                .flat_map(|span| &self.samples[span.start..span.end])
                .copied()
                .collect(),
        }
    }
}

impl Span {
    /// The span of `blocks`, which are not empty.
    fn new(blocks: &[Sample], start: usize, end: usize) -> Self {
        let ends = |block: &Sample| block.at_nanos.saturating_add(block.outer_nanos);
        Self {
            cell: blocks[0].cell,
            boot: blocks[0].boot,
            start,
            end,
            starts_nanos: blocks.iter().map(|block| block.at_nanos).min().unwrap_or(0),
            ends_nanos: blocks.iter().map(ends).max().unwrap_or(0),
            costs_nanos: 0,
        }
    }
}
