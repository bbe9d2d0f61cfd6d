//! What fills a neighbour's memory, so that KSM finds there what it finds in a fleet of like guests.

use vtax_scenarios::plan::{Content, child_seed};

use crate::guest::ram::{Ram, RamError};
use crate::whole::whole;

const PAGE: usize = 4096;

/// Keeps one page's content from another's.
const PAGE_STREAM: u64 = 18;

/// Fills `len` bytes from `offset` on: zero pages first, then those that all have in common, then its own. Zero pages
/// are written too: a page that was never touched is no page.
pub(super) fn fill(
    ram: &Ram,
    (offset, len): (u64, u64),
    content: &Content,
    (common_seed, own_seed): (u64, u64),
) -> Result<(), RamError> {
    let pages = len / PAGE as u64;
    let part = |share: f64| whole((share * pages as f64).round());
    let zero = part(content.zero);
    let common = zero.saturating_add(part(content.common));
    let mut page = [0_u8; PAGE];
    for number in 0..pages {
        if number < zero {
            page.fill(0);
        } else {
            let seed = if number < common {
                common_seed
            } else {
                own_seed
            };
            write_page(&mut page, child_seed(seed, &[PAGE_STREAM, number]));
        }
        ram.write_bytes(offset + number * PAGE as u64, &page)?;
    }
    Ok(())
}

/// A page that is like no other of another seed: its first words differ already, as real pages' do.
fn write_page(page: &mut [u8; PAGE], seed: u64) {
    let mut state = seed;
    for word in page.as_chunks_mut::<8>().0 {
        // SplitMix64's increment; the seed is mixed well already.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        *word = state.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::ram::RamConfig;
    use vtax_scenarios::plan::Backing;

    /// The pages of a memory that was filled so.
    fn pages(address: u64, own_seed: u64) -> Vec<Vec<u8>> {
        let ram = Ram::map(&RamConfig {
            address,
            len: 10 * PAGE as u64,
            backing: Backing::Small,
            numa_node: None,
        })
        .unwrap();
        let content = Content {
            zero: 0.2,
            common: 0.5,
        };
        fill(&ram, (0, 10 * PAGE as u64), &content, (1, own_seed)).unwrap();
        (0..10)
            .map(|number| {
                let mut page = vec![0; PAGE];
                ram.read_bytes(number * PAGE as u64, &mut page).unwrap();
                page
            })
            .collect()
    }

    #[test]
    fn the_shares_are_as_asked() {
        let (one, other) = (pages(0x7000_0000_0000, 2), pages(0x7100_0000_0000, 3));
        assert!(one[..2].iter().flatten().all(|&byte| byte == 0));
        assert_eq!(one[..7], other[..7]);
        assert!(one[7..].iter().all(|page| !other.contains(page)));
        for number in 2..10 {
            assert!(!one[..number].contains(&one[number]), "page {number} twice");
        }
    }
}
