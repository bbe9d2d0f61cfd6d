//! `cpu-calls`: chains of nested indirect calls.

use core::hint::black_box;

use crate::catalogue::{at_once, baseline, unlimited};
use crate::mix::{fill, words};
use crate::{Body, Direction, Family, Latencies, MAX_PARAMS, Metric, Prepare, Workload};

const CHAINS: usize = 512;
const DEPTH: usize = 16;
const TARGETS: usize = 16;

/// One iteration is a chain of 16 nested calls; each callee finds the next one in a table.
pub(crate) const ENTRY: Workload = Workload {
    name: "cpu-calls",
    family: Family::Cpu,
    title: "Indirect calls",
    stresses: "Indirect-branch and return prediction and the stack, as in object-oriented code: 16 targets in random \
               order, 16 calls deep.",
    source: "Driesen, Hölzle, The Direct Cost of Virtual Function Calls in C++, OOPSLA 1996",
    metric: Metric {
        unit: "ns/call",
        direction: Direction::LowerIsBetter,
        amount_per_iteration: DEPTH as f64,
    },
    params: &[],
    requires: baseline,
    footprint: |_| (CHAINS * DEPTH * 8) as u64,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: at_once,
    latencies: false,
    body: Body::Shared { setup, run },
};

fn setup(arena: &mut [u8], _params: &[u64; MAX_PARAMS], seed: u64) {
    fill(words(arena, CHAINS * DEPTH), seed, 0);
}

fn run(
    arena: &mut [u8],
    _params: &[u64; MAX_PARAMS],
    iterations: u64,
    seed: u64,
    _latencies: &mut Latencies<'_>,
) -> u64 {
    // Opaque, so that the compiler cannot turn the calls into direct ones.
    let methods = black_box(&METHODS);
    let (chains, _) = words(arena, CHAINS * DEPTH).as_chunks::<DEPTH>();
    chains
        .iter()
        .cycle()
        .take(iterations as usize)
        .fold(seed, |state, chain| call(methods, chain, state))
}

/// Does its own work on the state, calls what the rest of the chain names, and works on the result.
type Method = fn(methods: &MethodTable, rest: &[u64], state: u64) -> u64;

/// A struct, as a type alias could not name itself through [`Method`].
struct MethodTable([Method; TARGETS]);

static METHODS: MethodTable = MethodTable([
    method::<0>,
    method::<1>,
    method::<2>,
    method::<3>,
    method::<4>,
    method::<5>,
    method::<6>,
    method::<7>,
    method::<8>,
    method::<9>,
    method::<10>,
    method::<11>,
    method::<12>,
    method::<13>,
    method::<14>,
    method::<15>,
]);

#[inline(always)]
fn call(methods: &MethodTable, chain: &[u64], state: u64) -> u64 {
    match chain {
        [selector, rest @ ..] => methods.0[(*selector as usize) % TARGETS](methods, rest, state),
        [] => state,
    }
}

fn method<const N: u32>(methods: &MethodTable, rest: &[u64], state: u64) -> u64 {
    let own = state.rotate_left(2 * N + 1).wrapping_add(rest.len() as u64);
    // Work after the call keeps it a call: a tail call would be a jump.
    call(methods, rest, own).wrapping_mul(u64::from(2 * N + 3)) ^ own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rig;

    /// The chain as two loops, down and back up, without a call.
    fn reference(chain: &[u64], state: u64) -> u64 {
        let mut owns = [0u64; DEPTH];
        let mut down = state;
        for (place, selector) in chain.iter().enumerate() {
            let turn = 2 * (selector % 16) as u32 + 1;
            down = down
                .rotate_left(turn)
                .wrapping_add((DEPTH - 1 - place) as u64);
            owns[place] = down;
        }
        chain
            .iter()
            .zip(owns)
            .rev()
            .fold(down, |up, (selector, own)| {
                up.wrapping_mul(2 * (selector % 16) + 3) ^ own
            })
    }

    #[test]
    fn agrees_with_loops_without_calls() {
        let mut rig = Rig::new(&ENTRY, [0; MAX_PARAMS], 9);
        let expected = rig
            .words()
            .chunks(DEPTH)
            .take(300)
            .fold(9, |state, chain| reference(chain, state));
        assert_eq!(rig.run(300), expected);
    }

    #[test]
    fn every_target_is_called() {
        let mut rig = Rig::new(&ENTRY, [0; MAX_PARAMS], 9);
        let mut seen = [false; TARGETS];
        for selector in rig.words() {
            seen[(*selector % 16) as usize] = true;
        }
        assert_eq!(seen, [true; TARGETS]);
    }
}
