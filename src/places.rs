//! Whether what is written at the exit, or kept for the next run, can be written: said before it is needed, by `check`, and at the
//! start of a run, which goes on: a place may be there by then.
//!
//! Nothing is created and nothing opened: a spool may be in use by the lastword whose settings are checked. A disk that hangs
//! is asked on a thread of its own: `check` gives it up after [`PATIENCE`], and a run does not wait for it.

use crate::{
    clock,
    config::{Config, Fallback, reason},
    errand::{Errand, PATIENCE},
    say,
    transport::file::directory_of,
};
use nix::unistd::{AccessFlags, access};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Something that will be written to.
#[derive(Clone)]
struct Place {
    flag: &'static str,
    path: PathBuf,
    look: fn(&Path) -> io::Result<()>,
}

impl Place {
    /// `--spool DIR: why not`, if it can't be written.
    fn trouble(&self) -> Option<String> {
        (self.look)(&self.path).err().map(|error| self.words(&error))
    }

    fn words(&self, error: &io::Error) -> String {
        format!("{} {}: {}", self.flag, self.path.display(), reason(error))
    }
}

/// One for each place that can't be written: `--spool DIR: why not`.
pub(crate) fn troubles(config: &Config) -> Vec<String> {
    let spool = config.spool.as_ref().map(|spool| Place { flag: "--spool", path: spool.dir.clone(), look: directory });
    // All at once: they may be on one disk.
    let looks = at_the_exit(config).chain(spool).map(|place| {
        let asked = place.clone();
        (place, Errand::start("place", move || asked.trouble()))
    });
    let (looks, end): (Vec<_>, _) = (looks.collect(), clock::now() + PATIENCE);
    let answer = |(place, errand): (Place, io::Result<Errand<_>>)| {
        let silent = || {
            let hangs = format!("no answer in {} s: its disk hangs", PATIENCE.as_secs());
            Some(place.words(&io::Error::other(hangs)))
        };
        match errand {
            Ok(errand) => errand.wait(end.saturating_duration_since(clock::now())).unwrap_or_else(silent),
            Err(error) => Some(place.words(&error)),
        }
    };
    looks.into_iter().filter_map(answer).collect()
}

/// Says which files of the exit can't be written as it is, while there is time to mend it. Of its directory the spool speaks.
pub(crate) fn warn(config: &Config) {
    let places: Vec<Place> = at_the_exit(config).collect();
    if !places.is_empty() {
        // Without a thread there is no warning: the exit says the same.
        let _ = Errand::start("places", move || {
            places
                .iter()
                .filter_map(Place::trouble)
                .for_each(|trouble| say!("{trouble}; it is tried again at the exit"));
        });
    }
}

fn at_the_exit(config: &Config) -> impl Iterator<Item = Place> {
    let fallback = match &config.fallback {
        Some(Fallback::File(path)) => Some(Place { flag: "--fallback", path: path.clone(), look: file }),
        Some(Fallback::Stderr) | None => None,
    };
    let report = config.report.clone().map(|path| Place { flag: "--report", path, look: file });
    fallback.into_iter().chain(report)
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
