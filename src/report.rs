//! The report: the closed books in words (one line a drain, the last thing that lastword says) and as JSON.

use crate::{
    errand::Errand,
    format::thousands,
    ledger::{Counts, DrainReport},
    sys,
};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Serialize, Serializer};
use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// What became of a run: `--report FILE`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Names the run: a UUIDv7, as on the lines.
    pub run: String,
    /// Our exit code.
    pub exit_code: u8,
    /// How often the app was started: more than once with `--restart`, 0 if it could not be, or there is none (`tee`).
    pub runs: u32,
    /// From our start to now.
    #[serde(rename = "duration_ms", serialize_with = "as_millis")]
    pub duration: Duration,
    /// What lastword itself used; the app is not in it.
    #[serde(flatten)]
    pub usage: Usage,
    /// The closed books, in the order in which drains were given.
    pub drains: Vec<DrainReport>,
    /// With `--spool`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<SpoolReport>,
}

/// What became of the spool. Lines that it holds are in the drains' books.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpoolReport {
    /// The directory: the one that was asked for, or, if another run had it, one in it.
    pub dir: PathBuf,
    /// The disk took what it was given last.
    pub works: bool,
    /// How often it stopped doing so, the start included.
    pub troubles: u64,
    /// Lines that were never written to it, because no drain held them any more when it worked again.
    pub went_past: u64,
    /// What earlier runs left, and can't be read. It is in no drain's books, as nobody knows whose it was.
    pub unreadable: Unreadable,
}

/// Files of a spool that can't be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// How many.
    pub files: u64,
    /// Their size in all.
    pub bytes: u64,
    /// Lines in them, as far as that can be told.
    pub lines: u64,
    /// Files of which it can't.
    pub files_without_count: u64,
}

impl Unreadable {
    /// One more file.
    pub fn add(&mut self, bytes: u64, lines: Option<u64>) {
        self.files += 1;
        self.bytes += bytes;
        // What a damaged file claims of itself may be any number.
        self.lines = self.lines.saturating_add(lines.unwrap_or(0));
        self.files_without_count += u64::from(lines.is_none());
    }

    /// Those of another directory.
    pub fn merge(&mut self, other: &Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.lines = self.lines.saturating_add(other.lines);
        self.files_without_count += other.files_without_count;
    }
}

/// What a process used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// User and system time.
    #[serde(rename = "cpu_ms", serialize_with = "as_millis")]
    pub cpu: Duration,
    /// Largest resident set, in KiB.
    pub max_rss_kib: u64,
}

impl Usage {
    /// Of this process so far, without its children.
    pub fn own() -> Self {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Self::default() };
        let of = |time: nix::sys::time::TimeVal| {
            Duration::new(time.tv_sec().try_into().unwrap_or(0), u32::try_from(time.tv_usec()).unwrap_or(0) * 1000)
        };
        let max_rss_kib = u64::try_from(usage.max_rss()).unwrap_or(0);
        Self { cpu: of(usage.user_time()) + of(usage.system_time()), max_rss_kib }
    }
}

impl Report {
    /// The file's text: one JSON object, indented, with a newline behind it.
    pub fn to_json(&self) -> String {
        // Strings and numbers alone: nothing in it can fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Begins to write that text to `path`.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn file(&self, path: &Path) -> io::Result<Errand<io::Result<()>>> {
        let (report, path) = (self.clone(), path.to_owned());
        Errand::start("report", move || report.write(&path))
    }

    /// Writes that text to `path`, in the place of what is there, unless it is our own stdout or stderr: then behind it. A FIFO
    /// without a reader is an error: nobody is to be waited for at the exit.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let ours = [io::stdout().as_fd().try_clone_to_owned(), io::stderr().as_fd().try_clone_to_owned()];
        self.write_beside(path, &ours.map(|fd| fd.ok().map(File::from)))
    }

    /// `/dev/stdout` opened anew has a place of its own in the file that is behind it, at its beginning: the app's output there
    /// would be lost.
    fn write_beside(&self, path: &Path, ours: &[Option<File>]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(false).custom_flags(sys::OPEN_AT_ONCE).open(path)?;
        let named = sys::file_id(file.as_fd());
        let same = |own: &&File| named.is_some() && sys::file_id(own.as_fd()) == named;
        match ours.iter().flatten().find(same) {
            Some(mut own) => return own.write_all(self.to_json().as_bytes()),
            None if named.is_some() => file.set_len(0)?,
            None => {}
        }
        file.write_all(self.to_json().as_bytes())
    }
}

