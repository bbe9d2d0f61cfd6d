//! `cpu-matmul`: blocked multiplication of two matrices of f64, scalar or in vectors.
//!
//! The results of the variants differ in their last bits, as fused multiply-add rounds once; each variant's own result
//! is fixed by the order of operations written here.

use core::arch::asm;
use core::arch::x86_64::{
    _mm256_broadcast_sd, _mm256_fmadd_pd, _mm256_loadu_pd, _mm256_setzero_pd, _mm256_storeu_pd,
    _mm512_fmadd_pd, _mm512_loadu_pd, _mm512_set1_pd, _mm512_setzero_pd, _mm512_storeu_pd,
};

use crate::catalogue::{at_once, unlimited};
use crate::mix::{fill, fold, words};
use crate::{
    Body, Direction, Family, Features, Latencies, MAX_PARAMS, Metric, Param, ParamKind, Prepare,
    Workload,
};

/// Rows and columns of a tile.
const SIDE: usize = 16;
/// Tiles per row and per column of a matrix, which so has 96 × 96 elements.
const GRID: usize = 6;
const TILES: usize = GRID * GRID;

const AVX2: u64 = 1;
const AVX512: u64 = 2;

/// One iteration multiplies two 16 × 16 tiles and adds the product to a third.
pub(crate) const ENTRY: Workload = Workload {
    name: "cpu-matmul",
    family: Family::Cpu,
    title: "Matrix multiplication",
    stresses: "Floating-point multiply and add at f64, from three 72 KiB matrices in tiles that fit the L1 cache.",
    source: "Goto, van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34 (2008)",
    metric: Metric {
        unit: "GFLOP/s",
        direction: Direction::HigherIsBetter,
        amount_per_iteration: (2 * SIDE * SIDE * SIDE) as f64,
    },
    params: &[Param {
        name: "vector",
        kind: ParamKind::Choice(&["scalar", "avx2", "avx512"]),
        default: 0,
        min: 0,
        max: AVX512,
        help: "instructions to use: scalar (baseline SSE2), avx2 (with FMA), avx512",
    }],
    requires: |params| match params[0] {
        AVX2 => Features::AVX2,
        AVX512 => Features::AVX512,
        _ => Features::NONE,
    },
    footprint: |_| (3 * TILES * size_of::<Tile>()) as u64,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: at_once,
    latencies: false,
    body: Body::Shared { setup, run },
};

/// Row by row. Matrices are stored tile by tile, row by row.
type Tile = [[f64; SIDE]; SIDE];
type Matrix = [Tile; TILES];

/// The factors and the product.
fn layout(arena: &mut [u8]) -> Option<(&Matrix, &Matrix, &mut Matrix)> {
    // SAFETY: every bit pattern is a valid f64.
    let (_, tiles, _) = unsafe { arena.align_to_mut::<Tile>() };
    let (a, rest) = tiles.split_first_chunk_mut()?;
    let (b, rest) = rest.split_first_chunk_mut()?;
    Some((a, b, rest.first_chunk_mut()?))
}

