//! Whether what is written at the exit, or kept for the next run, can be written: `check` says it before it is needed.
//!
//! Nothing is created and nothing opened: a spool may be in use by the lastword whose settings are checked. A disk that hangs
//! is asked on a thread of its own, and given up after [`PATIENCE`].

use crate::{
    clock,
    config::{Config, Fallback, reason},
    errand::{Errand, PATIENCE},
    transport::file::directory_of,
};
use nix::unistd::{AccessFlags, access};
use std::{io, path::Path};

/// Looks at a place.
type Look = fn(&Path) -> io::Result<()>;

/// `--spool DIR: why not`, one for each place that can't be written.
pub(super) fn troubles(config: &Config) -> Vec<String> {
    let spool = config.spool.as_ref().map(|spool| ("--spool", &*spool.dir, directory as Look));
    let fallback = match &config.fallback {
        Some(Fallback::File(path)) => Some(("--fallback", &**path, file as Look)),
        Some(Fallback::Stderr) | None => None,
    };
    let report = config.report.as_deref().map(|path| ("--report", path, file as Look));
    let looks = [spool, fallback, report].into_iter().flatten().map(|(flag, path, look)| {
        let place = path.to_owned();
        (flag, path, Errand::start("place", move || look(&place)))
    });
    // All at once: they may be on one disk.
    let (looks, end): (Vec<_>, _) = (looks.collect(), clock::now() + PATIENCE);
    let found = |errand: Errand<io::Result<()>>| {
        let silent = || Err(io::Error::other(format!("no answer in {} s: its disk hangs", PATIENCE.as_secs())));
        errand.wait(end.saturating_duration_since(clock::now())).unwrap_or_else(silent)
    };
    let bad = looks.into_iter().map(|(flag, path, errand)| (flag, path, errand.and_then(found)));
    bad.filter_map(|(flag, path, found)| Some(format!("{flag} {}: {}", path.display(), reason(&found.err()?))))
        .collect()
}

/// A spool is made with all directories that lead to it.
fn directory(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(found) if !found.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
        Ok(_) => Ok(access(path, AccessFlags::W_OK | AccessFlags::X_OK)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => directory(directory_of(path)),
        Err(error) => Err(error),
    }
}

/// A file is made, its directory is not.
fn file(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => Ok(access(path, AccessFlags::W_OK)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(access(directory_of(path), AccessFlags::W_OK | AccessFlags::X_OK)?)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_spool_may_be_missing_with_its_parents_and_a_file_without_its_directory_may_not() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("file");
        fs::write(&there, "x").unwrap();
        let why = |found: io::Result<()>| found.map_err(|error| error.kind());
        assert_eq!(why(directory(dir.path())), Ok(()));
        assert_eq!(why(directory(&dir.path().join("a/b/c"))), Ok(()));
        assert_eq!(why(directory(&there)), Err(io::ErrorKind::NotADirectory));
        assert_eq!(why(directory(&there.join("spool"))), Err(io::ErrorKind::NotADirectory));
        assert_eq!(why(file(&there)), Ok(()));
        assert_eq!(why(file(&dir.path().join("new"))), Ok(()));
        assert_eq!(why(file(Path::new("new"))), Ok(()));
        assert_eq!(why(file(&dir.path().join("a/new"))), Err(io::ErrorKind::NotFound));
        assert_eq!(why(file(dir.path())), Err(io::ErrorKind::IsADirectory));
        assert!(fs::read_dir(dir.path()).unwrap().count() == 1, "something was created");
    }
}
