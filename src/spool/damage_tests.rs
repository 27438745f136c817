//! Which drains miss what, if frames in the midst of a segment can't be read.

use super::{
    codec::{FOOTER_LEN, Header, Owed, testing::header},
    cursor::{Cursor, Place},
    disk::Disk,
    index::Index,
    load::{Loaded, Loader},
    log::Log,
    recovery::{Found, Range, recover, segment_name},
    sim::SimDisk,
};
use crate::{
    drain::testing::batch,
    line::{Batch, Stream},
};
use std::sync::Arc;

/// Streams of the frames, each of which has two lines.
const FRAMES: [Stream; 5] = [Stream::Stdout, Stream::Stderr, Stream::Stderr, Stream::Stdout, Stream::Stderr];
const DRAINS: [(&str, Option<Stream>); 3] =
    [("out", Some(Stream::Stdout)), ("err", Some(Stream::Stderr)), ("all", None)];

/// The frame of this number is damaged.
struct Case {
    frame: usize,
    sealed: bool,
}

impl Case {
    fn disk(&self) -> Arc<SimDisk> {
        let disk = Arc::new(SimDisk::default());
        let drains = DRAINS.map(|(identity, stream)| Owed { identity: identity.into(), stream }).to_vec();
        let header = Header { drains, ..header() };
        let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header, 1 << 20, 1 << 30, Found::default());
        let name = segment_name(0);
        let mut ends = Vec::new();
        for (first, stream) in (1..).step_by(2).zip(FRAMES) {
            let lines = batch(first, 2);
            let lines = Batch::new(stream, first, lines.time(), lines.lines().clone());
            log.append(&[Arc::new(lines)], &mut Vec::new()).unwrap();
            ends.push(disk.files()[&name].len());
        }
        log.advance(&[], true).unwrap();
        disk.flip(&name, ends[self.frame] - 1);
        if !self.sealed {
            disk.edit(&name, |bytes| bytes.truncate(bytes.len() - FOOTER_LEN));
        }
        disk
    }

    /// Without a footer nobody knows of a last frame that can't be read: it was torn.
    fn is_known(&self, frame: usize) -> bool {
        self.sealed || self.frame != frame || frame + 1 < FRAMES.len()
    }

    /// What is owed to a drain that has come this far, and what it gets.
    fn read(&self, identity: &str, from: u64) -> Option<(Range, Loaded)> {
        let disk = self.disk();
        Cursor::new(identity).store(&*disk, Place { segment: 0, seq: from }).unwrap();
        let range = recover(&*disk).owed(&*disk, identity).pop()?;
        let index = Arc::new(Index::new([0]));
        let loaded = Loader::new(Arc::clone(&disk) as Arc<dyn Disk>, index, "now".into()).load(&range, 1 << 20);
        Some((range, loaded))
    }

    fn judge(&self, identity: &str, stream: Option<Stream>, from: u64) {
        let is_owed = |&frame: &usize| {
            1 + 2 * frame as u64 >= from && stream.is_none_or(|stream| stream == FRAMES[frame]) && self.is_known(frame)
        };
        let owed: Vec<usize> = (0..FRAMES.len()).filter(is_owed).collect();
        let case = format!("frame {}, sealed {}, {identity} from {from}", self.frame, self.sealed);
        let Some((range, loaded)) = self.read(identity, from) else { return assert!(owed.is_empty(), "{case}") };
        assert_eq!(range.units, 2 * owed.len() as u64, "{case}: what is owed, damaged or not");
        let got: usize = loaded.batches.iter().map(Batch::len).sum();
        let missing = owed.iter().filter(|&&frame| frame == self.frame).count();
        assert_eq!(got, 2 * (owed.len() - missing), "{case}: what it gets");
        // What is missing at the very end shows when the end is reached.
        let holes = if self.frame + 1 < FRAMES.len() { 2 * missing as u64 } else { 0 };
        assert_eq!(loaded.holes, holes, "{case}: what it misses on the way");
    }
}

#[test]
fn what_is_damaged_is_missed_by_the_drains_that_it_was_for_wherever_they_stand() {
    for frame in 0..FRAMES.len() {
        for sealed in [true, false] {
            for (identity, stream) in DRAINS {
                for from in (1..=11).step_by(2) {
                    Case { frame, sealed }.judge(identity, stream, from);
                }
            }
        }
    }
}

#[test]
fn frames_behind_much_that_is_no_frame_are_found() {
    let case = Case { frame: 0, sealed: false };
    let disk = case.disk();
    let body = recover(&*disk).segments[0].body as usize;
    // More than is read at a time; and nothing of it looks like the beginning of a frame.
    disk.edit(&segment_name(0), |bytes| drop(bytes.splice(body..body, vec![b'x'; 400_000])));
    let found = recover(&*disk);
    assert_eq!((found.segments[0].first_seq, found.segments[0].end_seq), (1, 11), "{:?}", found.notes);
    assert!(found.notes.iter().any(|note| note.contains("damaged; 2 lines of 10 lost")), "{:?}", found.notes);
}

#[test]
fn a_header_with_less_than_a_frame_or_with_zeroes_behind_it_promised_nothing() {
    for behind in [&b"LWfr and a bit"[..], &[0; 100], b""] {
        let disk = Case { frame: 0, sealed: false }.disk();
        let body = recover(&*disk).segments[0].body as usize;
        disk.edit(&segment_name(0), |bytes| {
            bytes.truncate(body);
            bytes.extend_from_slice(behind);
        });
        let found = recover(&*disk);
        assert!(found.segments.is_empty() && found.unreadable.files == 0, "{behind:?}: {:?}", found.notes);
        assert!(disk.files().is_empty(), "{behind:?}");
    }
}
