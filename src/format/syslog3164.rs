//! RFC 3164 syslog, for receivers that know nothing newer: `#rfc=3164`.
//!
//! ```text
//! <134>Jan  2 03:04:05 web-7 shop[4121]: GET /cart 200
//! ```
//!
//! The time is UTC, to the second, without a year (§4.1.2 has it local; a container has no zone worth having). There is no
//! place for run, sequence, stream, part and labels: stream is told by severity alone. The text goes out as with RFC 5424; over a
//! receiver's known limit (`#max-message=`) in several messages, which nothing marks as pieces.

use super::{
    Encode, Format, Gap, Origin,
    syslog::{Framing, PIECE_MIN, WARNING, cut, escaped, frame, header_field, priority},
};
use crate::line::{Stamp, Unit};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Encodes units as RFC 3164 messages.
#[derive(Clone, Debug)]
pub struct Syslog3164 {
    framing: Framing,
    /// Longest message in bytes, framing not counted.
    limit: usize,
    /// ` HOSTNAME TAG[PID]: `.
    origin: String,
    second: Option<i64>,
    /// `Jan  2 03:04:05` of that second.
    stamp: String,
}

pub(crate) fn make(format: Format, origin: &Origin) -> Box<dyn Encode> {
    let framing = if let Format::Syslog3164(framing) = format { framing } else { Framing::Lf };
    Box::new(Syslog3164::new(framing, origin))
}

impl Syslog3164 {
    pub(crate) fn new(framing: Framing, origin: &Origin) -> Self {
        // TAG is letters and digits, at most 32 of them (§4.1.3); receivers take `-` and `_` too, and need what ends it.
        let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '_' };
        let tag: String = header_field(&origin.app, 32).chars().map(plain).collect();
        let pid: String = header_field(origin.instance.wait(), 32).chars().map(plain).collect();
        Self {
            framing,
            limit: usize::MAX,
            origin: format!(" {} {tag}[{pid}]: ", header_field(&origin.host, 255)),
            second: None,
            stamp: String::new(),
        }
    }

    fn message(&mut self, priority: u8, time: Stamp, text: &[u8], out: &mut Vec<u8>) {
        let second = time.0.div_euclid(1_000_000_000);
        if self.second != Some(second) {
            self.stamp = rendered(second);
            self.second = Some(second);
        }
        let mut digits = itoa::Buffer::new();
        let head = [b"<", digits.format(priority).as_bytes(), b">", self.stamp.as_bytes(), self.origin.as_bytes()];
        let room = self.limit.saturating_sub(head.iter().map(|piece| piece.len()).sum()).max(PIECE_MIN);
        let [a, b, c, d, e] = head;
        let text = escaped(self.framing, text);
        if text.len() <= room {
            return frame(self.framing, &[a, b, c, d, e, &text], out);
        }
        cut(&text, room).into_iter().for_each(|text| frame(self.framing, &[a, b, c, d, e, text], out));
    }
}

fn rendered(second: i64) -> String {
    let Ok(stamp) = jiff::Timestamp::from_second(second) else { return "Jan  1 00:00:00".into() };
    let time = jiff::tz::Offset::UTC.to_datetime(stamp);
    let month = usize::try_from(time.month()).ok().and_then(|month| MONTHS.get(month - 1)).unwrap_or(&"Jan");
    format!("{month} {:2} {:02}:{:02}:{:02}", time.day(), time.hour(), time.minute(), time.second())
}

impl Encode for Syslog3164 {
    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        self.message(priority(unit.stream), unit.time, unit.text, out);
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        self.message(WARNING, gap.last, gap.message().as_bytes(), out);
    }

    fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format::{Encoder, testing::*},
        line::Stream,
    };
    use proptest::prelude::*;

    fn encoded(framing: Framing, unit: &Unit<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        Encoder::new(Format::Syslog3164(framing), origin()).encode(unit, &mut out);
        out
    }

    #[test]
    fn a_day_has_two_columns_and_the_tag_ends_in_a_colon() {
        let out = encoded(Framing::Lf, &unit(1, b"GET /cart 200"));
        assert_eq!(out, b"<134>Jan  2 03:04:05 web-7 shop[4121]: GET /cart 200\n");
        let later = Unit { time: Stamp(TIME.0 + 86_400_000_000_000 * 20), stream: Stream::Stderr, ..unit(2, b"") };
        assert_eq!(encoded(Framing::Counted, &later), b"39 <131>Jan 22 03:04:05 web-7 shop[4121]: ");
    }

    #[test]
    fn a_line_over_the_limit_travels_in_messages_that_fit() {
        let (text, mut out) = ("x".repeat(300), Vec::new());
        let mut encoder = Encoder::new(Format::Syslog3164(Framing::Lf), origin()).limited(Some(120));
        encoder.encode(&unit(1, text.as_bytes()), &mut out);
        let messages: Vec<_> = out.split(|&byte| byte == b'\n').filter(|message| !message.is_empty()).collect();
        assert!(messages.len() > 2 && messages.iter().all(|message| message.len() <= 120), "{messages:?}");
        assert_eq!(out.iter().filter(|&&byte| byte == b'x').count(), 300);
    }

    proptest! {
        #[test]
        fn the_text_behind_the_tag_is_the_line(owned in any_unit()) {
            let out = encoded(Framing::Datagram, &owned.unit());
            let mark = b" web-7 shop[4121]: ";
            let at = out.windows(mark.len()).position(|window| window == mark).unwrap();
            prop_assert_eq!(at, "<134>Jan  2 03:04:05".len());
            prop_assert_eq!(&out[at + mark.len()..], &*escaped(Framing::Datagram, &owned.text));
        }
    }
}
