//! Where the host's files are read: `/`, or a fake tree in a test.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

/// The directory under which `/proc`, `/sys`, `/etc` and `/dev` are looked up.
#[derive(Clone, Debug)]
pub struct HostRoot {
    path: PathBuf,
}

/// Why a host file gave no value.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The kernel offers no such file.
    #[error("/{0} does not exist on this host")]
    Absent(String),
    /// The file is there but this user may not read it.
    #[error("/{0} may not be read by this user; root may")]
    Denied(String),
    /// The file is there but reading it failed.
    #[error("/{path} could not be read: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The file was read but does not hold what it should.
    #[error("/{path} holds {found:?}, not {expected}")]
    Malformed {
        /// The file.
        path: String,
        /// What it holds.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl Default for HostRoot {
    fn default() -> Self {
        Self::at("/")
    }
}

impl HostRoot {
    /// The real machine is `HostRoot::default()`; tests give a directory with fake files.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where `relative`, such as `proc/stat`, is.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.path.join(relative)
    }

    /// The file's text without surrounding white space.
    pub fn text(&self, relative: &str) -> Result<String, ReadError> {
        match fs::read(self.path(relative)) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Err(error) => Err(ReadError::of_io(relative, error)),
        }
    }

    /// The file's text as a number.
    pub fn number<T: FromStr>(&self, relative: &str) -> Result<T, ReadError> {
        let text = self.text(relative)?;
        text.parse().map_err(|_| ReadError::Malformed {
            path: relative.to_owned(),
            found: text,
            expected: "a number",
        })
    }

    /// The file's text as a list of CPUs or nodes, such as `0-3,8`. An empty file is an empty list.
    pub fn list(&self, relative: &str) -> Result<Vec<u32>, ReadError> {
        let text = self.text(relative)?;
        parse_list(&text).ok_or_else(|| ReadError::Malformed {
            path: relative.to_owned(),
            found: text,
            expected: "a list such as 0-3,8",
        })
    }

    /// The word in brackets of a file such as `always [madvise] never`.
    pub fn selected(&self, relative: &str) -> Result<String, ReadError> {
        let text = self.text(relative)?;
        text.split_whitespace()
            .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
            .map(str::to_owned)
            .ok_or_else(|| ReadError::Malformed {
                path: relative.to_owned(),
                found: text.clone(),
                expected: "a choice such as `always [madvise] never`",
            })
    }

    /// What the file holds, by a parser of the `procfs` crate.
    pub fn parsed<T: procfs::FromRead>(
        &self,
        relative: &str,
        expected: &'static str,
    ) -> Result<T, ReadError> {
        let text = self.text(relative)?;
        // The parsers want whole lines, and none of them empty.
        let lines = if text.is_empty() {
            String::new()
        } else {
            format!("{text}\n")
        };
        T::from_read(lines.as_bytes()).map_err(|_| ReadError::Malformed {
            path: relative.to_owned(),
            found: text.chars().take(60).collect(),
            expected,
        })
    }

    /// Names of the directory's entries, sorted.
    pub fn entries(&self, relative: &str) -> Result<Vec<String>, ReadError> {
        let read =
            fs::read_dir(self.path(relative)).map_err(|error| ReadError::of_io(relative, error))?;
        let mut names = Vec::new();
        for entry in read {
            let entry = entry.map_err(|error| ReadError::of_io(relative, error))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Whether the path is there.
    #[must_use]
    pub fn exists(&self, relative: &str) -> bool {
        Path::exists(&self.path(relative))
    }
}

impl ReadError {
    fn of_io(relative: &str, source: io::Error) -> Self {
        let path = relative.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Absent(path),
            io::ErrorKind::PermissionDenied => Self::Denied(path),
            _ => Self::Io { path, source },
        }
    }
}

/// The numbers of a kernel list such as `0-3,8`; `None` where it is not one.
pub(crate) fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for range in text.split(',').map(str::trim).filter(|r| !r.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        numbers.extend(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?);
    }
    Some(numbers)
}

/// The shortest list that names these numbers, such as `0-3,8`: `parse_list` reversed. Numbers must ascend.
#[must_use]
pub fn format_list(numbers: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let texts: Vec<String> = ranges
        .iter()
        .map(|&(first, last)| match last - first {
            0 => first.to_string(),
            _ => format!("{first}-{last}"),
        })
        .collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_survive_the_round_trip() {
        for (text, numbers) in [
            ("", vec![]),
            ("0", vec![0]),
            ("0-3,8", vec![0, 1, 2, 3, 8]),
            ("1,3,5-6", vec![1, 3, 5, 6]),
        ] {
            assert_eq!(parse_list(text).unwrap(), numbers);
            assert_eq!(format_list(&numbers), text);
        }
        assert_eq!(parse_list("0-x"), None);
    }

    #[test]
    fn errors_name_the_file_and_the_cause() {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("number"), "12a\n").unwrap();
        let root = HostRoot::at(tree.path());
        assert!(matches!(root.text("none"), Err(ReadError::Absent(_))));
        let error = root.number::<u64>("number").unwrap_err().to_string();
        assert_eq!(error, r#"/number holds "12a", not a number"#);
        let error = root.selected("number").unwrap_err().to_string();
        assert!(error.contains("always [madvise] never"), "{error}");
    }
}
