//! Lines: what the app wrote, as bytes.
//!
//! A *unit* is whatever carries a sequence number: a line, a part of an over-long line, or (with `--multiline`) lines that
//! belong together. Units travel in
//! [`Batch`]es; nothing on the data path allocates per unit, and nothing here knows about UTF-8 except that a part
//! ends on a character's border where there is one.

mod batch;
pub(crate) mod framer;
mod join;

pub use batch::{Batch, Lines, Source};
pub use framer::Framer;
pub use join::{Beginning, HOLD, Join};

/// Which of the app's two streams a line was written to; or that it is lastword's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
    /// Nobody wrote it: lastword tells of the app's life. Numbered with the app's lines, so it is a unit like any other.
    Own,
}

impl Stream {
    /// The app's, in the order of their descriptors.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// `stdout`, `stderr` or `lastword`, as it appears in formats and options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Own => "lastword",
        }
    }
}

/// Wall-clock time of a read in nanoseconds since the Unix epoch. Only ever a stamp: timers use [`std::time::Instant`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub i64);

/// The place of a unit in an over-long line.
///
/// Parts of one line have ascending numbers from 1; the concatenation of their bytes is the line; just the last one
/// has `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// 1 for the first part.
    pub number: u32,
    /// No further part of this line follows.
    pub last: bool,
}

/// One line (or part of an over-long one) as formats see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit<'a> {
    /// Position in the run, over both streams, from 1.
    pub seq: u64,
    /// Where the app wrote it.
    pub stream: Stream,
    /// When its last bytes were read.
    pub time: Stamp,
    /// The bytes, without the newline.
    pub text: &'a [u8],
    /// Set when the line was longer than `--max-line`.
    pub part: Option<Part>,
    /// False for the last bytes before end of file, and for every part but a last one that had its newline.
    pub newline: bool,
    /// Its place in its batch, from 0.
    pub index: u32,
}

impl Unit<'_> {
    /// A time of its own: the batch's, and a nanosecond for each unit before it in the batch. Ascends strictly along a stream,
    /// as the publisher lets no batch begin before its predecessor's last unit.
    pub const fn own_time(&self) -> Stamp {
        Stamp(self.time.0.saturating_add(self.index as i64))
    }
}
