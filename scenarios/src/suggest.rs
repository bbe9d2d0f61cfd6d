//! "Did you mean …?"

/// The candidate that `written` most likely stands for, where one is near enough.
#[must_use]
pub fn nearest<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = written.to_ascii_lowercase().replace('_', "-");
    let most = (written.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            (
                distance(&written, &candidate.to_ascii_lowercase()),
                candidate,
            )
        })
        .filter(|&(distance, _)| distance <= most)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// What users of other VMMs look for and vtax cannot choose yet: what a guest has instead.
const NOT_YET: [(&str, &str); 6] = [
    (
        "guest.cpu",
        "a CPU model cannot be chosen yet: a guest has the host's CPU",
    ),
    (
        "guest.cpu-model",
        "a CPU model cannot be chosen yet: a guest has the host's CPU",
    ),
    (
        "guest.machine",
        "a machine type cannot be chosen yet: a guest has virtio over MMIO and no firmware",
    ),
    (
        "guest.firmware",
        "firmware cannot be chosen yet: a guest starts at the image's first instruction",
    ),
    (
        "guest.kernel",
        "a guest's kernel cannot be chosen yet: it is vtax's own image",
    ),
    (
        "guest.image",
        "a guest's image cannot be chosen yet: it is the one inside vtax, which native executes too",
    ),
];

/// Why a key is none, where it is one that many look for.
pub(crate) fn not_yet(path: &str) -> Option<&'static str> {
    let found = NOT_YET.iter().find(|(key, _)| *key == path);
    found.map(|&(_, why)| why)
}

/// What to write in place of `written`: the one candidate that it most likely stands for; else all of them, where they are
/// few; else the nearest, and where the others are.
pub(crate) fn instead<'a>(
    written: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    quote: char,
) -> String {
    const FEW: usize = 8;
    const NEAR: usize = 4;
    let mut candidates: Vec<&str> = candidates.into_iter().collect();
    let quoted = |text: &str| format!("{quote}{text}{quote}");
    if let Some(meant) = nearest(written, candidates.iter().copied()) {
        return format!("did you mean {}?", quoted(meant));
    }
    if candidates.len() <= FEW {
        return format!("write {}", list(candidates));
    }
    let last = |text: &str| {
        text.rsplit('.')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let table = |text: &str| text.rsplit_once('.').map(|(table, _)| table.to_owned());
    // Among keys that have nothing in common with it a small edit distance is chance: first those that contain it, then those
    // of its own table.
    candidates.sort_by_cached_key(|candidate| {
        let (name, other) = (last(written), last(candidate));
        let within = other.contains(&name) || name.contains(&other);
        let elsewhere = table(written) != table(candidate);
        (!within, elsewhere, distance(&name, &other))
    });
    candidates.truncate(NEAR);
    format!(
        "near it are {}; `vtax scenario schema` has them all",
        candidates
            .iter()
            .map(|it| quoted(it))
            .collect::<Vec<_>>()
            .join(", ")
    )
}

/// How many insertions, deletions, substitutions and swaps of neighbours lead from `a` to `b` (the optimal string
/// alignment distance).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substituted = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substituted.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// `a`, `b` or `c`, each in backquotes.
pub(crate) fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let mut items: Vec<String> = items.into_iter().map(|item| format!("`{item}`")).collect();
    match items.pop() {
        None => "nothing".to_owned(),
        Some(last) if items.is_empty() => last,
        Some(last) => format!("{} or {last}", items.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognized() {
        let keys = ["memory", "backing", "page-size", "numa-node"];
        assert_eq!(nearest("memroy", keys), Some("memory"));
        assert_eq!(nearest("page_size", keys), Some("page-size"));
        assert_eq!(nearest("Backing", keys), Some("backing"));
        assert_eq!(nearest("cpus", keys), None);
    }

    #[test]
    fn of_many_the_near_ones_are_named() {
        let keys = [
            "vcpus",
            "memory",
            "backing",
            "pinning",
            "disk-io-cpus",
            "net",
            "rounds",
            "thp",
            "ksm",
        ];
        let hint = instead("cpu", keys, '"');
        assert!(
            hint.starts_with("near it are \"vcpus\", \"disk-io-cpus\""),
            "{hint}"
        );
        assert_eq!(hint.matches('"').count(), 8, "{hint}");
        assert_eq!(instead("memroy", keys, '`'), "did you mean `memory`?");
        assert_eq!(instead("x", ["one", "two"], '`'), "write `one` or `two`");
    }

    #[test]
    fn a_swap_of_neighbours_is_one_step() {
        assert_eq!(distance("memroy", "memory"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
