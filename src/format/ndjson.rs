//! NDJSON: one JSON object a line, for webhooks and for people with `jq`.
//!
//! ```json
//! {"ts":"2026-01-02T03:04:05.678901Z","stream":"stdout","level":"info","host":"web-7","app":"shop","instance":"4121","run":"…","seq":42,"message":"GET /cart 200"}
//! ```
//!
//! Always valid UTF-8 and valid JSON, whatever the app wrote. Text that is not UTF-8 has U+FFFD in `message` and its exact bytes in
//! `message_base64`. Parts of an over-long line carry `part` and `last`. `level` is the stream's (info or error, as Docker's
//! syslog driver has it), not a guess at the text. (`run`, `seq`) names a line for ever: receivers may drop duplicates by it.

use super::{Encode, Gap, OWN_STREAM, Origin, Protocol, StampText, level};
use crate::line::{Stamp, Unit};
use base64::{Engine, prelude::BASE64_STANDARD};

/// What the fields are called that receivers have names of their own for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// The time's.
    pub time: &'static str,
    /// The text's.
    pub message: &'static str,
    /// An empty text is sent as `-`, with its exact bytes (none) beside it: the receiver replaces or drops empty ones.
    pub no_empty: bool,
}

/// The names in an object of ours.
pub const NAMES: Names = Names { time: "ts", message: "message", no_empty: false };

pub(crate) const PROTOCOL: Protocol = Protocol { content_type: "application/x-ndjson", ..Protocol::PLAIN };

/// Encodes units as JSON objects.
#[derive(Clone, Debug)]
pub struct Ndjson {
    names: Names,
    /// `,"host":…,"run":"…"`, the same in every object.
    origin: Vec<u8>,
    stamp: StampText,
    /// Everything before the sequence number, per stream, with the time that it holds for.
    prefixes: [(Option<Stamp>, Vec<u8>); 3],
}

impl Ndjson {
    pub(crate) fn new(origin: &Origin, names: Names) -> Self {
        let mut bytes = Vec::new();
        let fields =
            [("host", &*origin.host), ("app", &origin.app), ("instance", origin.instance.wait()), ("run", &origin.run)];
        for (name, value) in fields {
            bytes.extend_from_slice(format!(",\"{name}\":\"").as_bytes());
            escape(value, &mut bytes);
            bytes.push(b'"');
        }
        if !origin.labels.is_empty() {
            bytes.extend_from_slice(b",\"labels\":");
            object(&origin.labels, &mut bytes);
        }
        Self { names, origin: bytes, stamp: StampText::default(), prefixes: Default::default() }
    }

    pub(crate) fn encode(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        let level = level(unit.stream);
        let (time, prefix) = &mut self.prefixes[unit.stream as usize];
        if *time != Some(unit.time) {
            prefix.clear();
            head(self.names.time, self.stamp.render(unit.time), unit.stream.name(), level, &self.origin, prefix);
            prefix.extend_from_slice(b",\"seq\":");
            *time = Some(unit.time);
        }
        out.reserve(prefix.len() + unit.text.len() + 64);
        out.extend_from_slice(prefix);
        out.extend_from_slice(itoa::Buffer::new().format(unit.seq).as_bytes());
        if let Some(part) = unit.part {
            out.extend_from_slice(b",\"part\":");
            out.extend_from_slice(itoa::Buffer::new().format(part.number).as_bytes());
            out.extend_from_slice(if part.last { b",\"last\":true" } else { b",\"last\":false" });
        }
        if unit.text.is_empty() && self.names.no_empty {
            out.extend_from_slice(format!(",\"{}\":\"-\",\"message_base64\":\"\"", self.names.message).as_bytes());
        } else {
            message(self.names.message, unit.text, out);
        }
        out.extend_from_slice(b"}\n");
    }

    pub(crate) fn encode_gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        head(self.names.time, self.stamp.render(gap.last), OWN_STREAM, "warning", &self.origin, out);
        out.extend_from_slice(format!(",\"lost\":{},\"lost_by\":{{", gap.lost.total()).as_bytes());
        for (index, (reason, units)) in gap.lost.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            out.extend_from_slice(format!("{comma}\"{}\":{units}", reason.name()).as_bytes());
        }
        out.push(b'}');
        message(self.names.message, gap.message().as_bytes(), out);
        out.extend_from_slice(b"}\n");
    }
}

