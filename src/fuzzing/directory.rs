//! Bytes as a spool directory: each byte is a step that makes a file, or changes the newest one.
//!
//! Bytes alone would never get past a checksum. So whole headers, frames, footers and cursors are steps, and so is to
//! change a byte of a frame and mend its checksum: what a checksum can't see must do no harm either.

use crate::{
    line::{Batch, Lines, Part, Stamp, Stream},
    spool::{
        codec::{FRAME_FIXED, Footer, Header, Owed, encode_footer, encode_frame, encode_header, seal_frame},
        cursor::{Cursor, Place},
        disk::Disk,
        recovery::segment_name,
        sim::SimDisk,
    },
};
use std::collections::BTreeMap;

/// The drains that segments are for.
pub(super) const DRAINS: [(&str, Option<Stream>); 3] =
    [("all", None), ("err", Some(Stream::Stderr)), ("own", Some(Stream::Own))];
/// Steps that are taken; what is behind them is ignored.
const STEPS: usize = 100;
/// Names that are near those of ours, or ours after something happened.
const ODD_NAMES: [&str; 8] = [
    "+00000000000002a.seg",
    "00000000000000FF.seg",
    "0000000000000001.seg.seg",
    "0000000000000002.seg.bad-torn-header",
    "0000000000000003.segment",
    "000000000000000é.seg",
    "copy.cur",
    "lock",
];

/// Numbers out of bytes; zeroes when they are used up.
pub(super) struct Choices<'a>(pub(super) &'a [u8]);

impl Choices<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn short(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// A small number, or one near the top of its kind.
    fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..=0xef => byte.into(),
            byte => u64::MAX - u64::from(0xff - byte),
        }
    }
}

/// What the steps work on.
#[derive(Default)]
struct Maker {
    disk: SimDisk,
    cursors: BTreeMap<String, Cursor>,
    /// The newest file, where it is a segment what its frames' checksums start from, and where its last frame begins.
    name: String,
    salt: u32,
    frame: usize,
    footer: Footer,
}

/// The directory that these bytes stand for.
pub(super) fn make(data: &[u8]) -> SimDisk {
    let mut choices = Choices(data);
    let mut maker = Maker::default();
    for _ in 0..STEPS {
        if choices.0.is_empty() {
            break;
        }
        maker.step(&mut choices);
    }
    maker.disk
}

impl Maker {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 16 {
            0 => self.open(&segment_name(choices.number())),
            1 => self.open(ODD_NAMES[usize::from(choices.byte()) % ODD_NAMES.len()]),
            2 => self.cursor(choices),
            3 => self.header(choices.byte()),
            4 => self.batch(self.footer.end_seq, choices),
            5 => {
                let first = choices.number();
                self.batch(first, choices);
            }
            6 => self.footer(self.footer),
            7 => {
                let units = [choices.number(), choices.number(), choices.number()];
                self.footer(Footer { first_seq: choices.number(), end_seq: choices.number(), units, offset: 0 });
            }
            8 => {
                let len = usize::from(choices.byte()).min(choices.0.len());
                let (raw, rest) = choices.0.split_at(len);
                choices.0 = rest;
                self.edit(|bytes| bytes.extend_from_slice(raw));
            }
            9 => {
                let len = usize::from(choices.byte());
                self.edit(|bytes| bytes.resize(bytes.len() + len, 0));
            }
            10 => {
                let (at, change) = (choices.short(), choices.byte());
                self.edit(|bytes| change_byte(bytes, at, change));
            }
            11 => {
                let len = choices.short();
                self.edit(|bytes| bytes.truncate(bytes.len().saturating_sub(len)));
            }
            12 => {
                let (at, change, salt, frame) = (choices.short(), choices.byte(), self.salt, self.frame);
                self.edit(|bytes| {
                    let Some(frame) = bytes.get_mut(frame..) else { return };
                    change_byte(frame, at, change);
                    // As long as it says, if there is that much.
                    let len = frame
                        .get(4..8)
                        .map_or(0, |len| FRAME_FIXED + u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize);
                    let end = if len > frame.len() { frame.len() } else { len };
                    seal_frame(&mut frame[..end], salt);
                });
            }
            _ => self.batch(self.footer.end_seq, choices),
        }
    }

    /// Makes a file, or goes on with one that there is.
    fn open(&mut self, name: &str) {
        let _ = self.disk.create(name);
        name.clone_into(&mut self.name);
    }

    fn edit(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        if self.name.is_empty() {
            self.open(&segment_name(1));
            self.header(7);
        }
        self.disk.edit(&self.name, change);
    }

    fn header(&mut self, drains: u8) {
        let drains = DRAINS.iter().enumerate().filter(|&(bit, _)| drains & 1 << bit != 0);
        let drains = drains.map(|(_, &(identity, stream))| Owed { identity: identity.into(), stream }).collect();
        let (bytes, salt) = encode_header(&Header { run: "then".into(), drains, ..Header::default() });
        self.salt = salt;
        self.footer = Footer { first_seq: 1, end_seq: 1, ..Footer::default() };
        if self.name.is_empty() {
            self.open(&segment_name(1));
        }
        self.disk.edit(&self.name, |file| *file = bytes);
    }

    fn batch(&mut self, first: u64, choices: &mut Choices<'_>) {
        let shape = choices.byte();
        let units = u64::from(shape & 7) + 1;
        let stream = [Stream::Stdout, Stream::Stderr, Stream::Own][usize::from(shape >> 3) % 3];
        // A batch's last number is one that there is.
        if first.checked_add(units).is_none() {
            return;
        }
        let batch = batch(first, units, stream, shape & 0x80 != 0);
        let (salt, before, mut frame) = (self.salt, self.footer.units, 0);
        self.edit(|bytes| {
            frame = bytes.len();
            encode_frame(&batch, before, salt, bytes);
        });
        self.frame = frame;
        self.footer.end_seq = batch.end_seq();
        self.footer.units[stream as usize] = self.footer.units[stream as usize].saturating_add(units);
    }

    fn footer(&mut self, footer: Footer) {
        self.edit(|bytes| {
            let offset = bytes.len() as u64;
            bytes.extend_from_slice(&encode_footer(&Footer { offset, ..footer }));
        });
    }

    fn cursor(&mut self, choices: &mut Choices<'_>) {
        let (identity, _) = DRAINS[usize::from(choices.byte()) % DRAINS.len()];
        let place = Place { segment: choices.number(), seq: choices.number() };
        let cursor = self.cursors.entry(identity.into()).or_insert_with(|| Cursor::new(identity));
        let _ = cursor.store(&self.disk, place);
        self.name = Cursor::file_name(identity);
    }
}

/// Some lines that say their numbers.
pub(super) fn batch(first: u64, units: u64, stream: Stream, cut: bool) -> Batch {
    let (mut data, mut ends, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for unit in 0..units as u32 {
        data.extend_from_slice(format!("line {}\n", first + u64::from(unit)).as_bytes());
        ends.push(data.len() as u32);
        if cut {
            parts.push((unit, Part { number: unit + 1, last: u64::from(unit) + 1 == units }));
        }
    }
    Batch::new(stream, first, Stamp(0), Lines { data: data.into(), ends, parts })
}

fn change_byte(bytes: &mut [u8], at: usize, change: u8) {
    if !bytes.is_empty() {
        let at = at % bytes.len();
        bytes[at] ^= change;
    }
}
