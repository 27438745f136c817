//! The framer: bytes in, units out.
//!
//! Invariants, for any cutting of a stream into chunks:
//! - the concatenation of all units is the stream, byte for byte;
//! - which units come out depends on the stream and `max` alone, never on where the chunks were cut;
//! - no unit has more than `max` bytes (newline not counted), and `carry.len() <= max`: memory is bounded whatever the
//!   app writes, and each byte is scanned once for its newline.
//!
//! A line of more than `max` bytes becomes parts, cut as late as possible but on the border of a UTF-8 character where
//! there is one within the last three bytes. A carriage return is a byte like any other.

use super::{Lines, Part};
use bytes::Bytes;
use memchr::{memchr_iter, memrchr};

/// Cuts one stream into lines.
#[derive(Debug)]
pub struct Framer {
    max: usize,
    /// The line that has no newline yet, without the parts that were emitted.
    carry: Vec<u8>,
    /// Parts of the line in `carry` that were emitted.
    parts_out: u32,
}

impl Framer {
    /// A framer that splits lines of more than `max` bytes; `max` is at least 1.
    pub fn new(max: usize) -> Self {
        Self { max: max.max(1), carry: Vec::new(), parts_out: 0 }
    }

    /// Takes the next bytes of the stream; returns the units that they complete, if any.
    pub fn push(&mut self, chunk: &[u8]) -> Option<Lines> {
        let head = memrchr(b'\n', chunk).map_or(0, |at| at + 1);
        let rest = if head == 0 { self.carry.len() + chunk.len() } else { chunk.len() - head };
        // What stays behind fits the carry: frame just the whole lines, so that a batch owns no more than its bytes.
        if rest <= self.max {
            let lines = (head > 0).then(|| self.frame(&chunk[..head]));
            self.carry.extend_from_slice(&chunk[head..]);
            if planted!(tail_copied_twice) && rest == self.max {
                self.carry.extend_from_slice(&chunk[head..]);
            }
            return lines;
        }
        Some(self.frame(chunk))
    }

    /// The stream ended: returns the last bytes that had no newline, if any.
    pub fn finish(&mut self) -> Option<Lines> {
        if self.carry.is_empty() || planted!(partial_last_line_dropped) {
            return None;
        }
        let data = std::mem::take(&mut self.carry);
        let mut out = Builder { ends: Vec::with_capacity(1), parts: Vec::new() };
        out.last_of_line(data.len(), &mut self.parts_out);
        Some(out.build(data))
    }

    /// Frames `carry + text`; what follows the last newline or part goes back to the carry.
    fn frame(&mut self, text: &[u8]) -> Lines {
        let mut data = std::mem::take(&mut self.carry);
        let scan_from = data.len();
        data.reserve_exact(text.len());
        data.extend_from_slice(text);
        let mut out = Builder { ends: Vec::with_capacity(1 + text.len() / 64), parts: Vec::new() };
        let mut start = 0;
        for newline in memchr_iter(b'\n', &data[scan_from..]) {
            let end = scan_from + newline;
            out.parts_of(&data[start..end], start, self.max, &mut self.parts_out);
            out.last_of_line(end + 1, &mut self.parts_out);
            start = end + 1;
        }
        start = out.parts_of(&data[start..], start, self.max, &mut self.parts_out);
        if start < data.len() {
            self.carry.extend_from_slice(&data[start..]);
            data.truncate(start);
        }
        out.build(data)
    }
}

/// Collects the ends of units.
struct Builder {
    ends: Vec<u32>,
    parts: Vec<(u32, Part)>,
}

impl Builder {
    /// Emits parts while more than `max` bytes of `line` (which begins at `start`) remain; returns where the rest begins.
    fn parts_of(&mut self, line: &[u8], start: usize, max: usize, parts_out: &mut u32) -> usize {
        let mut from = 0;
        while line.len() - from > max {
            from += cut(&line[from..], max);
            *parts_out += 1;
            self.parts.push((self.ends.len() as u32, Part { number: *parts_out, last: false }));
            self.ends.push((start + from) as u32);
        }
        start + from
    }

    /// Emits the end of a line: a whole one, or the last part.
    fn last_of_line(&mut self, end: usize, parts_out: &mut u32) {
        if *parts_out > 0 {
            let last = !planted!(split_flag_lost);
            self.parts.push((self.ends.len() as u32, Part { number: *parts_out + 1, last }));
            *parts_out = 0;
        }
        self.ends.push(end as u32);
    }

    fn build(self, data: Vec<u8>) -> Lines {
        Lines { data: Bytes::from(data), ends: self.ends, parts: self.parts }
    }
}

