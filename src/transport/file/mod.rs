//! Files: appended to, continued exactly where a short write stopped, synced about once a second while idle.
//!
//! *accepted*: the kernel has the bytes. *confirmed*: `fdatasync` said that the disk has them; for what cannot be synced
//! (a FIFO, a terminal, /dev/null) the reader is the kernel's business, and the write is all there is. After a failed sync the kernel may have
//! thrown the pages away, so nothing written before it is ever confirmed.
//!
//! A full disk is weather: bytes that were written stay, the rest follows when there is room; no line is torn.
//!
//! `#rotate=` and `#rotate-age=` set the file aside between two lines (see shelf.rs), synced. A file that somebody else
//! moved or deleted (logrotate) is noticed within a second of the next write, and opened anew by its name; what was written
//! until then is in the moved one. Only regular files are rotated or looked after. A file that cannot be set aside is
//! appended to, and it is tried again a minute later.
//!
//! `/dev/stdout` and `/dev/stderr` are our own, not opened anew: that would fail on a socket (systemd's journal), or for a user who
//! was dropped to, and write into a file at a place that the pass-through does not know of.

mod shelf;

pub(crate) use self::shelf::directory_of;

use self::shelf::Shelf;
use super::{Failure, Payload, Progress, Pulse, Transport, Verdict};
use crate::{clock, config::FileTarget, ledger::Grade, say::say, sys};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
    time::Duration,
};
use tokio::time::Instant;

/// How long bytes stay unsynced while nothing is written.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How long a FIFO or terminal may take nothing before that is a failure (its reader may be gone for good).
const PATIENCE: Duration = Duration::from_secs(1);
/// How often such a one is tried meanwhile.
const NAP: Duration = Duration::from_millis(5);
/// How often the file's name is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// When setting aside failed, and between two times.
const RETRY_EVERY: Duration = Duration::from_secs(60);

/// What a pipe that is ready to be written to takes without making the writer wait (pipe(7), PIPE_BUF).
const AT_ONCE: usize = 4096;

/// See the module's documentation.
#[derive(Debug)]
pub struct File {
    target: FileTarget,
    file: Option<std::fs::File>,
    /// It is our own stdout or stderr, whose flags others share: it may make a write wait.
    may_wait: bool,
    /// What is known of a regular one.
    regular: Option<Regular>,
    shelf: Shelf,
    /// Its name may not be on the disk.
    new_name: bool,
    epoch: u32,
    /// Everything before this position is in the file.
    written: u64,
    /// Everything before this position is on the disk.
    synced: u64,
    sync_at: Option<Instant>,
    pulse: Pulse,
}

/// A regular file that is open.
#[derive(Debug)]
struct Regular {
    /// Device and inode.
    id: (u64, u64),
    size: u64,
    opened: Instant,
    /// When its name was looked at last.
    looked: Instant,
    /// Not to be set aside before this time.
    retry: Instant,
}

impl Regular {
    /// Whether the path names another file by now, or none. Takes in the size: it may have been truncated.
    fn was_moved(&mut self, path: &Path) -> bool {
        match fs::metadata(path) {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == self.id => {
                self.size = metadata.len();
                false
            }
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }
}

impl File {
    /// Opens nothing yet: an absent directory is weather.
    pub fn new(target: FileTarget) -> Self {
        let FileTarget { path, keep, compress, mode, .. } = &target;
        let shelf = Shelf::new(path.clone(), *keep, *compress, *mode);
        Self {
            target,
            file: None,
            may_wait: false,
            regular: None,
            shelf,
            new_name: false,
            epoch: 0,
            written: 0,
            synced: 0,
            sync_at: None,
            pulse: Pulse::default(),
        }
    }

    fn open(&mut self, position: u64) -> io::Result<()> {
        if self.file.is_none() {
            self.open_file()?;
        }
        if self.epoch == 0 {
            self.epoch = 1;
            self.written = self.written.max(position);
            self.synced = self.written;
        }
        Ok(())
    }

