//! The judge: compares what was written with what was received and with what the report says.
//!
//! Its articles, for one drain:
//!
//! 1. *Accounted*: the report's identity holds, and its `read` is what the app wrote.
//! 2. *No loss unannounced*: every line written is here, or the report counts it.
//! 3. *No invention, no mangling*: every line here equals the function of its number, and was written.
//! 4. *Order*: first occurrences ascend; duplicates only where the test's [`Terms`] allow them.
//! 5. *Nobody unheard*: no writer found its pipe without a reader.

use super::{
    record::{Record, Source, identify},
    report::Books,
};
use std::collections::{BTreeMap, BTreeSet};

/// One unit as a receiver got it: a line, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Sequence number; none in formats without one.
    pub seq: Option<u64>,
    /// `stdout` is `o`, `stderr` is `e`; none in formats that do not say.
    pub stream: Option<char>,
    /// The bytes.
    pub text: Vec<u8>,
    /// For a part of a long line: its number, and whether it is the last.
    pub part: Option<(u32, bool)>,
}

/// What one drain's receiver got, in order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Lines and parts, duplicates included.
    pub units: Vec<Unit>,
    /// lastword's own lines about the app's life: units, too, and in the books.
    pub own: Vec<Unit>,
    /// Announcements of loss in the drain's own stream.
    pub gaps: Vec<String>,
    /// Units that those announcements name.
    pub announced: u64,
    /// Run ids that the units carry.
    pub runs: BTreeSet<String>,
}

/// What a test allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// This many units may arrive again.
    pub duplicates: u64,
    /// Lines may be lost, if counted.
    pub lossy: bool,
    /// Of lines counted as lost, some may have arrived all the same (their fate was unknown when time ran out).
    pub overcounted: bool,
    /// Units `sent` without evidence may be missing.
    pub unsure: bool,
    /// Every unit must be `confirmed`.
    pub confirmed: bool,
    /// Writers may find nobody reading (the app was killed, or closed its end on purpose).
    pub broken: bool,
}

/// What the judge found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The report's two sides differ.
    Identity(String),
    /// The report counts other than what was written.
    Read { reported: u64, written: (u64, u64) },
    /// Written, not here, and not counted.
    Missing { source: Source, numbers: Vec<u64> },
    /// Fewer units are here than the report says arrived, or the counts of what is missing differ.
    Count(String),
    /// Lost, though the terms promise that nothing is.
    Lost(String),
    /// Not a line that anyone writes: mangled, torn, merged, or foreign.
    Mangled(String),
    /// A line that was not written.
    Invented { source: Source, number: u64 },
    /// One line under two sequence numbers, or two lines under one.
    Confused(String),
    /// Earlier than its predecessor.
    Order(String),
    /// More duplicates than allowed.
    Duplicates { found: u64, allowed: u64 },
    /// Not everything is confirmed.
    Unconfirmed(String),
    /// A writer found nobody reading.
    Broken(String),
    /// Nothing was written: the test did not meet its subject.
    Void,
}

/// What the judge found out in passing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Distinct lines here.
    pub lines: u64,
    /// Units that came again.
    pub duplicates: u64,
    /// Lines written and not here.
    pub missing: u64,
}

/// Judges one drain. `books` is None where there is no report (the pass-through).
pub fn judge(record: &Record, books: Option<&Books>, seen: &Seen, terms: Terms) -> Result<Facts, Vec<Violation>> {
    let mut case = Case { record, terms, found: Vec::new(), facts: Facts::default() };
    case.hear_the_writers();
    let units = case.distinct_units(&seen.units);
    let lines = case.glue(&units);
    let counted = books.map_or(0, |books| books.lost() + if terms.unsure { books.sent } else { 0 } + books.spooled);
    case.compare_lines(&lines, counted);
    if seen.runs.len() > 1 {
        case.found.push(Violation::Confused(format!("units of several runs: {:?}", seen.runs)));
    }
    if let Some(books) = books {
        let own: BTreeSet<_> = seen.own.iter().map(|unit| unit.seq).collect();
        case.audit(books, &units, own.len() as u64);
        if seen.announced > books.lost() {
            case.found.push(Violation::Count(format!("{} announced as lost, of {books:?}", seen.announced)));
        }
    }
    if case.found.is_empty() { Ok(case.facts) } else { Err(case.found) }
}