/// Fills all three matrices with numbers in [-1, 1).
fn setup(arena: &mut [u8], _params: &[u64; MAX_PARAMS], seed: u64) {
    let elements = words(arena, 3 * TILES * SIDE * SIDE);
    fill(elements, seed, 0);
    for element in elements {
        // 53 random bits, scaled: exact in f64.
        let unit = (*element >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        *element = unit.to_bits();
    }
}

fn run(
    arena: &mut [u8],
    params: &[u64; MAX_PARAMS],
    iterations: u64,
    seed: u64,
    _latencies: &mut Latencies<'_>,
) -> u64 {
    let Some((a, b, c)) = layout(arena) else {
        return 0;
    };
    match params[0] {
        // SAFETY: `requires` names these features, and whoever calls `run` has checked them.
        AVX2 => multiply(a, b, c, iterations, seed, |a, b, c, fresh| unsafe {
            add_product_avx2(a, b, c, fresh);
        }),
        // SAFETY: as above.
        AVX512 => multiply(a, b, c, iterations, seed, |a, b, c, fresh| unsafe {
            add_product_avx512(a, b, c, fresh);
        }),
        _ => multiply(a, b, c, iterations, seed, add_product_scalar),
    }
}

/// Works through the tile products of `c = a × b` in order, `steps` of them, beginning anew after the last.
#[inline(always)]
fn multiply(
    a: &Matrix,
    b: &Matrix,
    c: &mut Matrix,
    steps: u64,
    seed: u64,
    add_product: impl Fn(&Tile, &Tile, &mut Tile, bool),
) -> u64 {
    let mut checksum = seed;
    let (mut tile, mut inner) = (0, 0);
    for step in 0..steps as usize {
        let (row, column) = (tile / GRID, tile % GRID);
        let target = &mut c[tile];
        add_product(
            &a[row * GRID + inner],
            &b[inner * GRID + column],
            target,
            inner == 0,
        );
        let probe = target[step % SIDE][(step / SIDE) % SIDE];
        checksum = fold(checksum, probe.to_bits());
        inner += 1;
        if inner == GRID {
            (tile, inner) = ((tile + 1) % TILES, 0);
        }
    }
    // Tiles that this run did not reach hold another run's result.
    let reached = steps.div_ceil(GRID as u64).min(TILES as u64) as usize;
    c.iter()
        .take(reached)
        .flatten()
        .flatten()
        .fold(checksum, |sum, element| fold(sum, element.to_bits()))
}

/// `c += a × b`, or `c = a × b` where `fresh`, one element after the other; four rows at a time, as one chain of
/// additions would only wait.
fn add_product_scalar(a: &Tile, b: &Tile, c: &mut Tile, fresh: bool) {
    for (rows, targets) in a.as_chunks::<4>().0.iter().zip(c.as_chunks_mut::<4>().0) {
        for column in 0..SIDE {
            let mut sums = [0.0; 4];
            for inner in 0..SIDE {
                for (sum, row) in sums.iter_mut().zip(rows) {
                    *sum = opaque(*sum + row[inner] * b[inner][column]);
                }
            }
            for (target, sum) in targets.iter_mut().zip(sums) {
                target[column] = if fresh { sum } else { target[column] + sum };
            }
        }
    }
}

/// The same value, of which the compiler knows nothing: it cannot join four such sums into vectors.
#[inline(always)]
fn opaque(mut value: f64) -> f64 {
    // SAFETY: a comment in assembly; the value stays in its register.
    unsafe {
        asm!("/* {0} */", inout(xmm_reg) value, options(pure, nomem, nostack, preserves_flags));
    }
    value
}

/// As [`add_product_scalar`], with vectors of four, two rows of the result at a time in eight registers.
#[target_feature(enable = "avx2,fma")]
fn add_product_avx2(a: &Tile, b: &Tile, c: &mut Tile, fresh: bool) {
    const ROWS: usize = 2;
    const LANES: usize = 4;
    const VECTORS: usize = SIDE / LANES;
    for (rows, targets) in a
        .as_chunks::<ROWS>()
        .0
        .iter()
        .zip(c.as_chunks_mut::<ROWS>().0)
    {
        let mut sums = [[_mm256_setzero_pd(); VECTORS]; ROWS];
        if !fresh {
            for (sum, target) in sums.iter_mut().zip(&*targets) {
                for (vector, lanes) in sum.iter_mut().zip(target.as_chunks::<LANES>().0) {
                    // SAFETY: `lanes` holds LANES elements.
                    *vector = unsafe { _mm256_loadu_pd(lanes.as_ptr()) };
                }
            }
        }
        for inner in 0..SIDE {
            let lanes = b[inner].as_chunks::<LANES>().0;
            for v in 0..VECTORS {
                // SAFETY: `lanes[v]` holds LANES elements.
                let right = unsafe { _mm256_loadu_pd(lanes[v].as_ptr()) };
                for (sum, row) in sums.iter_mut().zip(rows) {
                    sum[v] = _mm256_fmadd_pd(_mm256_broadcast_sd(&row[inner]), right, sum[v]);
                }
            }
        }
        for (target, sum) in targets.iter_mut().zip(sums) {
            for (lanes, vector) in target.as_chunks_mut::<LANES>().0.iter_mut().zip(sum) {
                // SAFETY: `lanes` holds LANES elements.
                unsafe { _mm256_storeu_pd(lanes.as_mut_ptr(), vector) };
            }
        }
    }
}

/// As [`add_product_scalar`], with vectors of eight, eight rows of the result at a time in sixteen registers.
#[target_feature(enable = "avx512f")]
fn add_product_avx512(a: &Tile, b: &Tile, c: &mut Tile, fresh: bool) {
    const ROWS: usize = 8;
    const LANES: usize = 8;
    const VECTORS: usize = SIDE / LANES;
    for (rows, targets) in a
        .as_chunks::<ROWS>()
        .0
        .iter()
        .zip(c.as_chunks_mut::<ROWS>().0)
    {
        let mut sums = [[_mm512_setzero_pd(); VECTORS]; ROWS];
        if !fresh {
            for (sum, target) in sums.iter_mut().zip(&*targets) {
                for (vector, lanes) in sum.iter_mut().zip(target.as_chunks::<LANES>().0) {
                    // SAFETY: `lanes` holds LANES elements.
                    *vector = unsafe { _mm512_loadu_pd(lanes.as_ptr()) };
                }
            }
        }
        for inner in 0..SIDE {
            let lanes = b[inner].as_chunks::<LANES>().0;
            for v in 0..VECTORS {
                // SAFETY: `lanes[v]` holds LANES elements.
                let right = unsafe { _mm512_loadu_pd(lanes[v].as_ptr()) };
                for (sum, row) in sums.iter_mut().zip(rows) {
                    sum[v] = _mm512_fmadd_pd(_mm512_set1_pd(row[inner]), right, sum[v]);
                }
            }
        }
        for (target, sum) in targets.iter_mut().zip(sums) {
            for (lanes, vector) in target.as_chunks_mut::<LANES>().0.iter_mut().zip(sum) {
                // SAFETY: `lanes` holds LANES elements.
                unsafe { _mm512_storeu_pd(lanes.as_mut_ptr(), vector) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Rig, host_has};

    const ORDER: usize = SIDE * GRID;
    /// One whole product.
    const WHOLE: u64 = (TILES * GRID) as u64;

    fn element(matrix: &Matrix, row: usize, column: usize) -> f64 {
        matrix[row / SIDE * GRID + column / SIDE][row % SIDE][column % SIDE]
    }

    #[test]
    fn every_variant_agrees_with_the_schoolbook_method() {
        for vector in 0..=AVX512 {
            let params = [vector, 0, 0, 0];
            if !host_has((ENTRY.requires)(&params)) {
                continue;
            }
            let mut rig = Rig::new(&ENTRY, params, 13);
            rig.run(WHOLE);
            let (a, b, c) = layout(rig.arena()).unwrap();
            for row in 0..ORDER {
                for column in 0..ORDER {
                    let exact: f64 = (0..ORDER)
                        .map(|inner| element(a, row, inner) * element(b, inner, column))
                        .sum();
                    let found = element(c, row, column);
                    assert!(
                        (found - exact).abs() < 1e-12,
                        "variant {vector}: {found} for {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_vector_variants_agree_with_each_other_to_the_bit() {
        let sums: std::vec::Vec<u64> = [AVX2, AVX512]
            .map(|vector| [vector, 0, 0, 0])
            .into_iter()
            .filter(|params| host_has((ENTRY.requires)(params)))
            .map(|params| Rig::new(&ENTRY, params, 17).run(WHOLE + 5))
            .collect();
        assert!(sums.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