/// With the fraction, to the microsecond.
fn as_millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((time.as_secs_f64() * 1e6).round() / 1e3)
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drain {}: {}; flushed in {:.2} s", self.name, self.counts, self.flush.as_secs_f64())?;
        match &self.trouble {
            Some(trouble) => write!(f, "; last trouble: {trouble}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Counts {
    /// The identity in words. Accounts that are 0 are left out, but what was lost is always said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read {}", thousands(self.read))?;
        if self.adopted > 0 {
            write!(f, " + adopted {}", thousands(self.adopted))?;
        }
        let accounts = [
            ("confirmed", self.confirmed),
            ("accepted", self.accepted),
            ("sent", self.sent),
            ("spooled", self.spooled),
            ("written to the fallback", self.fallback),
            ("lost", self.lost.total()),
            ("pending", self.pending()),
        ];
        let mut sign = "=";
        for (name, units) in accounts.into_iter().filter(|&(name, units)| units > 0 || name == "lost") {
            write!(f, " {sign} {name} {}", thousands(units))?;
            sign = "+";
            if name == "lost" && units > 0 {
                let reasons: Vec<_> =
                    self.lost.iter().map(|(why, units)| format!("{} {}", why.name(), thousands(units))).collect();
                write!(f, " ({})", reasons.join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Loss;
    use serde_json::{Value, json};

    fn drain() -> DrainReport {
        let mut counts = Counts { read: 1_234_567, confirmed: 1_230_000, accepted: 4_000, ..Counts::default() };
        counts.lost.add(Loss::Overflow, 500);
        counts.lost.add(Loss::Deadline, 67);
        DrainReport {
            name: "logs".into(),
            url: "https://***@logs.example/".into(),
            counts,
            flush: Duration::from_millis(1_234),
            trouble: Some("connection refused".into()),
        }
    }

    #[test]
    fn the_last_line_is_the_identity_in_words() {
        assert_eq!(
            drain().to_string(),
            "drain logs: read 1,234,567 = confirmed 1,230,000 + accepted 4,000 + lost 567 (overflow 500, deadline 67); \
             flushed in 1.23 s; last trouble: connection refused"
        );
        let quiet = DrainReport { counts: Counts::default(), trouble: None, ..drain() };
        assert_eq!(quiet.to_string(), "drain logs: read 0 = lost 0; flushed in 1.23 s");
    }

    fn report() -> Report {
        Report {
            run: "0197".into(),
            exit_code: 143,
            runs: 2,
            duration: Duration::from_millis(2_500),
            usage: Usage { cpu: Duration::from_micros(1_250), max_rss_kib: 4_096 },
            drains: vec![drain()],
            spool: Some(SpoolReport { dir: "/spool".into(), works: true, ..SpoolReport::default() }),
        }
    }

    #[test]
    fn the_json_has_every_account() {
        let json: Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!(
            json,
            json!({
                "run": "0197", "exit_code": 143, "runs": 2, "duration_ms": 2500.0, "cpu_ms": 1.25, "max_rss_kib": 4096,
                "drains": [{
                    "name": "logs", "url": "https://***@logs.example/", "read": 1_234_567, "adopted": 0,
                    "confirmed": 1_230_000, "accepted": 4_000, "sent": 0, "spooled": 0,
                    "lost": {"overflow": 500, "deadline": 67}, "flush_ms": 1234, "trouble": "connection refused",
                }],
                "spool": {
                    "dir": "/spool", "works": true, "troubles": 0, "went_past": 0,
                    "unreadable": {"files": 0, "bytes": 0, "lines": 0, "files_without_count": 0},
                },
            })
        );
    }

    /// `--report /dev/stdout >app.log` left nothing of what the app had written.
    #[test]
    fn a_report_to_our_own_output_stands_behind_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let mut stdout = File::create(&path).unwrap();
        stdout.write_all(b"what the app wrote\n").unwrap();
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&stdout));
        report().write_beside(Path::new(&name), &[None, Some(stdout)]).unwrap();
        let expected = format!("what the app wrote\n{}", report().to_json());
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    }

    #[test]
    fn a_report_replaces_a_file_and_does_not_wait_for_the_reader_of_a_fifo() {
        let dir = tempfile::tempdir().unwrap();
        let (file, fifo) = (dir.path().join("report.json"), dir.path().join("fifo"));
        std::fs::write(&file, "x".repeat(1 << 16)).unwrap();
        report().write(&file).unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), report().to_json());
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = report().write(&fifo).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::ENXIO as i32));
    }
}
