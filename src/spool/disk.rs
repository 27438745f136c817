//! The one seam to the disk: a directory of files, by name. Tests have a simulated one that tears, forgets and fails.
//!
//! Files are opened anew for each call: a directory or file that vanished is noticed at once, nothing leaks, and the
//! two system calls more are little beside the write itself.

use crate::sys;
use nix::fcntl::{Flock, FlockArg};
use std::{
    fmt::Debug,
    fs,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The file that is locked by who has the directory.
pub(crate) const LOCK: &str = "lock";

/// A directory of files. Every call may fail, and leaves an unknown part of its effect behind if it does.
pub(crate) trait Disk: Debug + Send + Sync {
    /// Names and lengths of the files.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Length of a file.
    fn len(&self, name: &str) -> io::Result<u64>;
    /// Appends up to `max` bytes from `offset` on to `out`; fewer only at the end of the file.
    fn read(&self, name: &str, offset: u64, max: usize, out: &mut Vec<u8>) -> io::Result<()>;
    /// A new, empty file. Fails if there is one.
    fn create(&self, name: &str) -> io::Result<()>;
    /// Writes all of `bytes` at `offset` into a file that exists.
    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file.
    fn truncate(&self, name: &str, len: u64) -> io::Result<()>;
    /// Makes the contents of a file safe against a crash of the machine.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Makes names safe against a crash of the machine.
    fn sync_dir(&self) -> io::Result<()>;
    /// Gives a file another name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// False if the names lead elsewhere than they did: the directory was moved, removed, or replaced.
    fn is_there(&self) -> bool {
        true
    }
}

/// A real directory.
#[derive(Debug)]
pub(crate) struct RealDisk {
    dir: PathBuf,
    /// The file that is locked, if it is to be watched.
    lock: Option<FileId>,
}

/// Device and inode: no other file has both, while this one is open.
type FileId = (u64, u64);

/// Holds a directory for this process; ends with it, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    held: Flock<fs::File>,
}

impl RealDisk {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, lock: None }
    }

    /// One that notices ([`Disk::is_there`]) when its lock is no longer in it, which is so however the directory went away:
    /// then another process may have taken it, and what we wrote is not where the next run looks.
    ///
    /// # Errors
    /// If the lock can't be looked at.
    pub(crate) fn watched(dir: PathBuf, lock: &Lock) -> io::Result<Self> {
        let lock = Some(file_id(&lock.held.metadata()?));
        Ok(Self { dir, lock })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn file_id(meta: &fs::Metadata) -> FileId {
    (meta.dev(), meta.ino())
}

/// A FIFO that somebody put in the place of a file is not waited for: the app's start may depend on it.
fn open(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().read(true).custom_flags(sys::OPEN_AT_ONCE).open(path)
}

fn for_writing() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).custom_flags(sys::OPEN_AT_ONCE);
    options
}

/// Makes the directory (others may not look into it: log lines are nobody's business) and takes its lock.
///
/// # Errors
/// `WouldBlock` if another process has it; else what the file system says.
pub(crate) fn lock(dir: &Path) -> io::Result<Lock> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        // "File exists" would leave one guessing.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(io::ErrorKind::NotADirectory.into()),
        made => made?,
    }
    let path = dir.join(LOCK);
    // Held open for reading alone: a file that is open for writing would keep an operator from a read-only remount.
    let file = open(&path).or_else(|_| {
        drop(for_writing().create(true).truncate(false).mode(0o600).open(&path)?);
        open(&path)
    })?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Ok(Lock { held }),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// Writes a block to a file of its own, makes it safe if `sync`, and removes it.
///
/// # Errors
/// Whatever the disk refuses.
pub(crate) fn probe(disk: &dyn Disk, sync: bool) -> io::Result<()> {
    const NAME: &str = "probe";
    let _ = disk.remove(NAME);
    disk.create(NAME)?;
    let written = disk.write(NAME, 0, &[0; 4096]).and_then(|()| if sync { disk.sync(NAME) } else { Ok(()) });
    let removed = disk.remove(NAME);
    written.and(removed)
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            // A file that vanishes between the two calls is none.
            let Ok(meta) = entry.metadata() else { continue };
            if let (true, Ok(name)) = (meta.is_file(), entry.file_name().into_string()) {
                files.push((name, meta.len()));
            }
        }
        Ok(files)
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path(name))?.len())
    }

    fn read(&self, name: &str, offset: u64, max: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let mut file = open(&self.path(name))?;
        file.seek(SeekFrom::Start(offset))?;
        out.reserve(max);
        file.take(max as u64).read_to_end(out).map(drop)
    }

    fn create(&self, name: &str) -> io::Result<()> {
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path(name)).map(drop)
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        for_writing().open(self.path(name))?.write_all_at(bytes, offset)
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        for_writing().open(self.path(name))?.set_len(len)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        open(&self.path(name))?.sync_data()
    }

    fn sync_dir(&self) -> io::Result<()> {
        fs::File::open(&self.dir)?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn is_there(&self) -> bool {
        let Some(lock) = self.lock else { return true };
        match fs::metadata(self.path(LOCK)) {
            Ok(meta) => file_id(&meta) == lock,
            // Any other error is trouble with the disk, and says nothing of what is on it.
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::StaleNetworkFileHandle
            ),
        }
    }
}

/// A real directory that is looked at alone: whatever would change it is refused.
#[derive(Debug)]
pub(crate) struct ReadOnly(RealDisk);

impl ReadOnly {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self(RealDisk::new(dir))
    }
}

/// How [`ReadOnly`] refuses.
fn refused() -> io::Result<()> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnly {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.0.list()
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.0.len(name)
    }

    fn read(&self, name: &str, offset: u64, max: usize, out: &mut Vec<u8>) -> io::Result<()> {
        self.0.read(name, offset, max, out)
    }

    fn create(&self, _name: &str) -> io::Result<()> {
        refused()
    }

    fn write(&self, _name: &str, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        refused()
    }

    fn truncate(&self, _name: &str, _len: u64) -> io::Result<()> {
        refused()
    }

    fn sync(&self, _name: &str) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self) -> io::Result<()> {
        refused()
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        refused()
    }
}
