//! Made-up hosts for tests: a directory with the files of /proc and /sys.

use std::fs;

use super::root::HostRoot;

/// A temporary tree of files.
pub struct Tree(tempfile::TempDir);

impl Tree {
    /// A tree with these files; a path that ends in `/` is an empty directory.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    /// Adds or replaces a file.
    pub fn write(&self, path: &str, text: &str) {
        let full = self.0.path().join(path);
        if path.ends_with('/') {
            fs::create_dir_all(full).unwrap();
        } else {
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(full, text).unwrap();
        }
    }

    /// The tree as a host.
    pub fn root(&self) -> HostRoot {
        HostRoot::at(self.0.path())
    }
}
