//! `cpu-aes`: AES-128 in counter mode with the AES instructions.

use core::arch::x86_64::{
    __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128, _mm_cvtsi128_si64,
    _mm_set_epi64x, _mm_setzero_si128, _mm_shuffle_epi32, _mm_slli_si128, _mm_unpackhi_epi64,
    _mm_xor_si128,
};

use crate::catalogue::{at_once, unlimited};
use crate::mix::{fill, fold, mix, words};
use crate::{Body, Direction, Family, Features, Latencies, MAX_PARAMS, Metric, Prepare, Workload};

const CHUNK_BLOCKS: usize = 256;
const CHUNKS: usize = 32;
const TEXT_BLOCKS: usize = CHUNKS * CHUNK_BLOCKS;
/// Blocks in flight at once, enough to hide the latency of a round.
const WIDTH: usize = 8;
const ROUND_KEYS: usize = 11;

/// One iteration encrypts 4 KiB; the counter runs on from iteration to iteration.
pub(crate) const ENTRY: Workload = Workload {
    name: "cpu-aes",
    family: Family::Cpu,
    title: "AES encryption",
    stresses: "The AES unit at full throughput, eight blocks in flight, from one 128 KiB buffer into another.",
    source: "FIPS 197 (AES); NIST SP 800-38A, section 6.5 (counter mode)",
    metric: Metric {
        unit: "GB/s",
        direction: Direction::HigherIsBetter,
        amount_per_iteration: (CHUNK_BLOCKS * 16) as f64,
    },
    params: &[],
    requires: |_| Features::AES,
    footprint: |_| ((ROUND_KEYS + 2 * TEXT_BLOCKS) * 16) as u64,
    prepare: Prepare::Nothing,
    max_iterations: unlimited,
    settles_after: at_once,
    latencies: false,
    body: Body::Shared { setup, run },
};

type RoundKeys = [__m128i; ROUND_KEYS];
type Chunk = [__m128i; CHUNK_BLOCKS];

struct Layout<'a> {
    keys: &'a mut RoundKeys,
    plain: &'a mut [Chunk; CHUNKS],
    cipher: &'a mut [Chunk; CHUNKS],
}

fn layout(arena: &mut [u8]) -> Option<Layout<'_>> {
    // SAFETY: every bit pattern is a valid __m128i.
    let (_, blocks, _) = unsafe { arena.align_to_mut::<__m128i>() };
    let (keys, rest) = blocks.split_first_chunk_mut()?;
    let (plain, cipher) = rest.as_chunks_mut().0.split_first_chunk_mut()?;
    Some(Layout {
        keys,
        plain,
        cipher: cipher.first_chunk_mut()?,
    })
}

fn setup(arena: &mut [u8], _params: &[u64; MAX_PARAMS], seed: u64) {
    fill(words(arena, (ROUND_KEYS + 2 * TEXT_BLOCKS) * 2), seed, 0);
    if let Some(Layout { keys, .. }) = layout(arena) {
        // SAFETY: `requires` names AES, and whoever calls `setup` has checked it.
        *keys = unsafe { expand(keys[0]) };
    }
}

fn run(
    arena: &mut [u8],
    _params: &[u64; MAX_PARAMS],
    iterations: u64,
    seed: u64,
    _latencies: &mut Latencies<'_>,
) -> u64 {
    let Some(Layout {
        keys,
        plain,
        cipher,
    }) = layout(arena)
    else {
        return 0;
    };
    let nonce = mix(seed);
    let mut checksum = seed;
    for iteration in 0..iterations {
        let chunk = iteration as usize % CHUNKS;
        let counter = iteration.wrapping_mul(CHUNK_BLOCKS as u64);
        // SAFETY: `requires` names AES, and whoever calls `run` has checked it.
        let [low, high] =
            unsafe { encrypt(keys, nonce, counter, &plain[chunk], &mut cipher[chunk]) };
        checksum = fold(fold(checksum, low), high);
    }
    checksum
}

/// Encrypts a chunk in counter mode and returns the exclusive or of its cipher blocks.
///
/// A counter block is `nonce` as it lies in memory and then `counter` with its highest byte first.
#[target_feature(enable = "aes")]
fn encrypt(
    keys: &RoundKeys,
    nonce: u64,
    counter: u64,
    plain: &Chunk,
    cipher: &mut Chunk,
) -> [u64; 2] {
    let mut parity = _mm_setzero_si128();
    let mut next = counter;
    for (from, to) in plain
        .as_chunks::<WIDTH>()
        .0
        .iter()
        .zip(cipher.as_chunks_mut::<WIDTH>().0)
    {
        let mut states = [keys[0]; WIDTH];
        for state in &mut states {
            let block = _mm_set_epi64x(next.swap_bytes() as i64, nonce as i64);
            *state = _mm_xor_si128(*state, block);
            next = next.wrapping_add(1);
        }
        for key in &keys[1..ROUND_KEYS - 1] {
            for state in &mut states {
                *state = _mm_aesenc_si128(*state, *key);
            }
        }
        for ((state, from), to) in states.iter().zip(from).zip(to) {
            let stream = _mm_aesenclast_si128(*state, keys[ROUND_KEYS - 1]);
            *to = _mm_xor_si128(stream, *from);
            parity = _mm_xor_si128(parity, *to);
        }
    }
    [
        _mm_cvtsi128_si64(parity) as u64,
        _mm_cvtsi128_si64(_mm_unpackhi_epi64(parity, parity)) as u64,
    ]
}

