//! Syslog: RFC 5424 messages, framed for TCP (RFC 6587) or for datagrams (RFC 5426).
//!
//! ```text
//! <134>1 2026-01-02T03:04:05.678901Z web-7 shop 4121 stdout [meta sequenceId="42"][lastword@32473 run="…" seq="42"] GET /cart 200
//! ```
//!
//! Facility local0; stdout is info, stderr err (Docker's choice), lastword's own lines notice, a gap warning. The text goes out as it is, ESC
//! and broken UTF-8 included (MSG-ANY of §6.4), but for what receivers tear or drop (see [`escaped`]); and without a byte order mark, which
//! rsyslog would keep in the text. Nothing is cut: over-long lines were split into parts before, and where a receiver's limit is
//! known (`#max-message=`), a unit over it travels as several messages of the same `seq`, with `piece` and `pieces`.

use super::{Encode, Format, Gap, OWN_STREAM, Origin, StampText};
use crate::line::{Stamp, Stream, Unit};
use std::borrow::Cow;

/// How messages are told apart on a stream (RFC 6587), or that datagrams do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `MSG-LEN SP SYSLOG-MSG` (§3.4.1).
    Counted,
    /// A trailing LF (§3.4.2).
    Lf,
    /// One message a datagram (RFC 5426).
    Datagram,
}

const LOCAL0: u8 = 16 << 3;
const ERR: u8 = LOCAL0 | 3;
pub(super) const WARNING: u8 = LOCAL0 | 4;
const NOTICE: u8 = LOCAL0 | 5;
const INFO: u8 = LOCAL0 | 6;

/// `sequenceId` counts 1..=2147483647 and starts over at 1 (RFC 5424 §7.3.1).
const SEQUENCE_ID_MAX: u64 = i32::MAX as u64;

/// Encodes units as syslog messages.
#[derive(Clone, Debug)]
pub struct Syslog {
    framing: Framing,
    /// Longest message in bytes, framing not counted.
    limit: usize,
    /// ` HOSTNAME APP-NAME PROCID `.
    origin: String,
    /// `[lastword@32473 run="…"`, the same in every message.
    run: String,
    stamp: StampText,
    /// Everything before the sequence id, per stream, with the time that it holds for.
    prefixes: [(Option<Stamp>, Vec<u8>); 3],
}

impl Syslog {
    pub(crate) fn new(framing: Framing, origin: &Origin) -> Self {
        Self {
            framing,
            limit: usize::MAX,
            origin: format!(
                " {} {} {} ",
                header_field(&origin.host, 255),
                header_field(&origin.app, 48),
                header_field(origin.instance.wait(), 128)
            ),
            run: format!("{}[lastword@32473 run=\"{}\"", label_element(&origin.labels), param_value(&origin.run)),
            stamp: StampText::default(),
            prefixes: Default::default(),
        }
    }

    pub(crate) fn encode(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        let (time, prefix) = &mut self.prefixes[unit.stream as usize];
        if *time != Some(unit.time) {
            prefix.clear();
            header(priority(unit.stream), self.stamp.render(unit.time), &self.origin, unit.stream.name(), prefix);
            prefix.extend_from_slice(b"[meta sequenceId=\"");
            *time = Some(unit.time);
        }
        let (mut seq, mut id) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (mut part, mut scratch) = (&[][..], [0; PART_MAX]);
        if let Some(place) = unit.part {
            part = part_params(place, &mut scratch);
        }
        let text = escaped(self.framing, unit.text);
        let pieces = [
            &prefix[..],
            id.format((unit.seq.max(1) - 1) % SEQUENCE_ID_MAX + 1).as_bytes(),
            b"\"]",
            self.run.as_bytes(),
            b" seq=\"",
            seq.format(unit.seq).as_bytes(),
            b"\"",
            part,
            b"] ",
            &text,
        ];
        if text.len() < self.limit && pieces.iter().map(|piece| piece.len()).sum::<usize>() <= self.limit {
            return frame(self.framing, &pieces, out);
        }
        let [head @ .., end, text] = pieces;
        let head = head.concat();
        let room = self.limit.saturating_sub(head.len() + end.len() + PIECE_MAX).max(PIECE_MIN);
        let texts = cut(text, room);
        for (number, text) in (1..).zip(&texts) {
            let params = format!(" piece=\"{number}\" pieces=\"{}\"", texts.len());
            frame(self.framing, &[&head, params.as_bytes(), end, text], out);
        }
    }

    pub(crate) fn encode_gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        let mut head = Vec::new();
        header(WARNING, self.stamp.render(gap.last), &self.origin, OWN_STREAM, &mut head);
        let mut params = format!(" lost=\"{}\"", gap.lost.total());
        for (reason, units) in gap.lost.iter() {
            params += &format!(" {}=\"{units}\"", reason.name());
        }
        let text = gap.message();
        let pieces = [&head[..], self.run.as_bytes(), params.as_bytes(), b"] ", text.as_bytes()];
        frame(self.framing, &pieces, out);
    }
}