impl Encode for Ndjson {
    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        self.encode(unit, out);
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        self.encode_gap(gap, out);
    }
}

/// Appends `{"name":"value",…}`.
pub(super) fn object(fields: &[(String, String)], out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (name, value)) in fields.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
        escape(name, out);
        out.extend_from_slice(b"\":\"");
        escape(value, out);
        out.push(b'"');
    }
    out.push(b'}');
}

/// `{"ts":…,"stream":…,"level":…` and the origin.
fn head(name: &str, ts: &str, stream: &str, level: &str, origin: &[u8], out: &mut Vec<u8>) {
    let pieces = ["{\"", name, "\":\"", ts, "\",\"stream\":\"", stream, "\",\"level\":\"", level, "\""];
    pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
    out.extend_from_slice(origin);
}

/// `,"message":…` (or what it is called), and `,"message_base64":…` where the text is not UTF-8.
pub(super) fn message(name: &str, text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    if !text_value(text, out) {
        out.extend_from_slice(b",\"message_base64\":\"");
        base64_into(text, out);
        out.push(b'"');
    }
}

/// Appends `text` as a JSON string, U+FFFD for what is not UTF-8; false if there was any of that.
pub(super) fn text_value(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.push(b'"');
    let whole = match std::str::from_utf8(text) {
        Ok(text) => {
            escape(text, out);
            true
        }
        Err(_) => {
            for chunk in text.utf8_chunks() {
                escape(chunk.valid(), out);
                if !chunk.invalid().is_empty() {
                    out.extend_from_slice("\u{fffd}".as_bytes());
                }
            }
            false
        }
    };
    out.push(b'"');
    whole
}

/// Appends the standard base64 of `bytes`, padded, without an allocation of its own.
pub(super) fn base64_into(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = BASE64_STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}

/// Appends `text` as the inside of a JSON string (RFC 8259 §7): `"`, `\` and the control characters are escaped.
///
/// Most text needs none of that, so it is looked at in blocks whose check compiles to vector instructions; in the others
/// eight bytes are looked at together. What stands between two escapes is copied in one go.
pub(super) fn escape(text: &str, out: &mut Vec<u8>) {
    const BLOCK: usize = 32;
    let bytes = text.as_bytes();
    let mut copied = 0;
    let mut escape_at = |at: usize, out: &mut Vec<u8>| {
        out.extend_from_slice(&bytes[copied..at]);
        escape_byte(bytes[at], out);
        copied = at + 1;
    };
    let mut start = 0;
    for block in bytes.chunks(BLOCK) {
        if block.iter().fold(false, |dirty, &byte| dirty | needs_escape(byte)) {
            let (words, rest) = block.as_chunks();
            for (at, word) in (start..).step_by(8).zip(words) {
                let mut marks = escape_marks(u64::from_le_bytes(*word));
                while marks != 0 {
                    escape_at(at + marks.trailing_zeros() as usize / 8, out);
                    marks &= marks - 1;
                }
            }
            let rest_at = start + words.len() * 8;
            (rest_at..).zip(rest).filter(|&(_, &byte)| needs_escape(byte)).for_each(|(at, _)| escape_at(at, out));
        }
        start += block.len();
    }
    out.extend_from_slice(&bytes[copied..]);
}

/// The high bit of each byte of `word` that [`needs_escape`]. No sum carries into the next byte, so each bit is exact.
const fn escape_marks(word: u64) -> u64 {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    const LOW: u64 = each(0x7f);
    const fn at_least(word: u64, least: u8) -> u64 {
        ((word & LOW) + each(0x80 - least)) | word
    }
    let (quote, backslash) = (word ^ each(b'"'), word ^ each(b'\\'));
    !(at_least(word, 0x20) & at_least(quote, 1) & at_least(backslash, 1)) & !LOW
}