/// The key schedule of AES-128: FIPS 197, section 5.2.
#[target_feature(enable = "aes")]
fn expand(key: __m128i) -> RoundKeys {
    let mut keys = [key; ROUND_KEYS];
    keys[1] = next_key(keys[0], _mm_aeskeygenassist_si128::<0x01>(keys[0]));
    keys[2] = next_key(keys[1], _mm_aeskeygenassist_si128::<0x02>(keys[1]));
    keys[3] = next_key(keys[2], _mm_aeskeygenassist_si128::<0x04>(keys[2]));
    keys[4] = next_key(keys[3], _mm_aeskeygenassist_si128::<0x08>(keys[3]));
    keys[5] = next_key(keys[4], _mm_aeskeygenassist_si128::<0x10>(keys[4]));
    keys[6] = next_key(keys[5], _mm_aeskeygenassist_si128::<0x20>(keys[5]));
    keys[7] = next_key(keys[6], _mm_aeskeygenassist_si128::<0x40>(keys[6]));
    keys[8] = next_key(keys[7], _mm_aeskeygenassist_si128::<0x80>(keys[7]));
    keys[9] = next_key(keys[8], _mm_aeskeygenassist_si128::<0x1b>(keys[8]));
    keys[10] = next_key(keys[9], _mm_aeskeygenassist_si128::<0x36>(keys[9]));
    keys
}

/// Each word of the next round key is the exclusive or of all words up to it and the assist's last word.
#[target_feature(enable = "aes")]
fn next_key(key: __m128i, assist: __m128i) -> __m128i {
    let pairs = _mm_xor_si128(key, _mm_slli_si128::<4>(key));
    let prefix = _mm_xor_si128(pairs, _mm_slli_si128::<8>(pairs));
    _mm_xor_si128(prefix, _mm_shuffle_epi32::<0xff>(assist))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::host_has;

    fn block(value: u128) -> __m128i {
        // SAFETY: both are 16 bytes in which every bit pattern is valid. Test vectors give the first byte first.
        unsafe { core::mem::transmute(value.swap_bytes()) }
    }

    fn value(block: __m128i) -> u128 {
        // SAFETY: as above.
        u128::swap_bytes(unsafe { core::mem::transmute::<__m128i, u128>(block) })
    }

    #[test]
    fn the_key_schedule_is_that_of_fips_197() {
        if !host_has(Features::AES) {
            return;
        }
        // SAFETY: the host has AES.
        let keys = unsafe { expand(block(0x2b7e1516_28aed2a6_abf71588_09cf4f3c)) };
        assert_eq!(value(keys[1]), 0xa0fafe17_88542cb1_23a33939_2a6c7605);
        assert_eq!(value(keys[10]), 0xd014f9a8_c9ee2589_e13f0cc8_b6630ca6);
    }

    #[test]
    fn a_block_is_that_of_fips_197() {
        if !host_has(Features::AES) {
            return;
        }
        // Appendix C.1: with an all-zero text, counter mode returns the encryption of the counter block.
        let mut cipher = [block(0); CHUNK_BLOCKS];
        let nonce = 0x00112233_44556677_u64.swap_bytes();
        // SAFETY: the host has AES.
        unsafe {
            let keys = expand(block(0x00010203_04050607_08090a0b_0c0d0e0f));
            encrypt(
                &keys,
                nonce,
                0x8899aabb_ccddeeff,
                &[block(0); CHUNK_BLOCKS],
                &mut cipher,
            );
        }
        assert_eq!(value(cipher[0]), 0x69c4e0d8_6a7b0430_d8cdb780_70b4c55a);
    }

    #[test]
    fn counter_mode_is_that_of_sp_800_38a() {
        if !host_has(Features::AES) {
            return;
        }
        // Section F.5.1.
        let mut plain = [block(0); CHUNK_BLOCKS];
        plain[0] = block(0x6bc1bee2_2e409f96_e93d7e11_7393172a);
        plain[1] = block(0xae2d8a57_1e03ac9c_9eb76fac_45af8e51);
        plain[2] = block(0x30c81c46_a35ce411_e5fbc119_1a0a52ef);
        plain[3] = block(0xf69f2445_df4f9b17_ad2b417b_e66c3710);
        let mut cipher = plain;
        let nonce = 0xf0f1f2f3_f4f5f6f7_u64.swap_bytes();
        // SAFETY: the host has AES.
        let parity = unsafe {
            let keys = expand(block(0x2b7e1516_28aed2a6_abf71588_09cf4f3c));
            encrypt(&keys, nonce, 0xf8f9fafb_fcfdfeff, &plain, &mut cipher)
        };
        assert_eq!(value(cipher[0]), 0x874d6191_b620e326_1bef6864_990db6ce);
        assert_eq!(value(cipher[1]), 0x9806f66b_7970fdff_8617187b_b9fffdff);
        assert_eq!(value(cipher[2]), 0x5ae4df3e_dbd5d35e_5b4f0902_0db03eab);
        assert_eq!(value(cipher[3]), 0x1e031dda_2fbe03d1_792170a0_f3009cee);
        let all = cipher
            .iter()
            .fold(0, |sum, &block| sum ^ value(block).swap_bytes());
        assert_eq!(parity, [all as u64, (all >> 64) as u64]);
    }
}
