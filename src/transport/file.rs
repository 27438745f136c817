//! Files: appended to, continued exactly where a short write stopped, synced about once a second while idle.
//!
//! *accepted*: the kernel has the bytes. *confirmed*: `fdatasync` said that the disk has them; for what cannot be
//! synced (a FIFO, a terminal, /dev/null) the reader is the kernel's business, and the write is all there is. After a
//! failed sync the kernel may have thrown the pages away, so nothing written before it is ever confirmed.
//!
//! A full disk is weather: bytes that were written stay, the rest follows when there is room; no line is torn.

use super::{Failure, Payload, Progress, Transport, Verdict};
use crate::{config::FileTarget, ledger::Grade};
use nix::{errno::Errno, fcntl::OFlag};
use std::{
    fs::OpenOptions,
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    time::Duration,
};
use tokio::time::Instant;

/// How long bytes stay unsynced while nothing is written.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How long a FIFO or terminal may take nothing before that is a failure (its reader may be gone for good).
const PATIENCE: Duration = Duration::from_secs(1);
/// How often such a one is tried meanwhile.
const NAP: Duration = Duration::from_millis(5);
/// See the module's documentation.
#[derive(Debug)]
pub struct File {
    target: FileTarget,
    file: Option<std::fs::File>,
    epoch: u32,
    /// Everything before this position is in the file.
    written: u64,
    /// Everything before this position is on the disk.
    synced: u64,
    sync_at: Option<Instant>,
}

impl File {
    /// Opens nothing yet: an absent directory is weather.
    pub fn new(target: FileTarget) -> Self {
        Self { target, file: None, epoch: 0, written: 0, synced: 0, sync_at: None }
    }

    fn open(&mut self, position: u64) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        // Without O_NONBLOCK the open of a FIFO without a reader would hang. Regular files do not mind it.
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(self.target.mode).custom_flags(flags.bits());
        self.file = Some(options.open(&self.target.path)?);
        self.epoch += 1;
        self.written = self.written.max(position);
        self.synced = self.written;
        Ok(())
    }

    /// Writes what of `payload` is not in the file.
    async fn append(&mut self, payload: &Payload) -> io::Result<()> {
        self.open(payload.position)?;
        let mut stuck_since = None;
        self.written = self.written.max(payload.position);
        while self.written < payload.end() {
            let Some(file) = &mut self.file else { return Ok(()) };
            let from = usize::try_from(self.written - payload.position).unwrap_or(usize::MAX);
            match file.write(payload.body.get(from..).unwrap_or_default()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => {
                    self.written += length as u64;
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

impl Transport for File {
    async fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        // Writes to a file never wait in the runtime, so other tasks and timers get their turn here.
        tokio::task::consume_budget().await;
        let result = self.append(payload).await;
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
    use std::{fs, os::unix::fs::FileTypeExt};

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
        let mut reader = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path).unwrap();
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
}
