//! Small pieces of JSON that the formats put together: fields, numbers, times.

use super::{
    Unit,
    ndjson::{base64_into, escape},
};
use crate::line::{Part, Stamp};

/// Appends `"name":"value"` behind a comma, or behind nothing at the start of an object.
pub(super) fn text(name: &str, value: &str, out: &mut Vec<u8>) {
    key(name, out);
    out.push(b'"');
    escape(value, out);
    out.push(b'"');
}

/// Appends `"name":value` in the same way.
pub(super) fn number(name: &str, value: impl itoa::Integer, out: &mut Vec<u8>) {
    key(name, out);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `"name":` in the same way.
pub(super) fn key(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(if out.last() == Some(&b'{') { b"\"" } else { b",\"" });
    escape(name, out);
    out.extend_from_slice(b"\":");
}

/// Appends `"part":2,"last":true`, if there is a part.
pub(super) fn part(prefix: &str, part: Option<Part>, out: &mut Vec<u8>) {
    if let Some(part) = part {
        number(&format!("{prefix}part"), part.number, out);
        key(&format!("{prefix}last"), out);
        out.extend_from_slice(if part.last { b"true" } else { b"false" });
    }
}

/// Appends what tells a unit from others, for receivers that take nothing but texts: `"seq":"42"`, a part's number and
/// whether it is the last, and the exact bytes where the text that stands elsewhere is not the `whole`.
pub(super) fn unit_in_texts(unit: &Unit<'_>, whole: bool, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    text("seq", digits.format(unit.seq), out);
    if let Some(part) = unit.part {
        text("part", digits.format(part.number), out);
        text("last", if part.last { "true" } else { "false" }, out);
    }
    if !whole {
        out.extend_from_slice(b",\"message_base64\":\"");
        base64_into(unit.text, out);
        out.push(b'"');
    }
}

/// Appends seconds since the epoch with three decimals. Made of integers: receivers refuse an exponent (Splunk's code 15).
pub(super) fn seconds(stamp: Stamp, out: &mut Vec<u8>) {
    let millis = millis(stamp);
    if millis < 0 {
        out.push(b'-');
    }
    let (whole, rest) = (millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000);
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    out.push(b'.');
    out.extend([rest / 100, rest / 10 % 10, rest % 10].map(|digit| b'0' + digit as u8));
}

/// Milliseconds since the epoch, cut.
pub(super) const fn millis(stamp: Stamp) -> i64 {
    stamp.0.div_euclid(1_000_000)
}

/// Whether receivers that refuse blank texts may take this for one.
pub(super) fn is_blank(text: &[u8]) -> bool {
    let is_nothing = |letter: char| letter.is_whitespace() || letter.is_control() || letter == '\u{feff}';
    match std::str::from_utf8(text) {
        Ok(text) => text.chars().all(is_nothing),
        // U+FFFD is something.
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_plain_decimals() {
        let shown = |nanos| {
            let mut out = Vec::new();
            seconds(Stamp(nanos), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(1_767_323_045_678_901_234), "1767323045.678");
        assert_eq!(shown(5_000_000), "0.005");
        assert_eq!(shown(-1), "-0.001");
        assert_eq!(shown(i64::MIN), "-9223372036.855");
    }

    #[test]
    fn blank_is_what_has_nothing_to_see() {
        for blank in ["", " ", "\t\r", "\u{2028}", "\0\u{1b}", "\u{feff}"] {
            assert!(is_blank(blank.as_bytes()), "{blank:?}");
        }
        assert!(!is_blank(b" x ") && !is_blank(b"\xff") && !is_blank(b"0"));
    }
}
