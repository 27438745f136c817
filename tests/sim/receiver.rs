//! The application behind one drain, over all lives: it reads lines, and judges each as it comes.

use super::{seen::Seen, truth::Truth};
use crate::line::Stream;
use base64::{Engine, prelude::BASE64_STANDARD};
use memchr::{memmem, memrchr};
use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) name: String,
    truth: Rc<RefCell<Truth>>,
    seen: Rc<RefCell<Seen>>,
    /// The stream that it asked for.
    stream: Option<Stream>,
    /// It takes items one by one, so those that are sent again come late.
    pub(super) itemized: bool,
    /// For each unit: when it came first, as `epoch`.
    first: BTreeMap<(usize, u64), u32>,
    /// Grows with everything after which lines may come again.
    epoch: u32,
    /// The last first arrival, per stream.
    last: [(usize, u64); 3],
    pub(super) duplicates: u64,
    /// Units that gap lines told of.
    pub(super) announced: u64,
    /// What a receiving application died on that had left it unread for longer than the replay window covers: the gap that
    /// docs/GUARANTEES.md names. For each unit, the lives that sent it so: one that did not note it leaves it to the next.
    forgiven: BTreeMap<(usize, u64), BTreeSet<usize>>,
    /// Units of segments that were deleted, and that a crash of the machine brought back: they come late, if ever.
    pub(super) returned: BTreeSet<(usize, u64)>,
    /// Units that are in two segments: a write that the disk refused was on it all the same, after a crash of the machine, beside the
    /// one that was made in its place.
    pub(super) twofold: BTreeSet<(usize, u64)>,
    /// Its drain gave units up, in any life so far.
    pub(super) gave_up: bool,
    /// The process that talks to it is dead: what is on its way may come, and nothing else.
    pub(super) deaf: bool,
}

/// A line in the receiver's eyes.
#[derive(Debug)]
enum Arrival<'a> {
    Unit { life: usize, seq: u64, stream: &'a str, text: Cow<'a, [u8]> },
    Gap(u64),
}

impl Receiver {
    pub(super) fn new(
        name: String,
        stream: Option<Stream>,
        itemized: bool,
        truth: Rc<RefCell<Truth>>,
        seen: Rc<RefCell<Seen>>,
    ) -> Self {
        let (first, last) = (BTreeMap::new(), [(0, 0); 3]);
        let (epoch, duplicates) = (0, 0);
        let (announced, forgiven, gave_up, deaf) = (0, BTreeMap::new(), false, false);
        let (returned, twofold) = (BTreeSet::new(), BTreeSet::new());
        Self {
            name,
            truth,
            seen,
            stream,
            itemized,
            first,
            epoch,
            last,
            duplicates,
            announced,
            forgiven,
            returned,
            twofold,
            gave_up,
            deaf,
        }
    }

    /// From here on, what came may come again: an answer was lost, a connection ended, a life began.
    pub(super) fn may_repeat(&mut self) {
        self.epoch += 1;
    }

    /// A life counted losses of what is on the disk: what it gave up is tried again.
    pub(super) fn forget_order(&mut self) {
        self.last = [(0, 0); 3];
    }

    pub(super) fn has(&self, unit: (usize, u64)) -> bool {
        self.first.contains_key(&unit)
    }

    pub(super) fn wants(&self, stream: Stream) -> bool {
        self.stream.is_none_or(|wanted| wanted == stream)
    }

    /// Different units that came, of these lives.
    pub(super) fn count(&self) -> u64 {
        self.first.len() as u64
    }

    /// Whole lines, as they lie in a body or a buffer; returns how many bytes that were.
    pub(super) fn read(&mut self, bytes: &[u8]) -> usize {
        let whole = memrchr(b'\n', bytes).map_or(0, |at| at + 1);
        bytes[..whole].split_inclusive(|&byte| byte == b'\n').for_each(|line| self.line(line));
        whole
    }

    pub(super) fn is_forgiven(&self, unit: (usize, u64)) -> bool {
        self.forgiven.contains_key(&unit)
    }

    /// How often a life may have called a unit accepted that never came.
    pub(super) fn forgiven(&self) -> u64 {
        self.forgiven.values().map(|lives| lives.len() as u64).sum()
    }

    /// The life that is lived sent it to an application that never read it.
    pub(super) fn forgive_unit(&mut self, unit: (usize, u64)) {
        let present = self.truth.borrow().0.len();
        self.forgiven.entry(unit).or_default().insert(present);
    }