/// Length of the first part of `line`, which has more than `max` bytes.
fn cut(line: &[u8], max: usize) -> usize {
    let is_continuation = |byte: u8| byte & 0b1100_0000 == 0b1000_0000;
    if !is_continuation(line[max]) {
        return max;
    }
    // A character has at most three continuation bytes; a longer run of them is not UTF-8, and is cut anywhere.
    let lead = (max.saturating_sub(3)..max).rev().find(|&at| !is_continuation(line[at]));
    match lead {
        Some(at) if at > 0 && line[at] >= 0b1100_0000 => at,
        _ => max,
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod oracle {
    //! What the framer does, and what it should.

    use super::*;

    /// (text, part) of each unit, newline kept.
    pub(crate) type Units = Vec<(Vec<u8>, Option<Part>)>;

    /// What the framer makes of these chunks.
    pub(crate) fn framed(chunks: &[&[u8]], max: usize) -> Units {
        let mut framer = Framer::new(max);
        let mut units = Units::new();
        let mut take = |lines: Option<Lines>| {
            let Some(lines) = lines else { return };
            assert!(!lines.ends.is_empty(), "an empty batch does not exist");
            let mut from = 0;
            for (index, &end) in lines.ends.iter().enumerate() {
                let part = lines.parts.iter().find(|&&(at, _)| at as usize == index).map(|&(_, part)| part);
                units.push((lines.data[from..end as usize].to_vec(), part));
                from = end as usize;
            }
            assert_eq!(from, lines.data.len(), "units cover the batch");
        };
        for chunk in chunks {
            take(framer.push(chunk));
            assert!(framer.carry.len() <= max, "the carry is bounded");
        }
        take(framer.finish());
        units
    }

    /// The specification, in the plainest way there is.
    pub(crate) fn expected(text: &[u8], max: usize) -> Units {
        let mut units = Units::new();
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let newline = usize::from(line.ends_with(b"\n"));
            let mut rest = line;
            let mut number = 0;
            while rest.len() - newline > max {
                let (part, tail) = rest.split_at(cut(rest, max));
                number += 1;
                units.push((part.to_vec(), Some(Part { number, last: false })));
                rest = tail;
            }
            units.push((rest.to_vec(), (number > 0).then_some(Part { number: number + 1, last: true })));
        }
        units
    }
}

#[cfg(test)]
mod tests {
    use super::oracle::{expected, framed};
    use proptest::prelude::*;

    /// Calls `check` with every way to cut `text` into chunks.
    fn for_all_cuts(text: &[u8], mut check: impl FnMut(&[&[u8]])) {
        for mask in 0..1_u32 << text.len().saturating_sub(1) {
            let mut chunks = Vec::new();
            let mut from = 0;
            for at in 1..text.len() {
                if mask & (1 << (at - 1)) != 0 {
                    chunks.push(&text[from..at]);
                    from = at;
                }
            }
            chunks.push(&text[from..]);
            check(&chunks);
        }
    }

    #[test]
    fn every_short_text_in_every_cutting_gives_the_specified_units_2() {
        let alphabet = [b'a', b'\n', b'\r'];
        let mut checked = 0_u64;
        for length in 0..=7_u32 {
            for code in 0..3_u32.pow(length) {
                let text: Vec<u8> = (0..length).map(|at| alphabet[(code / 3_u32.pow(at) % 3) as usize]).collect();
                for max in 1..=4 {
                    let want = expected(&text, max);
                    for_all_cuts(&text, |chunks| {
                        assert_eq!(framed(chunks, max), want, "{text:?} as {chunks:?}, max {max}");
                        checked += 1;
                    });
                }
            }
        }
        assert_eq!(checked, 671_848, "all texts of up to 7 bytes, all cuts, four limits");
    }

    #[test]
    fn characters_are_not_cut_where_a_border_is_near_3() {
        let text = "aé日🦀é\n".as_bytes();
        for max in 4..text.len() {
            for (unit, _) in framed(&[text], max) {
                assert!(std::str::from_utf8(&unit).is_ok(), "max {max}: {unit:?}");
            }
        }
        // Bytes that are no UTF-8 are cut at the limit.
        assert_eq!(framed(&[&[0x80; 9]], 4).iter().map(|(unit, _)| unit.len()).collect::<Vec<_>>(), [4, 4, 1]);
    }

    #[test]
    fn a_line_of_exactly_max_bytes_is_whole_2() {
        for text in [&b"abcd\n"[..], b"abcd"] {
            assert_eq!(framed(&[text], 4), [(text.to_vec(), None)]);
        }
        assert_eq!(framed(&[b"abcde\n"], 4).len(), 2);
    }

    proptest! {
        #[test]
        fn units_do_not_depend_on_the_cutting(
            text in proptest::collection::vec(prop_oneof![4 => any::<u8>(), 1 => Just(b'\n'), 2 => 0x80..=0xf7_u8], 0..600),
            cuts in proptest::collection::vec(0..600_usize, 0..12),
            max in 1..80_usize,
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(text.len())).collect();
            cuts.push(text.len());
            cuts.sort_unstable();
            let mut from = 0;
            let chunks: Vec<_> = cuts.iter().map(|&at| { let chunk = &text[from..at]; from = at; chunk }).collect();
            let units = framed(&chunks, max);
            prop_assert_eq!(&units, &expected(&text, max));
            prop_assert_eq!(units.into_iter().flat_map(|(unit, _)| unit).collect::<Vec<_>>(), text);
        }
    }
}
