//! How guest RAM is divided: the one definition for the checks, the harness and the guest.
//!
//! ```text
//! 0            reserved_bytes              arena_start           + arena_bytes           memory
//! ├─ harness ──┼─ page tables, memory/512 ─┼─ arena of vCPU 0 ─────┼─ arena of vCPU 1 ─ … ─┤
//! ```

use vtax_workloads::machine::VCPU_AREA;

/// Bytes at the start of guest RAM that hold what all vCPUs share: image, interrupt table and the upper levels of the
/// page tables. The vCPUs' own areas follow.
pub const SHARED_BYTES: u64 = 4 * MIB;

/// Smallest guest RAM in bytes.
pub const MIN_MEMORY_BYTES: u64 = 16 * MIB;

/// Guest RAM and arenas come in multiples of this many bytes, so that 2 MiB pages fit on both sides.
pub const MEMORY_STEP_BYTES: u64 = 2 * MIB;

const MIB: u64 = 1 << 20;

/// Bytes at the start of guest RAM that the harness keeps: [`SHARED_BYTES`], and each vCPU's mailbox, stacks and
/// descriptor tables. At least 8 MiB, so that guests of few vCPUs are laid out alike; a multiple of 2 MiB.
#[must_use]
pub fn reserved_bytes(vcpus: u32) -> u64 {
    (SHARED_BYTES + u64::from(vcpus) * VCPU_AREA)
        .max(8 * MIB)
        .next_multiple_of(MEMORY_STEP_BYTES)
}

/// Offset of vCPU 0's arena in guest RAM of `memory` bytes; a multiple of 2 MiB.
///
/// Below it lie [`reserved_bytes`] and the lowest level of the guest's page tables: 8 bytes for each 4 KiB page.
#[must_use]
pub fn arena_start(memory: u64, vcpus: u32) -> u64 {
    reserved_bytes(vcpus)
        .saturating_add(memory.div_ceil(512))
        .div_ceil(MEMORY_STEP_BYTES)
        .saturating_mul(MEMORY_STEP_BYTES)
}

/// Bytes of each vCPU's arena in a guest with `memory` bytes of RAM and `vcpus` vCPUs; a multiple of 2 MiB, 0 where
/// the memory does not suffice. The arena of vCPU *i* begins at [`arena_start`]` + i × arena_bytes`.
#[must_use]
pub fn arena_bytes(memory: u64, vcpus: u32) -> u64 {
    let free = memory.saturating_sub(arena_start(memory, vcpus));
    let share = free.checked_div(vcpus.into()).unwrap_or(0);
    share / MEMORY_STEP_BYTES * MEMORY_STEP_BYTES
}

/// The smallest guest RAM in bytes that gives each of `vcpus` vCPUs an arena of at least `arena` bytes; `None` where
/// it would not fit in 64 bits.
#[must_use]
pub fn memory_for_arenas(arena: u64, vcpus: u32) -> Option<u64> {
    let arena = arena.max(1).checked_next_multiple_of(MEMORY_STEP_BYTES)?;
    let arenas = arena.checked_mul(vcpus.into())?;
    // The page tables cover themselves too: with T = memory / 512, memory = reserved + arenas + T.
    let mut memory = reserved_bytes(vcpus).checked_add(arenas)?;
    loop {
        let needed = arena_start(memory, vcpus).checked_add(arenas)?;
        if needed <= memory {
            return Some(memory.max(MIN_MEMORY_BYTES));
        }
        memory = needed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn smallest_guest_has_room_for_one_arena() {
        assert_eq!(arena_start(MIN_MEMORY_BYTES, 1), 10 * MIB);
        assert_eq!(arena_bytes(MIN_MEMORY_BYTES, 1), 6 * MIB);
        assert_eq!(arena_bytes(MIN_MEMORY_BYTES, 2), 2 * MIB);
        assert_eq!(arena_bytes(MIN_MEMORY_BYTES, 4), 0);
        assert_eq!(arena_bytes(MIN_MEMORY_BYTES, 0), 0);
    }

    #[test]
    fn page_tables_of_a_large_guest_are_counted() {
        assert_eq!(arena_start(GIB, 1), 10 * MIB);
        assert_eq!(arena_start(8 * GIB, 32), 24 * MIB);
    }

    proptest! {
        #[test]
        fn arenas_fit_behind_the_reserve(memory in 0..1u64 << 45, vcpus in 1..512u32) {
            let arena = arena_bytes(memory, vcpus);
            prop_assert_eq!(arena % MEMORY_STEP_BYTES, 0);
            if arena > 0 {
                prop_assert!(arena_start(memory, vcpus) + arena * u64::from(vcpus) <= memory);
                prop_assert!(arena_start(memory, vcpus) >= reserved_bytes(vcpus) + memory / 512);
            }
        }

        #[test]
        fn memory_for_arenas_is_enough_and_no_more(arena in 1..1u64 << 36, vcpus in 1..512u32) {
            let memory = memory_for_arenas(arena, vcpus).unwrap();
            prop_assert!(arena_bytes(memory, vcpus) >= arena);
            prop_assert_eq!(memory % MEMORY_STEP_BYTES, 0);
            if memory > MIN_MEMORY_BYTES {
                prop_assert!(arena_bytes(memory - MEMORY_STEP_BYTES, vcpus) < arena);
            }
        }

        #[test]
        fn any_size_has_an_answer(memory: u64, vcpus: u32) {
            prop_assert!(arena_bytes(memory, vcpus) <= memory);
            prop_assert!(memory_for_arenas(memory, vcpus).is_none_or(|enough| enough >= MIN_MEMORY_BYTES));
        }
    }
}