/// PRI of a stream's lines.
pub(super) const fn priority(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => INFO,
        Stream::Stderr => ERR,
        Stream::Own => NOTICE,
    }
}

/// Longest ` piece="1234567" pieces="1234567"`.
const PIECE_MAX: usize = 36;
/// A piece is never shorter, whatever the limit: there is an end to them.
pub(super) const PIECE_MIN: usize = 64;

/// Pieces of at most `room` bytes, no character cut in two if the text is UTF-8.
pub(super) fn cut(mut text: &[u8], room: usize) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while text.len() > room {
        let within = |at: &usize| text[*at] & 0xc0 == 0x80;
        let at = (room - 3..=room).rev().find(|at| !within(at)).unwrap_or(room);
        let (piece, rest) = text.split_at(at);
        pieces.push(piece);
        text = rest;
    }
    pieces.push(text);
    pieces
}

pub(crate) fn make(format: Format, origin: &Origin) -> Box<dyn Encode> {
    let framing = if let Format::Syslog(framing) = format { framing } else { Framing::Counted };
    Box::new(Syslog::new(framing, origin))
}

impl Encode for Syslog {
    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        self.encode(unit, out);
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        self.encode_gap(gap, out);
    }

    fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }
}

/// `[labels@32473 k="v"]`, or nothing.
fn label_element(labels: &[(String, String)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let params = labels.iter().map(|(name, value)| format!(" {}=\"{}\"", param_name(name), param_value(value)));
    format!("[labels@32473{}]", params.collect::<String>())
}

/// A PARAM-NAME: 1 to 32 octets of 33..=126 but `=`, `]` and `"` (§6.3.3).
fn param_name(text: &str) -> String {
    header_field(text, 32).replace(['=', ']', '"'], "_")
}

/// HEADER of §6 with a space behind it.
fn header(priority: u8, ts: &str, origin: &str, msgid: &str, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    for piece in ["<", digits.format(priority), ">1 ", ts, origin, msgid, " "] {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// Longest ` part="4294967295" last="0"`.
const PART_MAX: usize = 28;

fn part_params(part: crate::line::Part, scratch: &mut [u8; PART_MAX]) -> &[u8] {
    let mut number = itoa::Buffer::new();
    let last: &[u8] = if part.last { b"\" last=\"1\"" } else { b"\" last=\"0\"" };
    let mut len = 0;
    for piece in [b" part=\"", number.format(part.number).as_bytes(), last] {
        scratch[len..len + piece.len()].copy_from_slice(piece);
        len += piece.len();
    }
    &scratch[..len]
}

/// Appends the message that `pieces` make up, so that its length is known before its first byte and each byte is copied once.
pub(super) fn frame(framing: Framing, pieces: &[&[u8]], out: &mut Vec<u8>) {
    let len = pieces.iter().map(|piece| piece.len()).sum::<usize>();
    out.reserve(len + 24);
    if framing == Framing::Counted {
        out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
        out.push(b' ');
    }
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    if framing == Framing::Lf {
        out.push(b'\n');
    }
}

/// A text as it can travel: `#` and three octal digits, as rsyslog writes them, stand for what receivers do not take. That is a
/// NUL, which both rsyslog and syslog-ng drop at the end of a message, and at which syslog-ng's `network()` tears one in
/// two; with LF framing also a newline (`--multiline`), and a CR before the newline that ends the message.
pub(crate) fn escaped(framing: Framing, text: &[u8]) -> Cow<'_, [u8]> {
    let by_line = framing == Framing::Lf;
    let (text, end) = match text.strip_suffix(b"\r") {
        Some(rest) if by_line => (rest, &b"#015"[..]),
        _ => (text, &b""[..]),
    };
    let mut rest = text;
    let mut out = Vec::new();
    // Without lines there is just one of the two to look for.
    while let Some(at) = memchr::memchr2(0, if by_line { b'\n' } else { 0 }, rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(if rest[at] == 0 { b"#000" } else { b"#012" });
        rest = &rest[at + 1..];
    }
    if out.is_empty() && end.is_empty() {
        return Cow::Borrowed(text);
    }
    Cow::Owned([&out, rest, end].concat())
}

/// A HEADER field: at most `max` octets of 33..=126 (§6.2.4–6.2.6); others become `_`, and nothing becomes `-` (NILVALUE).
pub(super) fn header_field(text: &str, max: usize) -> String {
    let clean = |byte: u8| if byte.is_ascii_graphic() { char::from(byte) } else { '_' };
    let field: String = text.bytes().take(max).map(clean).collect();
    if field.is_empty() { "-".into() } else { field }
}

/// A PARAM-VALUE: exactly `"`, `\` and `]` are escaped (§6.3.3); a line feed, which may stand there, would break LF framing.
fn param_value(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\\' | ']' => value.extend(['\\', letter]),
            '\n' => value.push(' '),
            _ => value.push(letter),
        }
    }
    value
}

#[cfg(test)]
#[path = "syslog_tests.rs"]
mod tests;
