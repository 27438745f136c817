//! Frames out of a segment, whatever its state: what is valid comes out, in order, and what lies between is damage.
//!
//! A length is believed only if the checksum holds. After a bad frame every later place where a frame or footer could begin
//! is tried, so one bad byte costs one frame. Each byte is looked at a bounded number of times: wrong candidates share
//! [`PATIENCE`] bytes of checksumming, then the rest counts as damage.

use super::{
    codec::{FOOTER_LEN, FRAME_FIXED, FRAME_MAGIC, Footer, decode_footer, decode_frame, frame_head},
    disk::Disk,
};
use crate::line::Batch;
use memchr::memmem;
use std::io;

/// Bytes that a segment's wrong candidates may cost to check.
const PATIENCE: u64 = 256 << 20;
/// What is read at a time, at least.
pub(super) const CHUNK: usize = 128 << 10;

/// What stands at a place in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A valid frame, units of each stream that are before it in the segment, and where it ends.
    Frame { batch: Batch, before: [u64; 3], end: u64 },
    /// Nothing valid, up to here.
    Damage { to: u64 },
    /// The end of a sealed segment.
    Footer(Footer),
}

/// Reads one segment from front to back.
#[derive(Debug)]
pub(crate) struct Scanner {
    name: String,
    salt: u32,
    at: u64,
    len: u64,
    buffer: Vec<u8>,
    /// Place of the buffer in the file.
    base: u64,
    pub(super) patience: u64,
}

impl Scanner {
    /// Begins at `at`, a border of frames; `len` is the file's length.
    pub(crate) fn new(name: String, salt: u32, at: u64, len: u64) -> Self {
        Self { name, salt, at, len, buffer: Vec::new(), base: at, patience: PATIENCE }
    }

    /// The segment grew to this length.
    pub(crate) fn grow(&mut self, len: u64) {
        if len > self.len {
            self.len = len;
            // What was read ahead may be half of a write.
            self.buffer.clear();
            self.base = self.at;
        }
    }

    /// The next item; None at the end of the file or behind a footer.
    ///
    /// # Errors
    /// What the disk says. The place stays; trying again is the caller's choice.
    pub(crate) fn next(&mut self, disk: &dyn Disk) -> io::Result<Option<Item>> {
        if self.at >= self.len {
            return Ok(None);
        }
        if let Some(item) = self.item_at(disk, self.at)? {
            return Ok(Some(self.pass(item)));
        }
        let mut from = self.at + 1;
        if planted!(scanner_trusts_length) {
            from +=
                frame_head(self.fill(disk, self.at, FRAME_FIXED)?).map_or(0, |head| (FRAME_FIXED + head.len) as u64);
        }
        while self.patience > 0
            && let Some(candidate) = self.find(disk, from)?
        {
            if self.item_at(disk, candidate)?.is_some() {
                self.at = candidate;
                return Ok(Some(Item::Damage { to: candidate }));
            }
            from = candidate + 1;
        }
        self.at = self.len;
        Ok(Some(Item::Damage { to: self.len }))
    }

    fn pass(&mut self, item: Item) -> Item {
        match &item {
            Item::Frame { end, .. } => self.at = *end,
            Item::Damage { .. } | Item::Footer(_) => self.at = self.len,
        }
        item
    }

    fn item_at(&mut self, disk: &dyn Disk, at: u64) -> io::Result<Option<Item>> {
        let (salt, left) = (self.salt, self.len - at);
        let start = self.fill(disk, at, FOOTER_LEN)?;
        if let Some(footer) = decode_footer(start, at) {
            return Ok(Some(Item::Footer(footer)));
        }
        let Some(head) = frame_head(start) else { return Ok(None) };
        let total = FRAME_FIXED + head.len;
        if total as u64 > left {
            return Ok(None);
        }
        let frame = decode_frame(self.fill(disk, at, total)?, salt);
        if frame.is_none() {
            self.patience = self.patience.saturating_sub(total as u64);
        }
        Ok(frame.map(|(batch, before)| Item::Frame { batch, before, end: at + total as u64 }))
    }

    /// The first place from `from` on where a frame or footer may begin.
    fn find(&mut self, disk: &dyn Disk, mut from: u64) -> io::Result<Option<u64>> {
        let common = &FRAME_MAGIC[..3];
        loop {
            let chunk = self.fill(disk, from, CHUNK)?;
            if let Some(found) = memmem::find(chunk, common) {
                return Ok(Some(from + found as u64));
            }
            // This was the last one; or the file became shorter, and has no more to give.
            if chunk.len() < CHUNK {
                return Ok(None);
            }
            from += (chunk.len() - (common.len() - 1)) as u64;
        }
    }

    /// `want` bytes from `at` on, or fewer at the end of the file.
    fn fill(&mut self, disk: &dyn Disk, at: u64, want: usize) -> io::Result<&[u8]> {
        let want = want.min(usize::try_from(self.len - at).unwrap_or(usize::MAX));
        let inside = |base: u64, len: usize| at >= base && at + want as u64 <= base + len as u64;
        if !inside(self.base, self.buffer.len()) {
            match at.checked_sub(self.base) {
                Some(skip) => drop(self.buffer.drain(..self.buffer.len().min(skip as usize))),
                // The disk gave nothing when this was looked for further on.
                None => self.buffer.clear(),
            }
            self.base = at;
            disk.read(&self.name, at + self.buffer.len() as u64, want.max(CHUNK), &mut self.buffer)?;
        }
        let start = (at - self.base) as usize;
        let end = (start + want).min(self.buffer.len());
        Ok(&self.buffer[start.min(end)..end])
    }
}
