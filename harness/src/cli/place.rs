//! Whether a file or a directory can be written, asked before the hours are spent that it would hold the results of.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::exit::Failure;

/// Tries whether a file can be written, and leaves everything as it was.
///
/// # Errors
/// A usage error that says why not.
pub fn can_be_written(path: &Path) -> Result<(), Failure> {
    let try_it = || -> io::Result<()> {
        match File::create_new(path) {
            Ok(_) => std::fs::remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                OpenOptions::new().append(true).open(path).map(drop)
            }
            Err(error) => Err(error),
        }
    };
    try_it().map_err(|error| refused(path, &error))
}

/// Tries whether files can be put into a directory, which need not exist yet, and leaves everything as it was.
///
/// # Errors
/// A usage error that says why not.
pub fn can_hold_files(dir: &Path) -> Result<(), Failure> {
    // What has to be made first, the innermost first.
    let missing = dir.ancestors().take_while(|it| !is_there(it));
    let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    let try_it = || -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let probe = dir.join(format!(".vtax-{}", std::process::id()));
        File::create(&probe)?;
        std::fs::remove_file(&probe)
    };
    let tried = try_it();
    for made in missing {
        // What was not made, or what somebody else has put something into meanwhile, stays as it is.
        let _ = std::fs::remove_dir(made);
    }
    tried.map_err(|error| refused(dir, &error))
}

/// The empty path is the present directory.
fn is_there(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.exists()
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(anyhow!(
        "{} cannot be written: {error}; nothing was measured",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trying_leaves_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        can_be_written(&file).unwrap();
        assert!(!file.exists());
        std::fs::write(&file, "kept").unwrap();
        can_be_written(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");

        can_hold_files(&folder.path().join("a/b/c")).unwrap();
        assert!(!folder.path().join("a").exists());
        can_hold_files(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

        for place in ["file/below", "none/below"] {
            assert!(
                can_be_written(&folder.path().join(place)).is_err(),
                "{place}"
            );
        }
        assert!(can_be_written(folder.path()).is_err());
        assert!(can_hold_files(&file).is_err());
        assert!(can_hold_files(&file.join("below")).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    }
}
