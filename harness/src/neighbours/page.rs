//! The page in which a neighbour counts what it does, for its parent to read at any time.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory as _};

const BYTES: usize = 4096;

/// What is counted; the value is the word's place in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Units of work.
    Units = 0,
    /// Guests that died on purpose, or were killed.
    Faults = 1,
    /// Guests that were started.
    Starts = 2,
    /// Accesses beyond a guest's memory that had an effect.
    Escapes = 3,
    /// CPU time of processes that were killed on purpose, in nanoseconds.
    CpuNanos = 4,
}

/// The page, mapped.
#[derive(Debug)]
pub(super) struct Page(MmapRegion<()>);

impl Page {
    /// A new page, and the file by which another process maps it too. Nobody can make it smaller.
    pub fn new() -> io::Result<(Self, File)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("vtax-neighbour", flags)?;
        ftruncate(&file, BYTES as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        let page = Self::of(&file)?;
        Ok((page, file.into()))
    }

    /// The page behind a file of [`Page::new`]'s.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        let file = File::from(file.as_fd().try_clone_to_owned()?);
        MmapRegion::from_file(FileOffset::new(file, 0), BYTES)
            .map(Self)
            .map_err(io::Error::other)
    }

    /// Counts more.
    pub fn add(&self, word: Word, more: u64) {
        if let Some(count) = self.word(word) {
            count.fetch_add(more, Ordering::Release);
        }
    }

    /// The count as it stands.
    pub fn get(&self, word: Word) -> u64 {
        self.word(word)
            .map_or(0, |count| count.load(Ordering::Acquire))
    }

    /// Every word lies in the page and is aligned, so there is always one.
    fn word(&self, word: Word) -> Option<&AtomicU64> {
        self.0.get_atomic_ref(word as usize * size_of::<u64>()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_mappings_see_the_same_counts() {
        let (parent, file) = Page::new().unwrap();
        let child = Page::of(&file).unwrap();
        child.add(Word::Units, 5);
        child.add(Word::Units, 2);
        child.add(Word::Escapes, 1);
        assert_eq!(parent.get(Word::Units), 7);
        assert_eq!(parent.get(Word::Escapes), 1);
        assert_eq!(parent.get(Word::Faults), 0);
        assert!(ftruncate(&file, 0).is_err(), "it can be made smaller");
    }
}
