//! What all bodies share: a generator, a fold for checksums, and the arena seen as words.

/// SplitMix64's output function: a bijection on 64 bits whose values for consecutive inputs look random.
///
/// Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
#[inline]
pub(crate) const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Takes `value` into a checksum; the order of values counts.
#[inline]
pub(crate) const fn fold(checksum: u64, value: u64) -> u64 {
    (checksum.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The arena's first `len` 64-bit words. It starts on a page boundary, so no byte is lost in front.
#[inline]
pub(crate) fn words(arena: &mut [u8], len: usize) -> &mut [u64] {
    // SAFETY: every bit pattern is a valid u64.
    let (_, words, _) = unsafe { arena.align_to_mut() };
    let len = len.min(words.len());
    &mut words[..len]
}

/// Fills `words` with a stream that `seed` and `stream` select.
pub(crate) fn fill(words: &mut [u64], seed: u64, stream: u64) {
    let start = mix(seed ^ mix(stream));
    for (index, word) in (0u64..).zip(words) {
        *word = mix(start.wrapping_add(index));
    }
}
