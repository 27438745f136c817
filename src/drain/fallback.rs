//! `--fallback`: without a spool, what no drain took in time is written as it is, to a file or to stderr, instead of being lost.
//!
//! A line that several drains did not get is written once. Order is that of the sequence numbers. It is an errand: a disk that
//! hangs, or a stderr that nobody reads, is waited for while it takes something within [`PATIENCE`], and not beyond a
//! deadline. What was not written whole by then stays lost, as it was.

use super::sealed::Piece;
use crate::{
    clock,
    config::Fallback,
    errand::{Errand, PATIENCE},
    line::Unit,
    say::{MAX_LEN, say_here},
    sys,
};
use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

/// How it went.
pub(crate) struct Written {
    /// Units below this number are written, the others are not.
    below: u64,
    /// Why not all are, and how many are not.
    pub(crate) trouble: Option<(String, usize)>,
}

impl Written {
    /// How many units of `pieces` are written.
    pub(crate) fn units_of(&self, pieces: &[Piece]) -> u64 {
        let below = |piece| units(piece).filter(|unit| unit.seq < self.below).count() as u64;
        pieces.iter().map(below).sum()
    }
}

/// It is being written.
pub(crate) struct Writing {
    job: Arc<Job>,
    errand: io::Result<Errand<io::Result<()>>>,
}

impl Writing {
    /// Begins to write all units of `pieces`, each once.
    pub(crate) fn start(pieces: &[Piece], to: &Fallback) -> Self {
        let to = to.clone();
        Self::start_to(pieces, move || open(&to))
    }

    fn start_to(pieces: &[Piece], open: impl FnOnce() -> io::Result<Box<dyn Write>> + Send + 'static) -> Self {
        let job = Arc::new(Job::new(pieces));
        let errand = Errand::start("fallback", {
            let job = Arc::clone(&job);
            move || open().and_then(|mut out| job.run(&mut *out))
        });
        Self { job, errand }
    }

    /// What is written when it is done, or does not get on, or at `by`.
    pub(crate) fn end(self, by: Instant) -> Written {
        let trouble = match &self.errand {
            Ok(errand) => self.job.wait(errand, by),
            Err(error) => Some(error.to_string()),
        };
        self.job.written(trouble)
    }
}

fn open(to: &Fallback) -> io::Result<Box<dyn Write>> {
    Ok(match to {
        Fallback::Stderr => Box::new(Stderr),
        Fallback::File(path) => {
            // A FIFO without a reader, or with one that is slower, is no reason to be late.
            let mut options = OpenOptions::new();
            Box::new(options.append(true).create(true).mode(0o600).custom_flags(sys::OPEN_AT_ONCE).open(path)?)
        }
    })
}

/// Takes the whole of what it is given, or nothing.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if say_here(text) { Ok(text.len()) } else { Err(io::Error::other("stderr takes nothing")) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The text, and how far it is written.
struct Job {
    text: Vec<u8>,
    /// Where each unit ends in it, and its number.
    ends: Vec<(usize, u64)>,
    /// Bytes that were taken.
    taken: AtomicUsize,
    /// Nobody waits any more: what is written from here on would count as lost.
    over: AtomicBool,
}

impl Job {
    fn new(pieces: &[Piece]) -> Self {
        let mut all: Vec<_> = pieces.iter().flat_map(units).collect();
        all.sort_unstable_by_key(|unit| unit.seq);
        all.dedup_by_key(|unit| unit.seq);
        let mut job = Self { text: Vec::new(), ends: Vec::new(), taken: 0.into(), over: false.into() };
        for unit in all {
            job.text.extend_from_slice(unit.text);
            // A last line without a newline gets it, a part in the middle does not.
            if unit.newline || unit.part.is_none_or(|part| part.last) {
                job.text.push(b'\n');
            }
            job.ends.push((job.text.len(), unit.seq));
        }
        job
    }

