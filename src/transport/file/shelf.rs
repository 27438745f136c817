//! Files that were set aside: `app.log.2026-01-02T03-04-05.678901Z`, compressed to the same with `.gz` behind it.
//!
//! The name is the time of setting aside, so names never move and sort by age. Compression has a thread of its own, one
//! at a time, lowest priority there is: none. It writes to a `.part` first and deletes the original last, so that an
//! exit or crash in the midst of it leaves the original, which the next one compresses.

use crate::{clock, format::StampText, say::say};
use flate2::{Compression, write::GzEncoder};
use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Behind a compressed file's name, and one that is not complete.
const GZ: &str = ".gz";
const PART: &str = ".gz.part";
/// `.2026-01-02T03-04-05.678901Z`.
const STAMP_LENGTH: usize = 28;

/// The files beside one path. Clones share the thread and the turn.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    path: PathBuf,
    keep: usize,
    compress: bool,
    mode: u32,
    /// A thread is compressing.
    busy: Arc<AtomicBool>,
    /// A file is removed for its age, or replaced by its compressed self: never both at a time.
    turn: Arc<Mutex<()>>,
}

impl Shelf {
    pub(super) fn new(path: PathBuf, keep: usize, compress: bool, mode: u32) -> Self {
        Self { path, keep, compress, mode, busy: Arc::default(), turn: Arc::default() }
    }

    /// Sets the file aside, removes the oldest ones beyond what is kept, and has the rest compressed.
    ///
    /// # Errors
    /// If the file is still where it was; whoever has it open must let go of it otherwise.
    pub(super) fn set_aside(&self) -> io::Result<()> {
        self.behind_links().set_aside_file()
    }

    /// The shelf of the file that a symbolic link leads to: a link that was set aside in its place would have the next file where the
    /// link was, perhaps on another disk.
    fn behind_links(&self) -> Self {
        // A link whose file somebody moved just now still says where it was.
        let target = |_| fs::read_link(&self.path).map(|target| directory_of(&self.path).join(target));
        let path = fs::canonicalize(&self.path).or_else(target).unwrap_or_else(|_| self.path.clone());
        Self { path, ..self.clone() }
    }

    fn set_aside_file(&self) -> io::Result<()> {
        let mut stamp = StampText::default();
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{}", stamp.render(clock::stamp()).replace(':', "-")));
        match fs::rename(&self.path, &name) {
            // Somebody was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory_of(&self.path).is_dir() => {}
            other => other?,
        }
        if let Err(error) = self.tidy() {
            say(format_args!("{}: old files stay: {error}", self.path.display()));
        }
        Ok(())
    }