    /// Whole lines that the application never read.
    pub(super) fn forgive(&mut self, bytes: &[u8]) {
        let whole = memrchr(b'\n', bytes).map_or(0, |at| at + 1);
        for line in bytes[..whole].split_inclusive(|&byte| byte == b'\n') {
            // The first may be the rest of a line whose front it did read.
            if let Some(Arrival::Unit { life, seq, .. }) = parse(line) {
                self.forgive_unit((life, seq));
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        let arrival =
            parse(line).unwrap_or_else(|| panic!("{}: not ours: {}", self.name, String::from_utf8_lossy(line)));
        let (life, seq, stream, text) = match arrival {
            Arrival::Gap(units) => {
                self.announced += units;
                return;
            }
            Arrival::Unit { life, seq, stream, text } => (life, seq, stream, text),
        };
        super::trace(|| format!("{} gets life {life}, {seq}", self.name));
        let truth = self.truth.borrow();
        let Some(unit) = truth.unit(life, seq) else { panic!("{}: invented: life {life}, {seq}", self.name) };
        assert_eq!(unit.stream.name(), stream, "{}: life {life}, {seq}: wrong stream", self.name);
        assert!(self.wants(unit.stream), "{}: life {life}, {seq}: a stream it did not ask for", self.name);
        if *unit.text != *text {
            let (written, came) = (String::from_utf8_lossy(&unit.text), String::from_utf8_lossy(&text));
            panic!("{}: life {life}, {seq}: mangled: {written:?} came as {came:?}", self.name);
        }
        // What a life called accepted, and was never read, a later one sends that finds an older note of where the drain stood.
        let forgiven = self.forgiven.get(&(life, seq)).and_then(|lives| lives.first());
        let again = forgiven.is_some_and(|&then| then < truth.0.len());
        let late = self.itemized || again || self.returned.contains(&(life, seq));
        let place = &mut self.last[unit.stream as usize];
        match self.first.get(&(life, seq)) {
            Some(&epoch) => {
                let is_due = epoch < self.epoch || self.twofold.remove(&(life, seq));
                assert!(is_due, "{}: life {life}, {seq} came twice for no reason", self.name);
                self.duplicates += 1;
                self.seen.borrow_mut().hit("a duplicate");
            }
            None => {
                assert!((life, seq) > *place || late, "{}: life {life}, {seq} came after {place:?}", self.name);
                *place = (life, seq).max(*place);
                self.first.insert((life, seq), self.epoch);
            }
        }
    }
}

/// The run of a life.
pub(super) fn run_of(life: usize) -> String {
    format!("life-{life}")
}

/// The life of a run.
pub(super) fn life_of(run: &str) -> usize {
    run["life-".len()..].parse().unwrap()
}

/// Between a message and the same in base64.
const CODED: &str = "\",\"message_base64\":\"";

fn parse(line: &[u8]) -> Option<Arrival<'_>> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix("}\n")?;
    let after = |text: &'_ str, name: &str| memmem::find(text.as_bytes(), name.as_bytes()).map(|at| at + name.len());
    let rest = &text[after(text, "\"stream\":\"")?..];
    let stream = &rest[..rest.find('"')?];
    let rest = &rest[after(rest, "\"run\":\"life-")?..];
    let (life, rest) = rest.split_once("\",\"")?;
    let number = |text: &str| text[..text.find(|byte: char| !byte.is_ascii_digit()).unwrap_or(text.len())].parse().ok();
    if let Some(lost) = rest.strip_prefix("lost\":") {
        return Some(Arrival::Gap(number(lost)?));
    }
    let rest = rest.strip_prefix("seq\":")?;
    let seq = number(rest)?;
    let rest = &rest[after(rest, ",\"message\":\"")?..];
    let text = match memmem::rfind(rest.as_bytes(), CODED.as_bytes()) {
        // A quote in a message is escaped, so this is none.
        Some(at) => BASE64_STANDARD.decode(rest[at + CODED.len()..].strip_suffix('"')?).ok()?.into(),
        None => unescape(rest.strip_suffix('"')?)?,
    };
    Some(Arrival::Unit { life: life.parse().ok()?, seq, stream, text })
}

fn unescape(text: &str) -> Option<Cow<'_, [u8]>> {
    if !text.contains('\\') {
        return Some(text.as_bytes().into());
    }
    let text: String = serde_json::from_str(&format!("\"{text}\"")).ok()?;
    Some(text.into_bytes().into())
}
