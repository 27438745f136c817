//! Raw: the bytes as the app wrote them.
//!
//! What one stream's units leave behind is that stream, byte for byte: parts join up again, and a last line that had
//! no newline gets none from here (the reader gives it one where lines of ours follow). With both streams in one drain their
//! lines interleave in reading order, and an unfinished line or part of one stream is continued by the other's next bytes, as on
//! a terminal; `#stream=` keeps them apart. A gap line stands outside of that promise: it ends with a newline of its own. Lines
//! about the app's life begin with `lastword: `, here
//! as in every format.

use super::{Encode, Gap};
use crate::line::Unit;

/// Encodes units as they are.
#[derive(Clone, Copy, Debug)]
pub struct Raw;

impl Encode for Raw {
    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(unit.text);
        if unit.newline {
            out.push(b'\n');
        }
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        out.extend_from_slice(gap.message().as_bytes());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        format::{Encoder, Format, Gap, testing::*},
        ledger::{Loss, Losses},
        line::{Batch, Lines, Part, Stream},
    };
    use bytes::Bytes;

    #[test]
    fn the_units_of_a_stream_make_up_the_stream() {
        let written = b"one\n\nlong-part\xff\0 rest\nno newline";
        let lines = Lines {
            data: Bytes::from_static(written),
            ends: vec![4, 5, 14, 22, 32],
            parts: vec![(2, Part { number: 1, last: false }), (3, Part { number: 2, last: true })],
        };
        let batch = Batch::new(Stream::Stdout, 1, TIME, lines);
        let (mut encoder, mut out) = (Encoder::new(Format::Raw, origin()), Vec::new());
        batch.units().for_each(|unit| encoder.encode(&unit, &mut out));
        assert_eq!(out, written);
        assert_eq!(encoder.protocol().content_type, "text/plain");
    }

    #[test]
    fn a_gap_is_a_line_of_its_own() {
        let mut lost = Losses::default();
        lost.add(Loss::Deadline, 2);
        let mut out = Vec::new();
        Encoder::new(Format::Raw, origin()).encode_gap(&Gap { lost, first: TIME, last: TIME, among: 0 }, &mut out);
        assert_eq!(out, b"lastword: 2 lines lost at 2026-01-02T03:04:05.678901Z (deadline 2)\n");
    }
}
