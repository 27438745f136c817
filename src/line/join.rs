//! Joining of lines that belong together, such as a stack trace: an *event* is one unit, with newlines in it.
//!
//! Off unless asked for (`--multiline`). Stands behind the framer, and keeps its invariants: the concatenation of all units
//! is the stream, and which come out does not depend on how the stream was cut, as long as nobody asks for what is held.
//!
//! - A line that begins an event ends the one before it. What comes before the first beginning is an event too.
//! - The last event is *held*, as the next line may belong to it: until an event begins, until [`HOLD`] after the last line
//!   of it ([`Join::take`], asked by whoever has the clock), or until the stream ends.
//! - No event is larger than `--max-line`: a line that would make it so begins the next one. A line that is larger by itself
//!   comes in parts, which are joined to nothing. So what is held is bounded.

use super::{Lines, Part};
use bytes::Bytes;
use regex_lite::Regex;
use std::{borrow::Cow, time::Duration};

/// How long an event waits for another line.
pub const HOLD: Duration = Duration::from_millis(500);

/// A pattern looks at no more than this of a line, in bytes: a beginning is at the front.
const LOOK: usize = 1 << 10;

/// Which lines begin an event: `--multiline`.
#[derive(Clone, Debug)]
pub enum Beginning {
    /// Those that do not begin with a space or a tab.
    NotIndented,
    /// Those in whose first KiB the pattern matches.
    Match(Regex),
}

impl Beginning {
    fn is(&self, line: &[u8]) -> bool {
        match self {
            Self::NotIndented => !matches!(line.first(), Some(b' ' | b'\t')),
            Self::Match(pattern) => {
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                let front: Cow<'_, str> = String::from_utf8_lossy(&line[..line.len().min(LOOK)]);
                pattern.is_match(&front)
            }
        }
    }
}

/// Joins the lines of one stream.
#[derive(Debug)]
pub struct Join {
    beginning: Beginning,
    max: usize,
    /// The last event, newlines included.
    held: Vec<u8>,
}

impl Join {
    /// Events of at most `max` bytes, the last newline not counted.
    pub fn new(beginning: Beginning, max: usize) -> Self {
        Self { beginning, max, held: Vec::new() }
    }

    /// Takes framed lines; returns the events that they complete, if any.
    pub fn push(&mut self, lines: &Lines) -> Option<Lines> {
        let mut data = std::mem::take(&mut self.held);
        let before = data.len();
        data.extend_from_slice(&lines.data);
        let mut events = Events { start: 0, end: before, ends: Vec::new(), parts: Vec::new() };
        let mut parts = lines.parts.iter().peekable();
        for (index, &end) in lines.ends.iter().enumerate() {
            let end = before + end as usize;
            match parts.next_if(|&&(at, _)| at as usize == index) {
                Some(&(_, part)) => events.part(end, part),
                None => {
                    let too_large = end - events.start > self.max + usize::from(data[end - 1] == b'\n');
                    if too_large || self.beginning.is(&data[events.end..end]) {
                        events.close();
                    }
                    events.end = end;
                }
            }
        }
        self.held = data.split_off(events.start);
        events.build(data)
    }

    /// Whether there is an event that waits.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// The event that waits, if any: nothing more will belong to it.
    pub fn take(&mut self) -> Option<Lines> {
        let data = std::mem::take(&mut self.held);
        let mut events = Events { start: 0, end: data.len(), ends: Vec::new(), parts: Vec::new() };
        events.close();
        events.build(data)
    }
}

/// Collects the ends of events; one is open, `start..end`, and may be empty.
struct Events {
    start: usize,
    end: usize,
    ends: Vec<u32>,
    parts: Vec<(u32, Part)>,
}

impl Events {
    fn close(&mut self) {
        if self.end > self.start {
            self.ends.push(self.end as u32);
            self.start = self.end;
        }
    }

