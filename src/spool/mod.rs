//! The spool: the disk part of the drains' queues, one append-only log with a cursor for each drain.
//!
//! What it is for: lines that a drain has not settled survive our own SIGKILL (the page cache is enough for that), a full
//! memory, and an exit that came too early. The next run on the same directory sends them first.
//!
//! # What is in the directory
//!
//! ```text
//! lock                        held with flock by the run that owns the directory
//! 000000000000002a.seg        segments, numbered in hexadecimal, ascending for ever; the order of the lines
//! 5f3a9c0e11223344.cur        one cursor a drain, named by a hash of the drain's identity
//! 0000000000000029.seg.bad-*  quarantined: renamed with the reason, never read, never deleted by us
//! second-1/                   the directory of a run that found the lock taken
//! ```
//!
//! # Segment
//!
//! All integers are little-endian; all checksums are CRC32C. A segment belongs to one run, and its sequence numbers have no hole: after
//! a hole (or a failed write or sync) comes a new segment. A file is never appended to by a later run.
//!
//! ```text
//! header  "LASTWORD" | version u16 = 2 | 0 u16 | body length u32 | checksum u32 over all of the header but itself | body
//!         body: run, host, app, instance (each u16 length + UTF-8); u16 count of labels (name, value);
//!         u16 count of drains that are owed the lines (u8 streams: 1 stdout, 2 stderr, 4 our own lines, 7 all; identity)
//! frame*  "LWfr" | payload length u32 | checksum u32 | units u32 | first seq u64 | time i64 ns | stream u8 | 0 u8 × 3 | parts u32
//!         | units of stdout, of stderr, of our own that are before it in the segment u32 × 3
//!         payload: end of each unit u32 × units; (index u32, number u32, top bit: last) × parts; the bytes
//!         The checksum starts from the header's, so a frame is valid in its own segment alone; it covers frame header
//!         (but itself) and payload.
//! footer  "LWft" | checksum u32 | first seq u64 | end seq u64 | units of stdout, of stderr, of our own u64 × 3
//!         | own offset u64 | 0 × 8: the last 64 bytes of a sealed segment
//! ```
//!
//! # Cursor
//!
//! ```text
//! slot × 2, at 0 and 4096: "LWcu" | checksum u32 | generation u64 | segment u64 | seq u64 | identity (u16 + UTF-8)
//! ```
//!
//! Everything in earlier segments, and everything before `seq` in this one, is settled. Slots are written in turn; the valid one
//! with the higher generation counts. A cursor is a hint: the segments' headers say which drains are owed what, so a
//! cursor that is missing or bad costs duplicates, not lines. What a torn slot held before may come back with a crash of the
//! machine, so the segments that follow are numbered far behind whatever it can say.
//!
//! # Recovery
//!
//! It never refuses to start and never tries anything twice. A tail without a valid frame is cut off, and the segment
//! sealed; a bad frame in the middle is skipped (what the next one says is before it tells how many units of which stream it had); a file
//! whose header is bad is quarantined; a version that we do not know is left alone and said. Numbers that no run can have
//! reached use none up: a cursor that holds one is bad, and a segment that is named by one is renamed, behind all others.
//!
//! # Files
//!
//! - [`codec`]: the bytes above; [`scan`]: frames out of a file, whatever its state; [`cursor`]; all pure but for [`disk`].
//! - [`recovery`]: a directory to what is owed to whom. [`log`]: appending, sealing, evicting, deleting.
//! - [`index`]: which units of this run are on disk. [`load`]: back into memory.
//! - [`thread`]: the handle to the thread that writes; [`shared`]: what the two share; [`keeper`]: the thread's side;
//!   [`members`]: the drains; [`syncer`]: the thread that waits for the disk.
//! - [`open`]: all of it from settings; the lock.

pub(crate) mod codec;
#[cfg(test)]
mod codec_tests;
#[cfg(test)]
mod crash_tests;
pub(crate) mod cursor;
#[cfg(test)]
mod damage_tests;
pub(crate) mod disk;
#[cfg(test)]
mod disk_tests;
pub(crate) mod index;
pub(crate) mod keeper;
#[cfg(test)]
mod keeper_tests;
#[cfg(test)]
mod known_errors;
pub(crate) mod load;
#[cfg(test)]
mod load_tests;
pub(crate) mod log;
#[cfg(test)]
mod log_tests;
pub(crate) mod members;
#[cfg(test)]
mod members_tests;
#[cfg(test)]
mod number_tests;
pub(crate) mod open;
#[cfg(test)]
mod pace_tests;
pub(crate) mod recovery;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod safety_tests;
pub(crate) mod scan;
#[cfg(test)]
mod scan_tests;
mod shared;
#[cfg(test)]
mod shared_tests;
#[cfg(any(test, fuzzing))]
#[cfg_attr(all(fuzzing, not(test)), expect(dead_code, reason = "fuzzing needs less of it than the tests"))]
pub(crate) mod sim;
pub(crate) mod syncer;
#[cfg(test)]
mod syncer_tests;
pub(crate) mod thread;
#[cfg(test)]
mod thread_tests;
#[cfg(test)]
mod trouble_tests;
#[cfg(test)]
mod turns;
#[cfg(test)]
mod vanish_tests;
