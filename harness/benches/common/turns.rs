//! Two ways to do the same, in turns.

/// A pair of each repetition, ours first. Whose turn is first changes, so that what one leaves behind meets both.
pub fn in_turns<F>(
    repetitions: usize,
    ours: impl Fn() -> anyhow::Result<F>,
    theirs: impl Fn() -> anyhow::Result<F>,
) -> anyhow::Result<Vec<(F, F)>> {
    (0..repetitions)
        .map(|repetition| {
            if repetition % 2 == 0 {
                let first = theirs()?;
                Ok((ours()?, first))
            } else {
                Ok((ours()?, theirs()?))
            }
        })
        .collect()
}