/// A unit with what is known of it after duplicates are gone.
struct Piece<'a> {
    order: u64,
    stream: Option<char>,
    text: &'a [u8],
    part: Option<(u32, bool)>,
}

struct Case<'a> {
    record: &'a Record,
    terms: Terms,
    found: Vec<Violation>,
    facts: Facts,
}

impl Case<'_> {
    fn hear_the_writers(&mut self) {
        if self.record.done() == 0 {
            self.found.push(Violation::Void);
        }
        if !self.terms.broken {
            self.found.extend(self.record.broken.iter().cloned().map(Violation::Broken));
        }
    }

    /// First occurrences, in order of arrival; checks their order and counts the rest.
    fn distinct_units<'a>(&mut self, units: &'a [Unit]) -> Vec<Piece<'a>> {
        let mut first: BTreeMap<u64, &Unit> = BTreeMap::new();
        let mut newest: BTreeMap<Option<char>, u64> = BTreeMap::new();
        let mut pieces = Vec::new();
        for (arrival, unit) in units.iter().enumerate() {
            let order = unit.seq.unwrap_or(arrival as u64 + 1);
            if let Some(known) = first.get(&order) {
                self.facts.duplicates += 1;
                if known.text != unit.text || known.part != unit.part || known.stream != unit.stream {
                    self.found.push(Violation::Confused(format!("seq {order} is {known:?} and {unit:?}")));
                }
                continue;
            }
            first.insert(order, unit);
            let newest = newest.entry(unit.stream).or_default();
            if order < *newest {
                self.found.push(Violation::Order(format!("seq {order} came after {newest}")));
            }
            *newest = order.max(*newest);
            pieces.push(Piece { order, stream: unit.stream, text: &unit.text, part: unit.part });
        }
        pieces
    }

    /// Whole lines, parts put together again, per stream in order of sequence numbers.
    fn glue(&mut self, units: &[Piece<'_>]) -> Vec<(u64, Option<char>, Vec<u8>)> {
        let mut sorted: Vec<&Piece<'_>> = units.iter().collect();
        sorted.sort_by_key(|piece| (piece.stream, piece.order));
        let mut lines = Vec::new();
        let mut open: Option<(u32, Option<char>, Vec<u8>)> = None;
        for piece in sorted {
            let Some((number, last)) = piece.part else {
                if open.take().is_some() {
                    self.found.push(Violation::Mangled(format!("a long line without its end before {}", piece.order)));
                }
                lines.push((piece.order, piece.stream, piece.text.to_vec()));
                continue;
            };
            let (before, stream, mut text) = open.take().unwrap_or((0, piece.stream, Vec::new()));
            if number != before + 1 || stream != piece.stream {
                self.found.push(Violation::Mangled(format!("part {number} follows part {before} at {}", piece.order)));
            }
            text.extend_from_slice(piece.text);
            if last {
                lines.push((piece.order, stream, text));
            } else {
                open = Some((number, stream, text));
            }
        }
        if open.is_some() {
            self.found.push(Violation::Mangled("the last long line has no end".into()));
        }
        lines
    }

    fn compare_lines(&mut self, lines: &[(u64, Option<char>, Vec<u8>)], counted: u64) {
        let mut here: BTreeMap<Source, Vec<u64>> = BTreeMap::new();
        for (order, stream, text) in lines {
            let Some(claim) = identify(text) else {
                let text = String::from_utf8_lossy(&text[..text.len().min(200)]);
                self.found.push(Violation::Mangled(format!("{} bytes at {order}: {text:?}", text.len())));
                continue;
            };
            if stream.is_some_and(|stream| stream != claim.source.1) {
                self.found.push(Violation::Confused(format!("{claim:?} came as {stream:?}")));
            }
            let begun = self.record.sources.get(&claim.source).map_or(0, |extent| extent.begun);
            if claim.number == 0 || claim.number > begun {
                self.found.push(Violation::Invented { source: claim.source, number: claim.number });
                continue;
            }
            here.entry(claim.source).or_default().push(claim.number);
        }
        for (source, extent) in &self.record.sources {
            let numbers = here.remove(source).unwrap_or_default();
            self.compare_source(source, extent.done, numbers, counted > 0);
        }
        if counted > 0 && self.facts.missing > counted {
            self.found.push(Violation::Count(format!("{} lines missing, {counted} counted", self.facts.missing)));
        }
    }

    /// `numbers` in order of sequence numbers (or of arrival).
    fn compare_source(&mut self, source: &Source, done: u64, mut numbers: Vec<u64>, counted: bool) {
        for pair in numbers.windows(2) {
            if pair[1] == pair[0] {
                self.found.push(Violation::Confused(format!("{source:?} {} under two sequence numbers", pair[0])));
            } else if pair[1] < pair[0] {
                self.found.push(Violation::Order(format!("{source:?} {} came after {}", pair[1], pair[0])));
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        self.facts.lines += numbers.len() as u64;
        let missing: Vec<u64> = (1..=done).filter(|number| numbers.binary_search(number).is_err()).collect();
        self.facts.missing += missing.len() as u64;
        if !missing.is_empty() && !counted {
            self.found.push(Violation::Missing { source: source.clone(), numbers: missing });
        }
    }

    /// `own`: how many lines of lastword's own are here.
    fn audit(&mut self, books: &Books, units: &[Piece<'_>], own: u64) {
        let there = books.confirmed + books.accepted + books.sent + books.spooled + books.lost();
        if books.read + books.adopted != there {
            self.found.push(Violation::Identity(format!("{books:?}")));
        }
        let begun = self.record.sources.values().map(|extent| extent.begun).sum();
        let whole = units.iter().all(|unit| unit.part.is_none());
        let whole = whole && (own == 0 || books.lost() == 0);
        if whole && !(self.record.done()..=begun).contains(&books.read.saturating_sub(own)) {
            self.found.push(Violation::Read { reported: books.read, written: (self.record.done(), begun) });
        }
        if books.lost() > 0 && !self.terms.lossy {
            self.found.push(Violation::Lost(format!("{:?}", books.lost)));
        }
        if self.terms.confirmed && books.confirmed != books.read {
            self.found.push(Violation::Unconfirmed(format!("{books:?}")));
        }
        if self.facts.duplicates > self.terms.duplicates {
            let (found, allowed) = (self.facts.duplicates, self.terms.duplicates);
            self.found.push(Violation::Duplicates { found, allowed });
        }
        let here = units.len() as u64 + own;
        let arrived = books.confirmed + books.accepted + if self.terms.unsure { 0 } else { books.sent };
        if here < arrived || here > books.read {
            self.found.push(Violation::Count(format!("{here} units are here, of {books:?}")));
        }
        let slack = self.terms.overcounted || self.terms.unsure;
        if !slack && books.read.saturating_sub(here) != books.lost() + books.spooled {
            self.found.push(Violation::Count(format!("{} units are not here, of {books:?}", books.read - here)));
        }
    }
}

mod tests {
    use super::*;
    use crate::support::{
        lines::{Shape, line},
        record::Extent,
    };

    /// A clean case: 30 lines on stdout and 10 on stderr of one source, long ones in two parts.
    struct Planted {
        record: Record,
        books: Books,
        seen: Seen,
        terms: Terms,
    }

    fn clean() -> Planted {
        let mut record = Record::default();
        let mut seen = Seen::default();
        for number in 1..=40_u64 {
            let (stream, count) = if number % 4 == 0 { ('e', number / 4) } else { ('o', number - number / 4) };
            let text = line("app", stream, Shape::Hostile, count);
            seen.units.push(Unit { seq: Some(number), stream: Some(stream), text, part: None });
            record.sources.insert(("app".into(), stream), Extent { done: count, begun: count });
        }
        let books = Books { name: "x".into(), read: 40, confirmed: 40, ..Books::default() };
        Planted { record, books, seen, terms: Terms { confirmed: true, ..Terms::default() } }
    }

    impl Planted {
        fn judge(&self) -> Result<Facts, Vec<Violation>> {
            judge(&self.record, Some(&self.books), &self.seen, self.terms)
        }

        #[track_caller]
        fn convicts(&self, of: impl Fn(&Violation) -> bool) {
            let found = self.judge().expect_err("the judge must see it");
            assert!(found.iter().any(of), "{found:?}");
        }

        fn lose(&mut self, index: usize, reason: &str) {
            self.seen.units.remove(index);
            self.books.confirmed -= 1;
            *self.books.lost.entry(reason.into()).or_default() += 1;
            self.terms = Terms { lossy: true, ..Terms::default() };
        }
    }

    #[test]
    fn a_clean_case_is_acquitted() {
        assert_eq!(clean().judge(), Ok(Facts { lines: 40, duplicates: 0, missing: 0 }));
    }

    #[test]
    fn a_dropped_line_is_missed_wherever_it_stood() {
        for index in 0..40 {
            let mut case = clean();
            case.seen.units.remove(index);
            case.convicts(|found| matches!(found, Violation::Missing { numbers, .. } if numbers.len() == 1));
            case.convicts(|found| matches!(found, Violation::Count(_)));
        }
    }

    #[test]
    fn a_dropped_line_is_forgiven_where_it_is_counted_and_allowed() {
        let mut case = clean();
        case.lose(7, "deadline");
        assert_eq!(case.judge(), Ok(Facts { lines: 39, duplicates: 0, missing: 1 }));
        case.terms.lossy = false;
        case.convicts(|found| matches!(found, Violation::Lost(_)));
    }

    #[test]
    fn one_line_more_missing_than_counted_is_seen() {
        let mut case = clean();
        case.lose(7, "overflow");
        case.seen.units.remove(20);
        case.convicts(|found| matches!(found, Violation::Count(_)));
        case.terms.overcounted = true;
        case.convicts(|found| matches!(found, Violation::Count(_)));
    }

    #[test]
    fn a_line_counted_as_lost_that_is_here_is_seen_unless_allowed() {
        let mut case = clean();
        case.books.confirmed -= 1;
        case.books.lost.insert("deadline".into(), 1);
        case.terms = Terms { lossy: true, ..Terms::default() };
        case.convicts(|found| matches!(found, Violation::Count(_)));
        case.terms.overcounted = true;
        assert!(case.judge().is_ok());
    }

    #[test]
    fn a_duplicate_is_counted_and_needs_permission() {
        let mut case = clean();
        let again = case.seen.units[3].clone();
        case.seen.units.insert(30, again);
        case.convicts(|found| *found == Violation::Duplicates { found: 1, allowed: 0 });
        case.terms.duplicates = 1;
        assert_eq!(case.judge().map(|facts| facts.duplicates), Ok(1));
    }

    #[test]
    fn a_duplicate_with_other_bytes_or_another_number_is_no_duplicate() {
        let mut case = clean();
        let mut again = case.seen.units[3].clone();
        again.text.push(b'x');
        case.seen.units.push(again);
        case.convicts(|found| matches!(found, Violation::Confused(_)));
        let mut case = clean();
        let mut again = case.seen.units[39].clone();
        again.seq = Some(41);
        case.seen.units.push(again);
        case.books.read += 1;
        case.books.confirmed += 1;
        case.convicts(|found| matches!(found, Violation::Confused(_)));
        case.convicts(|found| matches!(found, Violation::Read { .. }));
    }

    #[test]
    fn swapped_lines_are_seen_within_a_stream_only() {
        let mut case = clean();
        case.seen.units.swap(0, 1);
        case.convicts(|found| matches!(found, Violation::Order(_)));
        let mut case = clean();
        case.seen.units.swap(2, 3);
        assert!(case.judge().is_ok(), "stdout and stderr may overtake each other");
    }

    #[test]
    fn lines_that_changed_their_numbers_are_seen() {
        let mut case = clean();
        let (one, two) = (case.seen.units[0].text.clone(), case.seen.units[1].text.clone());
        (case.seen.units[0].text, case.seen.units[1].text) = (two, one);
        case.convicts(|found| matches!(found, Violation::Order(_)));
    }

    #[test]
    fn any_single_changed_byte_is_seen() {
        let length = clean().seen.units[4].text.len();
        for index in 0..length {
            let mut case = clean();
            case.seen.units[4].text[index] ^= 1;
            assert!(case.judge().is_err(), "byte {index}");
        }
    }

    #[test]
    fn merged_torn_and_foreign_lines_are_seen() {
        let mut case = clean();
        let tail = case.seen.units[5].text.clone();
        case.seen.units[4].text.extend(tail);
        case.convicts(|found| matches!(found, Violation::Mangled(_)));
        let mut case = clean();
        case.seen.units[4].text.pop();
        case.convicts(|found| matches!(found, Violation::Mangled(_)));
        let mut case = clean();
        case.seen.units[4].text = b"hello".to_vec();
        case.convicts(|found| matches!(found, Violation::Mangled(_)));
    }

    #[test]
    fn a_line_that_nobody_wrote_is_seen() {
        let mut case = clean();
        let text = line("app", 'o', Shape::Plain, 31);
        case.seen.units.push(Unit { seq: Some(41), stream: Some('o'), text, part: None });
        case.convicts(|found| matches!(found, Violation::Invented { number: 31, .. }));
    }

    #[test]
    fn a_line_under_the_wrong_stream_is_seen() {
        let mut case = clean();
        case.seen.units[0].stream = Some('e');
        case.convicts(|found| matches!(found, Violation::Confused(_)));
    }

    #[test]
    fn wrong_sums_and_wrong_counts_are_seen() {
        let mut case = clean();
        case.books.confirmed = 39;
        case.convicts(|found| matches!(found, Violation::Identity(_)));
        case.books.read = 39;
        case.convicts(|found| matches!(found, Violation::Read { reported: 39, .. }));
        let mut case = clean();
        case.books.confirmed = 39;
        case.books.accepted = 1;
        case.convicts(|found| matches!(found, Violation::Unconfirmed(_)));
    }

    #[test]
    fn a_line_that_may_have_been_written_may_be_here_or_not() {
        let mut case = clean();
        case.record.sources.insert(("app".into(), 'o'), Extent { done: 29, begun: 30 });
        assert!(case.judge().is_ok());
        case.seen.units.retain(|unit| unit.seq != Some(39));
        case.seen.units.last_mut().expect("40 lines").seq = Some(39);
        (case.books.read, case.books.confirmed) = (39, 39);
        assert!(case.judge().is_ok());
    }

    #[test]
    fn parts_are_put_together_and_a_lost_or_swapped_part_is_seen() {
        let text = line("app", 'o', Shape::Fixed(100), 1);
        let parts = |cut: &[(usize, usize, u32, bool)]| {
            let unit = |(index, &(from, to, number, last)): (usize, &(usize, usize, u32, bool))| Unit {
                seq: Some(index as u64 + 1),
                stream: Some('o'),
                text: text[from..to].to_vec(),
                part: Some((number, last)),
            };
            let mut case = clean();
            case.record.sources.clear();
            case.record.sources.insert(("app".into(), 'o'), Extent { done: 1, begun: 1 });
            case.seen.units = cut.iter().enumerate().map(unit).collect();
            (case.books.read, case.books.confirmed) = (cut.len() as u64, cut.len() as u64);
            case
        };
        assert!(parts(&[(0, 40, 1, false), (40, 80, 2, false), (80, 100, 3, true)]).judge().is_ok());
        parts(&[(0, 40, 1, false), (80, 100, 3, true)]).convicts(|found| matches!(found, Violation::Mangled(_)));
        parts(&[(0, 40, 1, false), (40, 80, 2, false)]).convicts(|found| matches!(found, Violation::Mangled(_)));
        parts(&[(40, 80, 1, false), (0, 40, 2, true)]).convicts(|found| matches!(found, Violation::Mangled(_)));
    }

    #[test]
    fn announcements_of_what_was_not_lost_and_foreign_runs_are_seen() {
        let mut case = clean();
        case.lose(7, "overflow");
        case.seen.announced = 1;
        assert!(case.judge().is_ok());
        case.seen.announced = 2;
        case.convicts(|found| matches!(found, Violation::Count(_)));
        let mut case = clean();
        case.seen.runs = ["a".into(), "b".into()].into();
        case.convicts(|found| matches!(found, Violation::Confused(_)));
    }

    #[test]
    fn a_writer_without_a_reader_and_a_void_test_are_seen() {
        let mut case = clean();
        case.record.broken.push("worker".into());
        case.convicts(|found| *found == Violation::Broken("worker".into()));
        let mut case = clean();
        case.record = Record::default();
        case.convicts(|found| *found == Violation::Void);
    }

    #[test]
    fn each_shape_of_line_says_who_it_is() {
        for shape in [Shape::Plain, Shape::Fixed(200), Shape::Edges, Shape::Hostile, Shape::Unicode] {
            for number in 1..500 {
                let text = line("w12", 'e', shape, number);
                assert!(!text.contains(&b'\n'));
                let claim = identify(&text).expect("a line knows itself");
                assert_eq!((claim.source, claim.number), (("w12".into(), 'e'), number));
            }
        }
    }
}