    fn part(&mut self, end: usize, part: Part) {
        self.close();
        self.parts.push((self.ends.len() as u32, part));
        self.end = end;
        self.close();
    }

    fn build(self, data: Vec<u8>) -> Option<Lines> {
        (!self.ends.is_empty()).then(|| Lines { data: Bytes::from(data), ends: self.ends, parts: self.parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Framer;
    use proptest::prelude::*;

    /// The units that `chunks` make, as text.
    fn joined(chunks: &[&[u8]], beginning: &Beginning, max: usize) -> Vec<Vec<u8>> {
        let (mut framer, mut join) = (Framer::new(max), Join::new(beginning.clone(), max));
        let mut units = Vec::new();
        let mut take = |lines: Option<Lines>| {
            let Some(lines) = lines else { return };
            let mut from = 0;
            for &end in &lines.ends {
                units.push(lines.data[from..end as usize].to_vec());
                from = end as usize;
            }
            assert_eq!(from, lines.data.len(), "units cover the batch");
        };
        for chunk in chunks {
            take(framer.push(chunk).and_then(|lines| join.push(&lines)));
            assert!(join.held.len() <= max + 1, "what is held is bounded");
        }
        take(framer.finish().and_then(|lines| join.push(&lines)));
        take(join.take());
        assert!(!join.is_holding());
        units
    }

    fn pattern(text: &str) -> Beginning {
        Beginning::Match(Regex::new(text).unwrap())
    }

    #[test]
    fn a_trace_is_one_event_and_what_follows_is_not_13() {
        let text = b"started\nTraceback:\n  File one\n\tFile two\nnext\n";
        let events = joined(&[text], &Beginning::NotIndented, 100);
        assert_eq!(events, [&b"started\n"[..], b"Traceback:\n  File one\n\tFile two\n", b"next\n"]);
    }

    #[test]
    fn a_pattern_says_which_lines_begin_13() {
        let text = b"orphan\n2026-01-01 one\nValueError: x\n\xff\n2026-01-02 two\nlast";
        let events = joined(&[text], &pattern(r"^\d{4}-"), 100);
        assert_eq!(
            events,
            [&b"orphan\n"[..], b"2026-01-01 one\nValueError: x\n\xff\n", b"2026-01-02 two\nlast"],
            "the first lines and the last bytes are events too"
        );
    }

    #[test]
    fn an_event_is_never_larger_than_a_line_may_be_13() {
        let events = joined(&[b"aaa\n bb\n cc\n dd\n"], &Beginning::NotIndented, 7);
        assert_eq!(events, [&b"aaa\n bb\n"[..], b" cc\n dd\n"], "seven bytes and the last newline");
        let events = joined(&[b"aa\n 345678901234\n b\n"], &Beginning::NotIndented, 6);
        assert_eq!(events, [&b"aa\n"[..], b" 34567", b"890123", b"4\n", b" b\n"], "parts are joined to nothing");
    }

    #[test]
    fn an_event_waits_until_it_is_taken_13() {
        let (mut framer, mut join) = (Framer::new(100), Join::new(Beginning::NotIndented, 100));
        assert!(framer.push(b"one\n").and_then(|lines| join.push(&lines)).is_none());
        assert!(join.is_holding());
        assert_eq!(join.take().unwrap().ends, [4]);
        assert!(join.take().is_none());
        let after = framer.push(b"  late\ntwo\n").and_then(|lines| join.push(&lines)).unwrap();
        assert_eq!(after.data, "  late\n", "what comes too late is an event of its own");
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_and_no_cut_matters_13(
            text in "[a \n]{0,60}",
            cuts in prop::collection::vec(0usize..60, 0..6),
            max in 1usize..12,
        ) {
            let text = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().filter(|&at| at < text.len()).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect();
            let events = joined(&chunks, &Beginning::NotIndented, max);
            prop_assert_eq!(events.concat(), text);
            prop_assert_eq!(events, joined(&[text], &Beginning::NotIndented, max));
        }
    }
}
