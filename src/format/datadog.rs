//! Datadog's logs intake, version 2 (`POST /api/v2/logs`).
//!
//! ```json
//! [{"message":"GET /cart 200","ddsource":"lastword","ddtags":"env:prod,stream:stdout","hostname":"web-7","service":"shop","status":"info","timestamp":1767323045678,"run":"…","seq":42}]
//! ```
//!
//! A 202 comes before anything is parsed: what Datadog does not like later it does not say. It cuts texts above 1 MB and
//! doubts times older than 18 h. The labels `service` and `source` are the event's; all others are tags. Text that is not
//! UTF-8 has U+FFFD in `message` and its exact bytes in `message_base64`.

use super::{
    Encode, Gap, OWN_STREAM, Origin, Protocol,
    http::{Compress, PathRule},
    json, level,
    ndjson::message,
};
use crate::line::{Stamp, Unit};

pub(crate) const PROTOCOL: Protocol = Protocol {
    content_type: "application/json",
    path: PathRule::IfEmpty("/api/v2/logs"),
    token: ("dd-api-key", ""),
    compress: &[Compress::Gzip, Compress::Zstd, Compress::Off],
    // Limits: 5 MB before compression, 1000 entries.
    items: 1000,
    ..Protocol::PLAIN
};

/// Encodes units as entries of an array.
#[derive(Clone, Debug)]
pub struct Datadog {
    /// `{"ddsource":…,"ddtags":"…,stream:`.
    head: Vec<u8>,
    /// `","hostname":…` and on.
    origin: Vec<u8>,
}

impl Datadog {
    pub(crate) fn new(origin: &Origin) -> Self {
        let label =
            |wanted: &str| origin.labels.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let mut tags = String::new();
        for (name, value) in origin.labels.iter().filter(|(name, _)| name != "service" && name != "source") {
            tags += &format!("{}:{},", name.replace([',', ':'], "_"), value.replace(',', "_"));
        }
        tags += "stream:";
        let mut head = b"{".to_vec();
        json::text("ddsource", label("source").unwrap_or("lastword"), &mut head);
        json::text("ddtags", &tags, &mut head);
        head.pop();
        let mut fields = b"\"".to_vec();
        json::text("hostname", &origin.host, &mut fields);
        json::text("service", label("service").unwrap_or(&origin.app), &mut fields);
        json::text("instance", origin.instance.wait(), &mut fields);
        json::text("run", &origin.run, &mut fields);
        Self { head, origin: fields }
    }

    fn head(&self, stream: &str, status: &str, time: Stamp, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(stream.as_bytes());
        out.extend_from_slice(&self.origin);
        json::text("status", status, out);
        json::number("timestamp", json::millis(time), out);
    }
}

impl Encode for Datadog {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.push(b'[');
    }

    fn separator(&self) -> &'static [u8] {
        b","
    }

    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        self.head(unit.stream.name(), level(unit.stream), unit.time, out);
        json::number("seq", unit.seq, out);
        json::part("", unit.part, out);
        message("message", unit.text, out);
        out.push(b'}');
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        self.head(OWN_STREAM, "warning", gap.last, out);
        json::number("lost", gap.lost.total(), out);
        message("message", gap.message().as_bytes(), out);
        out.push(b'}');
    }

    fn end(&mut self, out: &mut Vec<u8>, _ends: &mut [u32]) {
        out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format::{Format, testing::*},
        line::Stream,
    };
    use base64::{Engine, prelude::BASE64_STANDARD};
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn lines_are_entries_of_an_array_and_labels_are_tags() {
        let mut origin = origin();
        origin.labels = vec![("env".into(), "a,b".into()), ("service".into(), "cart".into())];
        let wanted = [
            r#"[{"ddsource":"lastword","ddtags":"env:a_b,stream:stdout","hostname":"web-7","service":"cart","#,
            r#""instance":"4121","run":"0197-b7","status":"info","timestamp":1767323045678,"seq":42,"message":"one"},"#,
            r#"{"ddsource":"lastword","ddtags":"env:a_b,stream:stderr","hostname":"web-7","service":"cart","#,
            r#""instance":"4121","run":"0197-b7","status":"error","timestamp":1767323045678,"seq":43,"message":""}]"#,
        ];
        let units = [unit(42, b"one"), Unit { stream: Stream::Stderr, ..unit(43, b"") }];
        assert_eq!(String::from_utf8(payload(Format::Datadog, origin, &units)).unwrap(), wanted.concat());
    }

    proptest! {
        #[test]
        fn every_entry_reads_back_to_the_byte(units in prop::collection::vec(any_unit(), 1..8)) {
            let bodies: Vec<_> = units.iter().map(Owned::unit).collect();
            let entries: Vec<Value> = serde_json::from_slice(&payload(Format::Datadog, origin(), &bodies)).unwrap();
            prop_assert_eq!(entries.len(), units.len());
            for (owned, entry) in units.iter().zip(entries) {
                let text = match entry.get("message_base64") {
                    Some(exact) => BASE64_STANDARD.decode(exact.as_str().unwrap()).unwrap(),
                    None => entry["message"].as_str().unwrap().as_bytes().to_vec(),
                };
                prop_assert_eq!(text, &owned.text[..]);
                prop_assert_eq!(entry["seq"].as_u64(), Some(owned.seq));
            }
        }
    }
}