    /// Writes it, on the errand's thread.
    fn run(&self, out: &mut dyn Write) -> io::Result<()> {
        while let Some(next) = self.next() {
            if self.over.load(Ordering::SeqCst) {
                break;
            }
            match out.write(next) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.taken.fetch_add(count, Ordering::SeqCst),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Whole lines, as many as stderr takes at a time, so that nobody else's message stands within one.
    fn next(&self) -> Option<&[u8]> {
        let from = self.taken.load(Ordering::SeqCst);
        let first = self.ends.partition_point(|&(end, _)| end <= from);
        let fitting = self.ends.partition_point(|&(end, _)| end <= from + MAX_LEN);
        let &(to, _) = self.ends.get(first.max(fitting.saturating_sub(1)))?;
        Some(&self.text[from..to])
    }

    /// Waits for the errand while it gets on. Why not all is written, if so.
    fn wait(&self, errand: &Errand<io::Result<()>>, by: Instant) -> Option<String> {
        let mut seen = 0;
        loop {
            let left = by.saturating_duration_since(clock::now());
            if let Some(result) = errand.wait(PATIENCE.min(left)) {
                return result.err().map(|error| error.to_string());
            }
            let taken = self.taken.load(Ordering::SeqCst);
            if left <= PATIENCE {
                return Some("there was no time for more".to_owned());
            }
            if taken == seen {
                return Some(format!("it took nothing for {} s", PATIENCE.as_secs()));
            }
            seen = taken;
        }
    }

    /// What is written now counts, and nothing that comes later.
    fn written(&self, trouble: Option<String>) -> Written {
        self.over.store(true, Ordering::SeqCst);
        let taken = self.taken.load(Ordering::SeqCst);
        let whole = self.ends.partition_point(|&(end, _)| end <= taken);
        let below = self.ends.get(whole).map_or(u64::MAX, |&(_, seq)| seq);
        let left = self.ends.len() - whole;
        Written { below, trouble: trouble.filter(|_| left > 0).map(|why| (why, left)) }
    }
}

fn units(piece: &Piece) -> impl Iterator<Item = Unit<'_>> {
    let (batch, from, to) = match piece {
        Piece::Units { batch, from, to } => (Some(batch), *from, *to),
        Piece::Gap(_) | Piece::OnLog(_) => (None, 0, 0),
    };
    batch.into_iter().flat_map(move |batch| (from..to).map(|index| batch.unit(index)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::testing::batch;
    use std::{
        sync::mpsc::{Receiver, channel},
        time::Duration,
    };

    fn piece(first: u64, from: usize, to: usize) -> Piece {
        Piece::Units { batch: batch(first, 3), from, to }
    }

    fn write(pieces: &[Piece], to: &Fallback) -> Written {
        Writing::start(pieces, to).end(clock::now() + Duration::from_secs(30))
    }

    /// The number of lines that are not written, and why.
    fn lost(written: &Written) -> (&str, usize) {
        written.trouble.as_ref().map_or(("", 0), |(why, lost)| (why.as_str(), *lost))
    }

    #[test]
    fn lines_that_two_drains_did_not_get_are_written_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("left");
        let (one, two) = ([piece(4, 0, 2), piece(1, 1, 3)], [piece(1, 2, 3)]);
        let written = write(&[&one[..], &two].concat(), &Fallback::File(path.clone()));
        assert_eq!((written.units_of(&one), written.units_of(&two), lost(&written)), (4, 1, ("", 0)));
        write(&[piece(7, 0, 1)], &Fallback::File(path.clone()));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "line 2\nline 3\nline 4\nline 5\nline 7\n");
    }

    #[test]
    fn a_fifo_that_nobody_reads_is_an_error_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let pieces = [piece(1, 0, 3)];
        let written = write(&pieces, &Fallback::File(path));
        let (why, units) = lost(&written);
        assert!(why.starts_with("No such device or address") && units == 3, "{why}");
        assert_eq!(written.units_of(&pieces), 0);
    }

    /// Takes so many bytes, then hangs until it is let go.
    struct Hanging {
        room: usize,
        let_go: Receiver<()>,
    }

    impl Write for Hanging {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                let _ = self.let_go.recv();
                return Ok(text.len());
            }
            let count = self.room.min(text.len());
            self.room -= count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn of_what_a_disk_took_before_it_hung_each_whole_line_is_written_and_the_others_are_lost() {
        let (hold, let_go) = channel();
        let pieces = [piece(1, 0, 3)];
        let writing = Writing::start_to(&pieces, || Ok(Box::new(Hanging { room: "line 1\nline 2\nli".len(), let_go })));
        let job = Arc::clone(&writing.job);
        let end = clock::now() + Duration::from_secs(30);
        while job.taken.load(Ordering::SeqCst) < 16 {
            assert!(clock::now() < end, "nothing was written");
            std::thread::yield_now();
        }
        let written = writing.end(clock::now() + Duration::from_millis(50));
        assert_eq!((written.units_of(&pieces), lost(&written)), (2, ("there was no time for more", 1)));
        // Comes back too late: nothing more is written, and the account stays.
        drop(hold);
        assert_eq!(written.units_of(&[piece(1, 1, 3), piece(2, 2, 3)]), 1);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_given_up_long_before_the_time_is_over() {
        let (_hold, let_go) = channel();
        let begun = clock::now();
        let pieces = [piece(1, 0, 3)];
        let writing = Writing::start_to(&pieces, || Ok(Box::new(Hanging { room: 0, let_go })));
        let written = writing.end(begun + Duration::from_secs(60));
        assert_eq!(lost(&written), ("it took nothing for 2 s", 3));
        assert!(clock::now() < begun + Duration::from_secs(30));
    }

    #[test]
    fn whole_lines_are_written_at_a_time_and_no_more_than_stderr_takes_but_for_a_longer_one() {
        let job = Job {
            text: vec![b'x'; 3 * MAX_LEN],
            ends: vec![(10, 1), (MAX_LEN, 2), (MAX_LEN + 1, 3), (3 * MAX_LEN, 4)],
            taken: 0.into(),
            over: false.into(),
        };
        let lengths: Vec<_> = std::iter::from_fn(|| {
            let length = job.next()?.len();
            job.taken.fetch_add(length, Ordering::SeqCst);
            Some(length)
        })
        .collect();
        assert_eq!(lengths, [MAX_LEN, 1, 2 * MAX_LEN - 1]);
    }
}
