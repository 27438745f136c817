//! GELF 1.1, Graylog's format: over TCP with a NUL behind each message, or over HTTP.
//!
//! ```json
//! {"version":"1.1","host":"web-7","short_message":"GET /cart 200","timestamp":1767323045.678,"level":6,"_app":"shop","_stream":"stdout","_seq":42}
//! ```
//!
//! Graylog's HTTP input answers 202 before it parses, and keeps just the first message of a body unless its "bulk
//! receiving" is on; so a request has one message, unless `#bulk=on` says otherwise. Graylog drops blank messages after it
//! took them: a blank line travels as `-`, its exact bytes in `_message_base64`, as do those of text that is not UTF-8.

use super::{
    Encode, Format, Gap, OWN_STREAM, Origin, Protocol,
    http::{Compress, PathRule},
    json,
    ndjson::{base64_into, text_value},
};
use crate::line::{Stamp, Stream, Unit};

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A byte stream: a NUL behind each message.
    Stream,
    /// One message a request.
    Single,
    /// Many messages a request, a line each.
    Bulk,
}

const SINGLE: Protocol = Protocol {
    content_type: "application/json",
    // Exactly this, without a query.
    path: PathRule::IfEmpty("/gelf"),
    compress: &[Compress::Off, Compress::Gzip],
    items: 1,
    ..Protocol::PLAIN
};

/// Graylog's `max_chunk_size` is 64 KiB, before compression.
const BULK: Protocol = Protocol { bytes: 48 << 10, items: 1000, ..SINGLE };

pub(crate) const fn protocol(carrier: Carrier) -> &'static Protocol {
    match carrier {
        Carrier::Stream | Carrier::Single => &SINGLE,
        Carrier::Bulk => &BULK,
    }
}

/// Encodes units as GELF messages.
#[derive(Clone, Debug)]
pub struct Gelf {
    /// Behind each message.
    end: &'static [u8],
    /// `{"version":"1.1","host":…`.
    head: Vec<u8>,
    /// `,"_app":…` and on.
    origin: Vec<u8>,
}

pub(crate) fn make(format: Format, origin: &Origin) -> Box<dyn Encode> {
    let carrier = if let Format::Gelf(carrier) = format { carrier } else { Carrier::Stream };
    Box::new(Gelf::new(carrier, origin))
}

impl Gelf {
    pub(crate) fn new(carrier: Carrier, origin: &Origin) -> Self {
        let mut head = b"{".to_vec();
        json::text("version", "1.1", &mut head);
        json::text("host", &origin.host, &mut head);
        let mut fields = Vec::new();
        let mut taken = vec!["app", "instance", "run", "stream", "seq", "part", "last", "lost", "message_base64", "id"];
        json::text("_app", &origin.app, &mut fields);
        json::text("_instance", origin.instance.wait(), &mut fields);
        json::text("_run", &origin.run, &mut fields);
        for (name, value) in &origin.labels {
            // `[\w.-]+`; `_id` is forbidden.
            let plain =
                |letter: char| if letter.is_ascii_alphanumeric() || "_.-".contains(letter) { letter } else { '_' };
            let plain: String = name.chars().map(plain).collect();
            let prefix = if taken.contains(&&*plain) { "_label_" } else { "_" };
            json::text(&format!("{prefix}{plain}"), value, &mut fields);
            taken.push(name);
        }
        let end: &[u8] = match carrier {
            Carrier::Stream => b"\0",
            Carrier::Single => b"",
            Carrier::Bulk => b"\n",
        };
        Self { end, head, origin: fields }
    }

    fn message(&self, text: &[u8], time: Stamp, level: u8, stream: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        json::key("short_message", out);
        let is_blank = json::is_blank(text);
        let whole = if is_blank { text_value(b"-", out) } else { text_value(text, out) };
        json::key("timestamp", out);
        json::seconds(time, out);
        json::number("level", level, out);
        out.extend_from_slice(&self.origin);
        json::text("_stream", stream, out);
        if is_blank || !whole {
            out.extend_from_slice(b",\"_message_base64\":\"");
            base64_into(text, out);
            out.push(b'"');
        }
    }

    fn end(&self, out: &mut Vec<u8>) {
        out.push(b'}');
        out.extend_from_slice(self.end);
    }
}

impl Encode for Gelf {
    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        let level = match unit.stream {
            Stream::Stdout => 6,
            Stream::Stderr => 3,
            Stream::Own => 5,
        };
        self.message(unit.text, unit.time, level, unit.stream.name(), out);
        json::number("_seq", unit.seq, out);
        if let Some(part) = unit.part {
            json::number("_part", part.number, out);
            // Booleans are ignored.
            json::text("_last", if part.last { "true" } else { "false" }, out);
        }
        Self::end(self, out);
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        self.message(gap.message().as_bytes(), gap.last, 4, OWN_STREAM, out);
        json::number("_lost", gap.lost.total(), out);
        Self::end(self, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::*;
    use base64::{Engine, prelude::BASE64_STANDARD};
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn a_message_ends_in_nul_and_a_blank_one_says_so() {
        let mut origin = origin();
        origin.labels = vec![("env".into(), "prod".into()), ("id".into(), "7".into())];
        let fields = r#""timestamp":1767323045.678,"level":6,"_app":"shop","_instance":"4121","_run":"0197-b7","_env":"prod","_label_id":"7","_stream":"stdout""#;
        let wanted = format!(
            "{{\"version\":\"1.1\",\"host\":\"web-7\",\"short_message\":\"GET /cart 200\",{fields},\"_seq\":42}}\0\
             {{\"version\":\"1.1\",\"host\":\"web-7\",\"short_message\":\"-\",{fields},\"_message_base64\":\"\",\"_seq\":43}}\0"
        );
        let units = [unit(42, b"GET /cart 200"), unit(43, b"")];
        assert_eq!(String::from_utf8(payload(Format::Gelf(Carrier::Stream), origin, &units)).unwrap(), wanted);
    }

    proptest! {
        #[test]
        fn every_message_reads_back_to_the_byte(units in prop::collection::vec(any_unit(), 1..8), bulk in any::<bool>()) {
            let (carrier, end) = if bulk { (Carrier::Bulk, b'\n') } else { (Carrier::Stream, 0) };
            let bodies: Vec<_> = units.iter().map(Owned::unit).collect();
            let body = payload(Format::Gelf(carrier), origin(), &bodies);
            let messages: Vec<&[u8]> = body.split(|&byte| byte == end).filter(|message| !message.is_empty()).collect();
            prop_assert_eq!(messages.len(), units.len());
            for (owned, message) in units.iter().zip(messages) {
                let value: Value = serde_json::from_slice(message).unwrap();
                let text = match value.get("_message_base64") {
                    Some(exact) => BASE64_STANDARD.decode(exact.as_str().unwrap()).unwrap(),
                    None => value["short_message"].as_str().unwrap().as_bytes().to_vec(),
                };
                prop_assert_eq!(text, &owned.text[..]);
                prop_assert!(!value["short_message"].as_str().unwrap().trim().is_empty());
            }
        }
    }
}
