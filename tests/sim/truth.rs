//! The app's own record: what it wrote in each life, and which unit each part of that became.

use crate::line::{Lines, Stream};

/// A unit, as it must arrive.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) stream: Stream,
    /// Without its newline.
    pub(super) text: Vec<u8>,
}

/// One life's record.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// What `write(2)` took, per stream.
    written: [Vec<u8>; 2],
    /// How much of that was published.
    framed: [usize; 2],
    /// By sequence number, which begins at 1.
    pub(super) units: Vec<Unit>,
}

/// All lives.
#[derive(Debug, Default)]
pub(super) struct Truth(pub(super) Vec<Record>);

impl Truth {
    pub(super) fn begin_life(&mut self) {
        self.0.push(Record::default());
    }

    /// The life that is lived.
    pub(super) fn now(&mut self) -> &mut Record {
        self.0.last_mut().unwrap()
    }

    pub(super) fn unit(&self, life: usize, seq: u64) -> Option<&Unit> {
        self.0.get(life)?.units.get(usize::try_from(seq).ok()?.checked_sub(1)?)
    }
}

impl Record {
    pub(super) fn wrote(&mut self, stream: usize, bytes: &[u8]) {
        self.written[stream].extend_from_slice(bytes);
    }

    /// These are about to be numbered. They must be what comes next in the stream, cut as the contract says.
    pub(super) fn publishes(&mut self, stream: Stream, lines: &Lines, max: usize, at_end: bool) {
        let which = stream as usize;
        let (mut from, mut place) = (0, self.framed[which]);
        for (index, &end) in lines.ends.iter().enumerate() {
            let unit = &lines.data[from..end as usize];
            let written = self.written[which].get(place..place + unit.len());
            assert_eq!(written, Some(unit), "the framer changed what {} wrote", stream.name());
            let text = unit.strip_suffix(b"\n").unwrap_or(unit);
            assert!(text.len() <= max && !text.contains(&b'\n'), "a unit is a line, or a part of one");
            let is_part = lines.parts.iter().any(|&(at, part)| at as usize == index && !part.last);
            let is_last = at_end && index + 1 == lines.ends.len();
            assert!(unit.len() > text.len() || is_part || is_last, "a line was cut");
            self.units.push(Unit { stream, text: text.to_vec() });
            (from, place) = (end as usize, place + unit.len());
        }
        self.framed[which] = place;
    }

    pub(super) fn says(&mut self, text: &str) {
        self.units.push(Unit { stream: Stream::Own, text: format!("lastword: {text}").into_bytes() });
    }

    /// The intake is closed: all that was written is published.
    pub(super) fn all_read(&self) {
        for (written, framed) in self.written.iter().zip(self.framed) {
            assert_eq!(written.len(), framed, "bytes were left in the pipes at an orderly exit");
        }
    }
}
