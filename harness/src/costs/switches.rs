//! What a switch between two threads on one CPU costs.

use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
use std::time::Instant;

use vtax_reports::record::UnitCost;

use super::batches;

/// Round trips of a batch.
const TRIPS: u32 = 200;

/// Two threads pass a byte to and fro through pipes; what the pipes themselves take is measured on one thread and taken
/// off. Both threads run where the caller is pinned to: a new thread inherits its CPUs.
///
/// Source: lat_ctx of lmbench (McVoy, Staelin 1996, "lmbench: portable tools for performance analysis").
pub(super) fn measure() -> UnitCost {
    match pass_bytes() {
        Ok(nanos) => UnitCost::Measured {
            nanos,
            how: format!(
                "{TRIPS} round trips of a byte between two threads on one CPU through pipes, less the pipes' own time"
            ),
        },
        Err(error) => UnitCost::Unavailable(format!("pipes between two threads: {error}")),
    }
}

fn pass_bytes() -> io::Result<Vec<f64>> {
    let (mut here, mut to_here) = pipe()?;
    let (mut there, mut to_there) = pipe()?;
    let (mut own, mut to_own) = pipe()?;
    std::thread::scope(|scope| {
        // It ends when this side closes its pipe.
        scope.spawn(move || while trip(&mut there, &mut to_here).is_ok() {});
        let nanos = batches(|| {
            let start = Instant::now();
            for _ in 0..TRIPS {
                to_there.write_all(&[0])?;
                here.read_exact(&mut [0])?;
            }
            let passed = start.elapsed();
            let start = Instant::now();
            for _ in 0..TRIPS {
                to_own.write_all(&[0])?;
                own.read_exact(&mut [0])?;
            }
            // Two switches, two writes and two reads a round trip.
            let nanos = passed.as_secs_f64() / 2.0 - start.elapsed().as_secs_f64();
            Ok(Some(nanos * 1e9 / f64::from(TRIPS)))
        });
        drop(to_there);
        nanos
    })
}

/// Takes a byte and passes it on.
fn trip(from: &mut PipeReader, to: &mut PipeWriter) -> io::Result<()> {
    let mut byte = [0];
    from.read_exact(&mut byte)?;
    to.write_all(&byte)
}
