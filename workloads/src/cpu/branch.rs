//! `cpu-branch`: a bytecode interpreter, whose dispatch no predictor gets right all the time.

use crate::catalogue::{at_once, baseline, unlimited};
use crate::mix::{fill, fold, mix, words};
use crate::{Body, Direction, Family, Latencies, MAX_PARAMS, Metric, Prepare, Workload};

const PROGRAM: usize = 512;
const INSTRUCTIONS: u32 = 128;

/// One iteration interprets 128 instructions and goes on where the one before stopped.
pub(crate) const ENTRY: Workload = Workload {
    name: "cpu-branch",
    family: Family::Cpu,
    title: "Bytecode interpreter",
    stresses: "Branch prediction: a jump table per instruction, and skips that depend on computed data.",
    source: "Ertl, Gregg, The Structure and Performance of Efficient Interpreters, JILP 5 (2003)",
    metric: Metric {
        unit: "ns/instruction",
        direction: Direction::LowerIsBetter,
        amount_per_iteration: INSTRUCTIONS as f64,
    },
    params: &[],
    requires: baseline,
    footprint: |_| (PROGRAM * 8) as u64,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: at_once,
    latencies: false,
    body: Body::Shared { setup, run },
};

/// A program is random words; every word is a valid instruction.
fn setup(arena: &mut [u8], _params: &[u64; MAX_PARAMS], seed: u64) {
    fill(words(arena, PROGRAM), seed, 0);
}

fn run(
    arena: &mut [u8],
    _params: &[u64; MAX_PARAMS],
    iterations: u64,
    seed: u64,
    _latencies: &mut Latencies<'_>,
) -> u64 {
    let Some(program) = words(arena, PROGRAM).first_chunk::<PROGRAM>() else {
        return 0;
    };
    let mut machine = Machine::new(seed);
    for _ in 0..iterations {
        for _ in 0..INSTRUCTIONS {
            machine.step(program);
        }
    }
    machine
        .registers
        .iter()
        .fold(machine.counter as u64, |checksum, &register| {
            fold(checksum, register)
        })
}

/// Eight registers and a program counter that wraps at the program's end.
///
/// An instruction word holds, from its lowest bit: operation (3 bits), target, left and right register (3 bits each),
/// skip distance (3 bits), and in its upper half an immediate value.
struct Machine {
    registers: [u64; 8],
    counter: usize,
}

impl Machine {
    fn new(seed: u64) -> Self {
        let mut registers = [0; 8];
        for (number, register) in (0..).zip(&mut registers) {
            *register = mix(seed.wrapping_add(number));
        }
        Self {
            registers,
            counter: 0,
        }
    }

    #[inline(always)]
    fn step(&mut self, program: &[u64; PROGRAM]) {
        let word = program[self.counter % PROGRAM];
        let field = |shift: u32| ((word >> shift) & 7) as usize;
        let (left, right) = (self.registers[field(6)], self.registers[field(9)]);
        let target = &mut self.registers[field(3)];
        let mut next = self.counter + 1;
        match word & 7 {
            0 => *target = left.wrapping_add(right),
            1 => *target = left.wrapping_sub(right),
            2 => *target ^= left.rotate_left(17),
            3 => *target = left.wrapping_mul(right | 1),
            4 => *target = left.rotate_left(right as u32 & 63),
            5 => *target = left.wrapping_add(word >> 32),
            6 => next += if left & 1 == 1 { field(12) } else { 0 },
            _ => next += if left < right { field(12) } else { 0 },
        }
        self.counter = next % PROGRAM;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rig;
    use std::vec::Vec;

    #[derive(Clone, Copy)]
    enum Operation {
        Add,
        Subtract,
        MixIn,
        MultiplyOdd,
        Rotate,
        AddImmediate(u64),
        SkipIfOdd(usize),
        SkipIfLess(usize),
    }

    /// Decodes the whole program first, then walks it with plain arithmetic.
    fn reference(program: &[u64], seed: u64, steps: u64) -> (Vec<u64>, usize) {
        use Operation::*;
        let decoded: Vec<(Operation, usize, usize, usize)> = program
            .iter()
            .map(|word| {
                let digit = |place: u32| (word / 8u64.pow(place) % 8) as usize;
                let operation = match digit(0) {
                    0 => Add,
                    1 => Subtract,
                    2 => MixIn,
                    3 => MultiplyOdd,
                    4 => Rotate,
                    5 => AddImmediate(word / (1 << 32)),
                    6 => SkipIfOdd(digit(4)),
                    _ => SkipIfLess(digit(4)),
                };
                (operation, digit(1), digit(2), digit(3))
            })
            .collect();
        let mut file: Vec<u64> = (0..8).map(|n| mix(seed.wrapping_add(n))).collect();
        let mut at = 0;
        for _ in 0..steps {
            let (operation, target, left, right) = decoded[at];
            let (l, r) = (u128::from(file[left]), u128::from(file[right]));
            let low = |value: u128| (value % (1 << 64)) as u64;
            let turn = |value: u128, by: u32| low((value << by) | (value >> (64 - by)));
            at += 1;
            match operation {
                Add => file[target] = low(l + r),
                Subtract => file[target] = low((1 << 64) + l - r),
                MixIn => file[target] ^= turn(l, 17),
                MultiplyOdd => file[target] = low(l * (r | 1)),
                Rotate => file[target] = turn(l, (r % 64) as u32),
                AddImmediate(value) => file[target] = low(l + u128::from(value)),
                SkipIfOdd(by) if l % 2 == 1 => at += by,
                SkipIfLess(by) if l < r => at += by,
                SkipIfOdd(_) | SkipIfLess(_) => {}
            }
            at %= program.len();
        }
        (file, at)
    }

    #[test]
    fn agrees_with_a_decode_first_interpreter() {
        let mut rig = Rig::new(&ENTRY, [0; MAX_PARAMS], 21);
        let checksum = rig.run(40);
        let (file, at) = reference(rig.words(), 21, 40 * u64::from(INSTRUCTIONS));
        let expected = file
            .iter()
            .fold(at as u64, |sum, &register| fold(sum, register));
        assert_eq!(checksum, expected);
    }

    #[test]
    fn skips_go_both_ways() {
        let mut rig = Rig::new(&ENTRY, [0; MAX_PARAMS], 3);
        let program = *rig.words().first_chunk().unwrap();
        let mut machine = Machine::new(3);
        let (mut taken, mut conditional) = (0, 0);
        for _ in 0..100_000 {
            let word: u64 = program[machine.counter];
            let before = machine.counter;
            machine.step(&program);
            if word & 7 >= 6 && (word >> 12) & 7 != 0 {
                conditional += 1;
                taken += u32::from(machine.counter != (before + 1) % PROGRAM);
            }
        }
        let share = f64::from(taken) / f64::from(conditional);
        assert!(
            (0.3..0.7).contains(&share),
            "{share} of the skips are taken"
        );
    }
}
