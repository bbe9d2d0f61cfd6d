//! The caches of the first CPU.

use super::root::{HostRoot, ReadError};

/// A cache, as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// 1 is the nearest to the CPU.
    pub level: u32,
    /// `Data`, `Instruction` or `Unified`.
    pub kind: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// All of them, in the kernel's order (Linux, ABI/testing/sysfs-devices-system-cpu).
///
/// # Errors
/// The kernel does not tell.
pub fn caches(root: &HostRoot) -> Result<Vec<Cache>, ReadError> {
    const DIRECTORY: &str = "sys/devices/system/cpu/cpu0/cache";
    let entries = root.entries(DIRECTORY)?;
    let indexes = entries.iter().filter(|entry| entry.starts_with("index"));
    indexes
        .map(|index| {
            let path = |name| format!("{DIRECTORY}/{index}/{name}");
            let size = root.text(&path("size"))?;
            let kibibytes = size.strip_suffix('K').and_then(|text| text.parse().ok());
            let kibibytes: u64 = kibibytes.ok_or_else(|| ReadError::Malformed {
                path: path("size"),
                found: size.clone(),
                expected: "a size such as 48K",
            })?;
            Ok(Cache {
                level: root.number(&path("level"))?,
                kind: root.text(&path("type"))?,
                bytes: kibibytes << 10,
            })
        })
        .collect()
}

/// Bytes of the largest one; `None` where the kernel does not tell.
#[must_use]
pub fn last_level_cache(root: &HostRoot) -> Option<u64> {
    caches(root).ok()?.iter().map(|cache| cache.bytes).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{self, Tree};

    #[test]
    fn the_largest_is_the_last() {
        let (tree, _) = fake::intel_metal();
        assert_eq!(last_level_cache(&tree.root()), Some(36864 << 10));
        assert_eq!(last_level_cache(&Tree::new(&[]).root()), None);
    }

    #[test]
    fn a_size_that_is_none_is_an_error() {
        let (tree, _) = fake::intel_metal();
        tree.write("sys/devices/system/cpu/cpu0/cache/index1/size", "large\n");
        let error = caches(&tree.root()).unwrap_err().to_string();
        assert!(error.contains("index1/size holds \"large\""), "{error}");
    }
}
