//! `application/logplex-1`: what Heroku's log drains get, so that whatever takes those takes us.
//!
//! ```text
//! 67 <190>1 2026-01-02T03:04:05.678901+00:00 web-7 shop 4121 - GET /cart 200⏎
//! ```
//!
//! RFC 5424 without structured data (`#sd=nil` puts a `-` there for strict receivers), octet-counted. The text ends in
//! exactly one LF, which is counted: Vector's receiver splits at LF and never looks at the counts. Stream is told by
//! severity; run, sequence, part and labels have no place. A gap is Heroku's own L10 line, which people have alerts on.

use super::{Encode, Format, Gap, Origin, Protocol, StampText, syslog::header_field};
use crate::{
    ledger::Loss,
    line::{Stamp, Stream, Unit},
};

/// `#sd=`: whether frames have a (nil) structured data field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// As Heroku sends them.
    Omit,
    /// `-`, as RFC 5424 wants it.
    Nil,
}

pub(crate) const PROTOCOL: Protocol = Protocol {
    content_type: "application/logplex-1",
    payload_headers: headers,
    // Heroku aims at 100 KiB, and receivers are built for that.
    bytes: 100 << 10,
    items: 1000,
    ..Protocol::PLAIN
};

/// The run's id stands at the front of a payload's key.
const RUN_LENGTH: usize = 36;

fn headers(key: &str, items: usize) -> Vec<(&'static str, String)> {
    let run = key.get(..RUN_LENGTH).unwrap_or(key);
    vec![
        ("logplex-msg-count", items.to_string()),
        // Equal on every retry: the idempotency key of the protocol.
        ("logplex-frame-id", key.to_string()),
        ("logplex-drain-token", format!("d.{run}")),
    ]
}

/// Encodes units as Logplex frames.
#[derive(Clone, Debug)]
pub struct Logplex {
    data: &'static str,
    host: String,
    /// ` HOST APP PROCID - `, and the structured data if it is there.
    origin: String,
    stamp: StampText,
}

pub(crate) fn make(format: Format, origin: &Origin) -> Box<dyn Encode> {
    let data = if let Format::Logplex(data) = format { data } else { Data::Omit };
    Box::new(Logplex::new(data, origin))
}

impl Logplex {
    pub(crate) fn new(data: Data, origin: &Origin) -> Self {
        let data = if data == Data::Nil { "- " } else { "" };
        let host = header_field(&origin.host, 255);
        let (app, instance) = (header_field(&origin.app, 48), header_field(origin.instance.wait(), 128));
        Self { data, origin: format!(" {host} {app} {instance} - {data}"), host, stamp: StampText::default() }
    }
}

/// One frame. `stamp` ends in `Z`, where Logplex has a numeric offset.
fn frame(head: &str, stamp: &str, origin: &str, text: &[u8], out: &mut Vec<u8>) {
    let time = stamp.trim_end_matches('Z');
    let pieces = [head.as_bytes(), time.as_bytes(), b"+00:00", origin.as_bytes(), text, b"\n"];
    let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.push(b' ');
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
}

impl Encode for Logplex {
    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        // local7, as Heroku has it for an app's lines.
        let head = match unit.stream {
            Stream::Stdout => "<190>1 ",
            Stream::Stderr => "<187>1 ",
            Stream::Own => "<189>1 ",
        };
        frame(head, self.stamp.render(unit.time), &self.origin, unit.text, out);
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        let overflowed = gap.lost.of(Loss::Overflow) == gap.lost.total();
        let code = if overflowed { "L10 (output buffer overflow)" } else { "L13 (local delivery error)" };
        let since = StampText::default().render(Stamp(gap.first.0)).replace('Z', "+00:00");
        let text = format!("Error {code}: {} messages dropped since {since}.", gap.lost.total());
        let origin = format!(" {} heroku logplex - {}", self.host, self.data);
        frame("<172>1 ", self.stamp.render(gap.last), &origin, text.as_bytes(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format::{Encoder, testing::*},
        ledger::Losses,
    };
    use proptest::prelude::*;

    fn encoded(data: Data, unit: &Unit<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        Encoder::new(Format::Logplex(data), origin()).encode(unit, &mut out);
        out
    }

    #[test]
    fn a_frame_has_no_structured_data_or_a_nil_one() {
        let line = unit(1, "café ok".as_bytes());
        assert_eq!(
            encoded(Data::Omit, &line),
            "67 <190>1 2026-01-02T03:04:05.678901+00:00 web-7 shop 4121 - café ok\n".as_bytes()
        );
        assert_eq!(
            encoded(Data::Nil, &line),
            "69 <190>1 2026-01-02T03:04:05.678901+00:00 web-7 shop 4121 - - café ok\n".as_bytes()
        );
    }

    #[test]
    fn a_gap_is_the_line_that_people_have_alerts_on() {
        let mut lost = Losses::default();
        lost.add(Loss::Overflow, 37);
        let mut out = Vec::new();
        Encoder::new(Format::Logplex(Data::Omit), origin())
            .encode_gap(&Gap { lost, first: TIME, last: TIME, among: 0 }, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "159 <172>1 2026-01-02T03:04:05.678901+00:00 web-7 heroku logplex - Error L10 (output buffer overflow): \
             37 messages dropped since 2026-01-02T03:04:05.678901+00:00.\n"
        );
    }

    #[test]
    fn the_headers_name_the_payload_and_count_its_frames() {
        let run = "01890a5d-ac96-774b-bcce-b302099a8057";
        let headers = headers(&format!("{run}-0-7"), 42);
        let wanted = [
            ("logplex-msg-count", "42".to_string()),
            ("logplex-frame-id", format!("{run}-0-7")),
            ("logplex-drain-token", format!("d.{run}")),
        ];
        assert_eq!(headers, wanted);
    }

    proptest! {
        /// Both ways of reading that are about: by the counts, and by LF alone as Vector does.
        #[test]
        fn frames_read_back_by_count_and_by_line(units in prop::collection::vec(any_unit(), 1..8)) {
            let mut out = Vec::new();
            let mut encoder = Encoder::new(Format::Logplex(Data::Omit), origin());
            units.iter().for_each(|owned| encoder.encode(&owned.unit(), &mut out));
            let lines: Vec<&[u8]> = out.split_inclusive(|&byte| byte == b'\n').collect();
            prop_assert_eq!(lines.len(), units.len());
            let mut rest = &out[..];
            for (owned, line) in units.iter().zip(lines) {
                let space = rest.iter().position(|&byte| byte == b' ').unwrap();
                let length: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
                let frame = &rest[space + 1..][..length];
                prop_assert_eq!(&rest[..space + 1 + length], line);
                let fields: Vec<&[u8]> = frame.splitn(7, |&byte| byte == b' ').collect();
                prop_assert_eq!(fields[6].strip_suffix(b"\n").unwrap(), &owned.text[..]);
                rest = &rest[space + 1 + length..];
            }
            prop_assert!(rest.is_empty());
        }
    }
}