    fn open_file(&mut self) -> io::Result<()> {
        if let Some(own) = own_output(&self.target.path) {
            let file = fs::File::from(own?);
            self.may_wait = !file.metadata()?.is_file();
            self.file = Some(file);
            return Ok(());
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(self.target.mode).custom_flags(sys::OPEN_AT_ONCE);
        let file = options.open(&self.target.path)?;
        let metadata = file.metadata()?;
        let now = Instant::now();
        self.new_name = true;
        self.regular = metadata.is_file().then(|| Regular {
            id: (metadata.dev(), metadata.ino()),
            size: metadata.len(),
            opened: now,
            looked: now,
            retry: now,
        });
        self.file = Some(file);
        Ok(())
    }

    /// Writes what of `payload` is not in the file.
    async fn append(&mut self, payload: &Payload) -> io::Result<()> {
        self.open(payload.position)?;
        self.written = self.written.max(payload.position);
        while self.written < payload.end() {
            let from = usize::try_from(self.written - payload.position).unwrap_or(usize::MAX);
            let upto = self.prepare(payload, from)?;
            self.write(payload.body.get(from..upto).unwrap_or_default()).await?;
        }
        Ok(())
    }

    /// Makes sure that it is the right file, and returns up to where (in the payload) it takes what comes.
    fn prepare(&mut self, payload: &Payload, from: usize) -> io::Result<usize> {
        let now = Instant::now();
        let at = payload.ends.partition_point(|&end| (end as usize) < from);
        // A line that was cut short is continued where it began.
        let between_lines = from == 0 || payload.ends.get(at).is_some_and(|&end| end as usize == from);
        let all = payload.body.len();
        let Some(regular) = &mut self.regular else { return Ok(all) };
        if !between_lines {
            return Ok(payload.ends.get(at).map_or(all, |&end| end as usize));
        }
        if now >= regular.looked + LOOK_EVERY {
            regular.looked = now;
            if regular.was_moved(&self.target.path) {
                self.sync()?;
                // Nothing more goes into a file that may be deleted, whether there is a new one or not.
                self.file = None;
                self.open_file()?;
            }
        }
        let Some(regular) = &mut self.regular else { return Ok(all) };
        let next = payload.ends.iter().map(|&end| end as usize).find(|&end| end > from).unwrap_or(all);
        let limit = self.target.rotate.unwrap_or(u64::MAX);
        let full = regular.size > 0 && regular.size.saturating_add((next - from) as u64) > limit;
        let old = self.target.rotate_age.is_some_and(|age| regular.size > 0 && now >= regular.opened + age);
        if (full || old) && now >= regular.retry {
            regular.retry = now + RETRY_EVERY;
            // One that somebody moved is set aside already, and what has its name now is not ours to move.
            self.sync()?;
            let Some(regular) = &mut self.regular else { return Ok(all) };
            let moved = regular.was_moved(&self.target.path);
            match if moved { Ok(()) } else { self.shelf.set_aside() } {
                Ok(()) => {
                    self.file = None;
                    self.open_file()?;
                }
                Err(error) => say(format_args!("{}: it can't be rotated: {error}", self.target.path.display())),
            }
        }
        let Some(regular) = &mut self.regular else { return Ok(all) };
        if regular.size.saturating_add((all - from) as u64) <= limit || now < regular.retry {
            return Ok(all);
        }
        // As many lines as there is room for, but one at least.
        let room = usize::try_from(limit.saturating_sub(regular.size)).unwrap_or(usize::MAX);
        let fits = payload.ends.partition_point(|&end| (end as usize) <= from.saturating_add(room));
        let last = fits.checked_sub(1).and_then(|at| payload.ends.get(at)).map_or(0, |&end| end as usize);
        Ok(last.max(next))
    }

    async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut stuck_since = None;
        while !bytes.is_empty() {
            let Some(file) = &mut self.file else { return Ok(()) };
            match if self.may_wait { write_at_once(file, bytes) } else { file.write(bytes) } {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => {
                    bytes = &bytes[length..];
                    self.written += length as u64;
                    self.pulse.reach(self.written);
                    if let Some(regular) = &mut self.regular {
                        regular.size += length as u64;
                    }
                    stuck_since = None;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let now = Instant::now();
                    if now >= *stuck_since.get_or_insert(now) + PATIENCE {
                        return Err(io::Error::other("its reader takes nothing"));
                    }
                    tokio::time::sleep(NAP).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Syncs if something is unsynced.
    fn sync(&mut self) -> io::Result<()> {
        self.sync_at = None;
        let Some(file) = &self.file else { return Ok(()) };
        if self.synced >= self.written {
            return Ok(());
        }
        if std::mem::take(&mut self.new_name) && self.regular.is_some() {
            // A file whose name is lost is lost; where directories cannot be synced, there is no more to be done.
            let _ = fs::File::open(directory_of(&self.target.path)).and_then(|directory| directory.sync_all());
        }
        match file.sync_data() {
            Err(error)
                if !matches!(Errno::from_raw(error.raw_os_error().unwrap_or(0)), Errno::EINVAL | Errno::EROFS) =>
            {
                // What this sync should have saved is no longer provable: a new epoch starts behind it.
                self.epoch += 1;
                self.synced = self.written;
                Err(error)
            }
            _ => {
                self.synced = self.written;
                Ok(())
            }
        }
    }

    fn failure(&self, error: &io::Error, verdict: Verdict) -> Failure {
        let what = match error.raw_os_error().map(Errno::from_raw) {
            Some(errno) => errno.desc().to_lowercase(),
            None => error.to_string(),
        };
        Failure { verdict, reason: format!("{}: {what}", self.target.path.display()) }
    }
}

/// Our own stdout or stderr, if that is what the path means.
fn own_output(path: &Path) -> Option<io::Result<OwnedFd>> {
    match path.to_str()? {
        "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => Some(io::stdout().as_fd().try_clone_to_owned()),
        "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => Some(io::stderr().as_fd().try_clone_to_owned()),
        _ => None,
    }
}

/// A write that waits for nobody, as long as nobody else writes between the look and it. Of whole lines, where they fit, so that
/// the pass-through's stand between them.
fn write_at_once(file: &mut fs::File, bytes: &[u8]) -> io::Result<usize> {
    let mut ready = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut ready, PollTimeout::ZERO)? == 0 {
        return Err(ErrorKind::WouldBlock.into());
    }
    let most = &bytes[..bytes.len().min(AT_ONCE)];
    let lines = memchr::memrchr(b'\n', most).map_or(most.len(), |at| at + 1);
    file.write(&most[..lines])
}

impl Transport for File {
    fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    async fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        // Writes to a file never wait in the runtime, so other tasks and timers get their turn here.
        tokio::task::consume_budget().await;
        self.pulse.wait_for(format!("no answer from the disk of {}", self.target.path.display()), clock::now());
        let result = self.append(payload).await;
        self.pulse.waited();
        if self.synced < self.written {
            self.sync_at.get_or_insert(Instant::now() + SYNC_EVERY);
        }
        result.map_err(|error| {
            let resend_from = self.written.max(payload.position);
            self.failure(&error, Verdict::Retry { resend_from, after: None })
        })
    }

    fn progress(&mut self, _now: Instant) -> Option<Progress> {
        let grade = if self.synced == self.written { Grade::Confirmed } else { Grade::Accepted };
        (self.epoch > 0).then_some(Progress { epoch: self.epoch, upto: self.written, grade })
    }

    async fn watch(&mut self) -> Result<(), Failure> {
        match self.sync_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
        // A disk that fails to sync needs a person: what it does with later bytes is anyone's guess.
        self.sync().map_err(|error| self.failure(&error, Verdict::Hold))
    }

    async fn finish(&mut self, _deadline: Instant) -> Result<(), Failure> {
        self.sync().map_err(|error| self.failure(&error, Verdict::Hold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::testing::payload;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};

    #[tokio::test(start_paused = true)]
    async fn written_is_accepted_and_synced_while_idle_is_confirmed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        fs::write(&path, "before\n").unwrap();
        let mut file = File::new(FileTarget::new(path.clone()));
        assert_eq!(file.progress(Instant::now()), None);
        file.send(&payload(0, &["one\n", "two\n"])).await.unwrap();
        let accepted = Progress { epoch: 1, upto: 8, grade: Grade::Accepted };
        assert_eq!(file.progress(Instant::now()), Some(accepted));
        let start = Instant::now();
        file.watch().await.unwrap();
        assert_eq!(start.elapsed(), SYNC_EVERY);
        assert_eq!(file.progress(Instant::now()), Some(Progress { grade: Grade::Confirmed, ..accepted }));
        file.send(&payload(8, &["three\n"])).await.unwrap();
        file.finish(Instant::now()).await.unwrap();
        assert_eq!(file.progress(Instant::now()), Some(Progress { epoch: 1, upto: 14, grade: Grade::Confirmed }));
        assert_eq!(fs::read_to_string(path).unwrap(), "before\none\ntwo\nthree\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_was_cut_short_is_continued_and_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
        let mut file = File::new(FileTarget::new(path.clone()));
        let line = "x".repeat(99_999) + "\n";
        let failure = file.send(&payload(0, &[&line])).await.unwrap_err();
        assert!(matches!(failure.verdict, Verdict::Retry { resend_from: 0, .. }), "no reader yet: {failure:?}");
        let mut options = OpenOptions::new();
        let mut reader = options.read(true).custom_flags(sys::OPEN_AT_ONCE).open(&path).unwrap();
        let failure = file.send(&payload(0, &[&line])).await.unwrap_err();
        let Verdict::Retry { resend_from, .. } = failure.verdict else { panic!("{failure:?}") };
        assert!(resend_from > 0 && resend_from < 100_000, "a pipe holds 64 KiB: {resend_from}");
        let mut got = Vec::new();
        let _ = io::Read::read_to_end(&mut reader, &mut got);
        file.send(&payload(0, &[&line])).await.unwrap();
        file.finish(Instant::now()).await.unwrap();
        let _ = io::Read::read_to_end(&mut reader, &mut got);
        assert_eq!(got, line.as_bytes());
        let confirmed = Progress { epoch: 1, upto: 100_000, grade: Grade::Confirmed };
        assert_eq!(file.progress(Instant::now()), Some(confirmed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_and_a_missing_directory_are_weather() {
        let mut full = File::new(FileTarget::new("/dev/full".into()));
        let failure = full.send(&payload(40, &["one\n"])).await.unwrap_err();
        assert!(matches!(failure.verdict, Verdict::Retry { resend_from: 40, after: None }));
        assert_eq!(failure.reason, "/dev/full: no space left on device");
        let mut missing = File::new(FileTarget::new("/nowhere/app.log".into()));
        let failure = missing.send(&payload(40, &["one\n"])).await.unwrap_err();
        assert!(matches!(failure.verdict, Verdict::Retry { resend_from: 40, after: None }), "{failure:?}");
        let mut null = File::new(FileTarget::new("/dev/null".into()));
        null.send(&payload(0, &["one\n"])).await.unwrap();
        null.finish(Instant::now()).await.unwrap();
        let confirmed = Progress { epoch: 1, upto: 4, grade: Grade::Confirmed };
        assert_eq!(null.progress(Instant::now()), Some(confirmed));
    }

    #[test]
    fn a_pipe_that_is_full_makes_no_write_wait() {
        let (reader, writer) = io::pipe().unwrap();
        let mut file = fs::File::from(OwnedFd::from(writer));
        assert_eq!(write_at_once(&mut file, b"two\nlines\nand a half").unwrap(), "two\nlines\n".len());
        while let Ok(length) = write_at_once(&mut file, &[7; 9999]) {
            assert_eq!(length, AT_ONCE);
        }
        assert_eq!(write_at_once(&mut file, b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(reader);
        assert_eq!(write_at_once(&mut file, b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    fn rotating(path: &Path) -> FileTarget {
        FileTarget { rotate: Some(100), compress: false, mode: 0o600, ..FileTarget::new(path.to_owned()) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_file_is_set_aside_between_two_lines_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let mut file = File::new(FileTarget { keep: 100, ..rotating(&path) });
        let (mut position, mut expected) = (0, String::new());
        for round in 0..40 {
            let lines: Vec<_> =
                (0..round % 7 + 1).map(|line| format!("{round}.{line}{}\n", ".".repeat(round))).collect();
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let payload = payload(position, &lines);
            file.send(&payload).await.unwrap();
            position = payload.end();
            expected += &lines.concat();
        }
        file.finish(Instant::now()).await.unwrap();
        assert_eq!(file.progress(Instant::now()), Some(Progress { epoch: 1, upto: position, grade: Grade::Confirmed }));
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        // `app.log` sorts before the ones set aside, and is the newest.
        names.rotate_left(1);
        let texts: Vec<_> = names.iter().map(|name| fs::read_to_string(name).unwrap()).collect();
        assert!(texts.len() > 20, "{names:?}");
        assert!(texts.iter().all(|text| text.ends_with('\n') && text.len() <= 100), "{texts:?}");
        assert_eq!(texts.concat(), expected);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_file_is_set_aside_and_so_few_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let age = Some(Duration::from_secs(3600));
        let mut file = File::new(FileTarget { rotate: None, rotate_age: age, keep: 2, ..rotating(&path) });
        for hour in 0..5 {
            file.send(&payload(hour * 2, &["x\n"])).await.unwrap();
            tokio::time::advance(Duration::from_secs(3601)).await;
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_somebody_moved_is_opened_anew_and_one_that_was_truncated_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("app.log"), dir.path().join("app.log.1"));
        let mut file = File::new(FileTarget::new(path.clone()));
        file.send(&payload(0, &["one\n"])).await.unwrap();
        fs::rename(&path, &moved).unwrap();
        file.send(&payload(4, &["two\n"])).await.unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        file.send(&payload(8, &["three\n"])).await.unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        fs::File::create(&path).unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        file.send(&payload(14, &["four\n"])).await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
        file.finish(Instant::now()).await.unwrap();
        assert_eq!(file.progress(Instant::now()), Some(Progress { epoch: 1, upto: 19, grade: Grade::Confirmed }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_cannot_be_set_aside_is_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let mut file = File::new(rotating(&path));
        file.send(&payload(0, &["x\n"])).await.unwrap();
        // Root can rename anything; so the name is one that is not there.
        file.shelf = Shelf::new(dir.path().join("gone").join("app.log"), 5, false, 0o600);
        let long = "x".repeat(90);
        file.send(&payload(2, &[&long, &long, &long])).await.unwrap();
        assert_eq!(file.progress(Instant::now()).unwrap().upto, 272);
        assert_eq!(fs::metadata(&path).unwrap().len(), 272);
        // It is tried again, but not with each line.
        file.shelf = Shelf::new(path.clone(), 5, false, 0o600);
        file.send(&payload(272, &[&long])).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 362);
        tokio::time::advance(RETRY_EVERY).await;
        file.send(&payload(362, &[&long])).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 90);
    }
}