    fn tidy(&self) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut aside = self.aside()?;
        while aside.len() > self.keep {
            let (oldest, _) = aside.remove(0);
            fs::remove_file(oldest)?;
        }
        if self.compress && aside.iter().any(|(_, done)| !done) {
            self.start_compressing();
        }
        Ok(())
    }

    /// All files set aside, oldest first, and whether each is compressed.
    fn aside(&self) -> io::Result<Vec<(PathBuf, bool)>> {
        let mut prefix = self.path.file_name().map(OsString::from).unwrap_or_default();
        prefix.push(".");
        let mut found = Vec::new();
        for entry in fs::read_dir(directory_of(&self.path))? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(rest) = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes()) else { continue };
            let Some((stamp, end)) = rest.split_at_checked(STAMP_LENGTH - 1) else { continue };
            let is_stamp = stamp.iter().all(|byte| byte.is_ascii_digit() || b"-TZ.".contains(byte));
            if is_stamp && (end.is_empty() || end == GZ.as_bytes()) {
                found.push((entry.path(), !end.is_empty()));
            }
        }
        found.sort();
        Ok(found)
    }

    fn start_compressing(&self) {
        if self.busy.swap(true, Ordering::SeqCst) {
            return;
        }
        let shelf = self.clone();
        let thread = thread::Builder::new().name("compress".into()).spawn(move || {
            if let Err(error) = shelf.compress_all() {
                tracing::warn!(%error, path = %shelf.path.display(), "files set aside stay uncompressed");
            }
            shelf.busy.store(false, Ordering::SeqCst);
        });
        if thread.is_err() {
            self.busy.store(false, Ordering::SeqCst);
        }
    }

    /// Also those that are set aside meanwhile.
    fn compress_all(&self) -> io::Result<()> {
        while let Some((plain, _)) = self.aside()?.into_iter().find(|(_, done)| !done) {
            match self.compress_one(&plain) {
                // It was too old to keep.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn compress_one(&self, plain: &Path) -> io::Result<()> {
        let with = |end: &str| {
            let mut name = plain.to_owned().into_os_string();
            name.push(end);
            PathBuf::from(name)
        };
        let mut from = fs::File::open(plain)?;
        let mut options = fs::OpenOptions::new();
        let part = options.write(true).create(true).truncate(true).mode(self.mode).open(with(PART))?;
        let mut encoder = GzEncoder::new(part, Compression::fast());
        io::copy(&mut from, &mut encoder)?;
        encoder.finish()?.sync_data()?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if !plain.exists() {
            // It has become too old to keep meanwhile.
            return fs::remove_file(with(PART));
        }
        fs::rename(with(PART), with(GZ))?;
        fs::remove_file(plain)
    }
}

/// The directory that `path` is in: of a bare name, where we are.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    #[test]
    fn files_are_set_aside_compressed_and_the_oldest_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        for name in ["app.log.bak", "app.log.1.gz", "app.login"] {
            fs::write(dir.path().join(name), "somebody else's").unwrap();
        }
        let shelf = Shelf::new(path.clone(), 3, true, 0o600);
        for number in 0..6 {
            fs::write(&path, format!("content {number}\n").repeat(1000)).unwrap();
            shelf.set_aside().unwrap();
            assert!(!path.exists());
        }
        let end = clock::now() + std::time::Duration::from_secs(20);
        while shelf.aside().unwrap().iter().any(|(_, done)| !done) {
            assert!(clock::now() < end, "not compressed");
            thread::yield_now();
        }
        let aside = shelf.aside().unwrap();
        assert_eq!(aside.len(), 3, "{aside:?}");
        for ((file, _), number) in aside.iter().zip(3..) {
            let mut text = String::new();
            GzDecoder::new(fs::File::open(file).unwrap()).read_to_string(&mut text).unwrap();
            assert_eq!(text, format!("content {number}\n").repeat(1000));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 6, "what is not ours stays");
    }

    /// The link was renamed, and the next file was where it had been.
    #[test]
    fn a_file_behind_a_symbolic_link_is_set_aside_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, link) = (dir.path().join("disk"), dir.path().join("app.log"));
        fs::create_dir(&disk).unwrap();
        std::os::unix::fs::symlink("disk/app.log", &link).unwrap();
        let shelf = Shelf::new(link.clone(), 1, false, 0o600);
        for number in 0..3 {
            fs::write(&link, format!("content {number}\n")).unwrap();
            shelf.set_aside().unwrap();
            assert!(link.is_symlink() && !link.exists());
        }
        let files: Vec<_> = fs::read_dir(&disk).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        assert_eq!(fs::read_to_string(&files[0]).unwrap(), "content 2\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing beside the link");
    }

    #[test]
    fn what_a_crash_left_uncompressed_is_compressed_with_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let old = dir.path().join("app.log.2026-01-02T03-04-05.678901Z");
        fs::write(&old, "old\n").unwrap();
        fs::write(dir.path().join("app.log.2026-01-02T03-04-05.678901Z.gz.part"), "half").unwrap();
        fs::write(&path, "new\n").unwrap();
        let shelf = Shelf::new(path, 9, true, 0o600);
        shelf.set_aside().unwrap();
        let end = clock::now() + std::time::Duration::from_secs(20);
        while shelf.busy.load(Ordering::SeqCst) {
            assert!(clock::now() < end, "still compressing");
            thread::yield_now();
        }
        let aside = shelf.aside().unwrap();
        assert!(aside.len() == 2 && aside.iter().all(|(_, done)| *done), "{aside:?}");
        assert!(!old.exists());
    }

    #[test]
    fn a_file_that_was_renamed_is_set_aside_whatever_happens_to_the_old_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        // A directory with the name of an old file cannot be removed as one.
        fs::create_dir(dir.path().join("app.log.2026-01-02T03-04-05.678901Z")).unwrap();
        fs::write(&path, "new\n").unwrap();
        let shelf = Shelf::new(path.clone(), 1, false, 0o600);
        shelf.set_aside().unwrap();
        assert!(!path.exists(), "else its writer would go on in a file that may be removed");
        shelf.set_aside().unwrap();
        fs::remove_dir_all(dir.path()).unwrap();
        assert!(shelf.set_aside().is_err());
    }
}