const fn needs_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        0..0x20 => {
            let [high, low] = [byte >> 4, byte & 15].map(|digit| HEX[digit as usize]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
        _ => out.push(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format::{Encoder, Format, testing::*},
        ledger::{Loss, Losses},
        line::{Part, Stream},
    };
    use proptest::prelude::*;

    fn encoded(unit: &Unit<'_>) -> String {
        let mut out = Vec::new();
        Encoder::new(Format::Ndjson, origin()).encode(unit, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_one_object() {
        assert_eq!(
            encoded(&unit(42, b"GET /cart \"200\"\x1b[0m\\\t\xf0\x9f\x99\x82")),
            concat!(
                r#"{"ts":"2026-01-02T03:04:05.678901Z","stream":"stdout","level":"info","host":"web-7","app":"shop","#,
                r#""instance":"4121","run":"0197-b7","seq":42,"message":"GET /cart \"200\"\u001b[0m\\\t🙂"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_part_on_stderr_carries_its_number_and_its_exact_bytes() {
        let part = Some(Part { number: 2, last: true });
        assert_eq!(
            encoded(&Unit { stream: Stream::Stderr, part, ..unit(43, b"\xff rest") }),
            concat!(
                r#"{"ts":"2026-01-02T03:04:05.678901Z","stream":"stderr","level":"error","host":"web-7","app":"shop","#,
                r#""instance":"4121","run":"0197-b7","seq":43,"part":2,"last":true,"#,
                "\"message\":\"\u{fffd} rest\",\"message_base64\":\"/yByZXN0\"}\n"
            )
        );
    }

    #[test]
    fn a_gap_is_a_warning_with_counts() {
        let mut lost = Losses::default();
        lost.add(Loss::Overflow, 1_200);
        lost.add(Loss::Rejected, 34);
        let mut out = Vec::new();
        Encoder::new(Format::Ndjson, origin()).encode_gap(&Gap { lost, first: TIME, last: TIME, among: 0 }, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"ts":"2026-01-02T03:04:05.678901Z","stream":"lastword","level":"warning","host":"web-7","#,
                r#""app":"shop","instance":"4121","run":"0197-b7","lost":1234,"lost_by":{"overflow":1200,"rejected":34},"#,
                r#""message":"lastword: 1,234 lines lost at 2026-01-02T03:04:05.678901Z (overflow 1,200, rejected 34)"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn an_origin_with_quotes_and_controls_stays_valid_json() {
        let mut odd = origin();
        odd.app = "sh\"op\\\n".into();
        let mut out = Vec::new();
        Encoder::new(Format::Ndjson, odd.clone()).encode(&unit(1, b""), &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["app"], odd.app.as_str());
        assert_eq!(value["message"], "");
    }

    #[test]
    fn each_byte_is_escaped_at_each_place_of_a_word_and_of_a_block() {
        for byte in 0..128_u8 {
            for at in 0..70 {
                let mut text = "é".repeat(35).into_bytes();
                // Whole characters go, so that what is left is text.
                text.splice(at / 2 * 2..at / 2 * 2 + 2, [b'a', byte].into_iter().cycle().skip(at % 2).take(2));
                let text = String::from_utf8(text).unwrap();
                let mut out = b"\"".to_vec();
                escape(&text, &mut out);
                out.push(b'"');
                assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text, "{byte} at {at}");
                let bare = out[1..out.len() - 1].iter().filter(|&&byte| byte < 0x20).count();
                assert_eq!(bare, 0, "{byte} at {at}");
            }
        }
    }

    proptest! {
        /// serde_json is the independent reader.
        #[test]
        fn every_unit_reads_back_to_the_byte(owned in any_unit()) {
            let line = encoded(&owned.unit());
            prop_assert_eq!(line.find('\n'), Some(line.len() - 1), "one LF, at the end");
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            let text = match value.get("message_base64") {
                Some(exact) => {
                    prop_assert!(std::str::from_utf8(&owned.text).is_err());
                    prop_assert_eq!(value["message"].as_str().unwrap(), String::from_utf8_lossy(&owned.text));
                    BASE64_STANDARD.decode(exact.as_str().unwrap()).unwrap()
                }
                None => value["message"].as_str().unwrap().as_bytes().to_vec(),
            };
            prop_assert_eq!(text, owned.text);
            prop_assert_eq!(value["seq"].as_u64(), Some(owned.seq));
            prop_assert_eq!(value["stream"].as_str(), Some(owned.stream.name()));
            let part = value.get("part").map(|number| Part {
                number: number.as_u64().unwrap() as u32,
                last: value["last"].as_bool().unwrap(),
            });
            prop_assert_eq!(part, owned.part);
        }
    }
}
