//! Splunk's HTTP Event Collector, its event endpoint.
//!
//! ```json
//! {"time":1767323045.678,"host":"web-7","source":"shop","sourcetype":"lastword","event":"GET /cart 200","fields":{"stream":"stdout","seq":"42"}}
//! ```
//!
//! Objects follow one another. A 200 says "parsed and queued in memory"; indexer acknowledgement is not asked for. Blank
//! events are refused (code 13), so a blank line travels as an object: `"event":{"message":"  "}`. Text that is not UTF-8
//! has U+FFFD in the event and its exact bytes in the field `message_base64`. The labels `index`, `source` and
//! `sourcetype` are the event's; all others are fields.

use super::{
    Encode, Gap, OWN_STREAM, Origin, Protocol,
    http::{Answer, Compress, Meaning, PathRule, Ruling, brief},
    json,
    ndjson::text_value,
};
use crate::{
    line::{Stamp, Unit},
    transport::ItemVerdict,
};
use serde_json::Value;

pub(crate) const PROTOCOL: Protocol = Protocol {
    content_type: "application/json",
    path: PathRule::IfEmpty("/services/collector/event"),
    token: ("authorization", "Splunk "),
    compress: &[Compress::Gzip, Compress::Off],
    // Older servers take 1 MB, before compression.
    bytes: 512 << 10,
    payload_headers: |key, _| {
        // One channel a run: the run's id stands at the front of the key.
        vec![("x-splunk-request-channel", key.get(..36).unwrap_or(key).to_string())]
    },
    answer_bytes: 1,
    judge,
    ..Protocol::PLAIN
};

/// The HEC card: the events before a bad one are indexed, and none behind it.
fn judge(answer: &Answer<'_>) -> Ruling {
    // Field by field: what is odd in one must not hide what another says.
    let said: Value = answer.json().unwrap_or_default();
    let Some(code) = said["code"].as_u64() else { return Meaning::Status.into() };
    let reason = format!("{} code {code}: {}", answer.status, brief(said["text"].as_str().unwrap_or_default()));
    match (answer.status, code) {
        (200..300, 0) => Meaning::Status.into(),
        // The index, the channel or the token's settings are wrong, not a line.
        (_, 7 | 10 | 11 | 14 | 16 | 28) => Ruling::because(Meaning::Hold, reason),
        // Its trouble, whatever it gave for a status.
        (200..300 | 400, 8 | 9) => Ruling::because(Meaning::Retry, reason),
        (200..300 | 400, _) => {
            match said["invalid-event-number"].as_u64().map(|bad| bad as usize).filter(|&bad| bad < answer.items) {
                Some(bad) => {
                    let mut items = vec![ItemVerdict::Stored; bad];
                    items.push(ItemVerdict::Rejected);
                    items.resize(answer.items, ItemVerdict::Retry);
                    Ruling::because(Meaning::Items { items, at_once: true }, reason)
                }
                None => Ruling::because(Meaning::Reject, reason),
            }
        }
        _ => Ruling::because(Meaning::Status, reason),
    }
}

/// Encodes units as events.
#[derive(Clone, Debug)]
pub struct Splunk {
    /// `,"host":…,"source":…,"sourcetype":…`.
    head: Vec<u8>,
    /// `,"fields":{…`, without stream and sequence.
    fields: Vec<u8>,
}

impl Splunk {
    pub(crate) fn new(origin: &Origin) -> Self {
        const OWN: [&str; 3] = ["source", "sourcetype", "index"];
        let label =
            |wanted: &str| origin.labels.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let mut head = Vec::new();
        json::text("host", &origin.host, &mut head);
        json::text("source", label("source").unwrap_or(&origin.app), &mut head);
        json::text("sourcetype", label("sourcetype").unwrap_or("lastword"), &mut head);
        if let Some(index) = label("index") {
            json::text("index", index, &mut head);
        }
        let mut fields = Vec::new();
        json::key("fields", &mut fields);
        fields.push(b'{');
        for (name, value) in origin.labels.iter().filter(|(name, _)| !OWN.contains(&&**name)) {
            json::text(name, value, &mut fields);
        }
        json::text("app", &origin.app, &mut fields);
        json::text("instance", origin.instance.wait(), &mut fields);
        json::text("run", &origin.run, &mut fields);
        Self { head, fields }
    }

    fn head(&self, time: Stamp, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":");
        json::seconds(time, out);
        out.extend_from_slice(&self.head);
        json::key("event", out);
    }
}

impl Encode for Splunk {
    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        self.head(unit.time, out);
        let is_blank = json::is_blank(unit.text);
        if is_blank {
            out.extend_from_slice(b"{\"message\":");
        }
        let whole = text_value(unit.text, out);
        if is_blank {
            out.push(b'}');
        }
        out.extend_from_slice(&self.fields);
        json::text("stream", unit.stream.name(), out);
        json::unit_in_texts(unit, whole, out);
        out.extend_from_slice(b"}}\n");
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        self.head(gap.last, out);
        text_value(gap.message().as_bytes(), out);
        out.extend_from_slice(&self.fields);
        json::text("stream", OWN_STREAM, out);
        json::text("lost", &gap.lost.total().to_string(), out);
        out.extend_from_slice(b"}}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Format, testing::*};
    use base64::{Engine, prelude::BASE64_STANDARD};
    use proptest::prelude::*;

    #[test]
    fn a_line_is_an_event_and_a_blank_one_an_object() {
        let mut origin = origin();
        origin.labels = vec![("index".into(), "main".into()), ("env".into(), "prod".into())];
        let units = [unit(42, b"GET /cart 200"), unit(43, b"  ")];
        let (head, fields) = (
            r#"{"time":1767323045.678,"host":"web-7","source":"shop","sourcetype":"lastword","index":"main","event":"#,
            r#","fields":{"env":"prod","app":"shop","instance":"4121","run":"0197-b7","stream":"stdout","seq":"#,
        );
        let wanted =
            format!("{head}\"GET /cart 200\"{fields}\"42\"}}}}\n{head}{{\"message\":\"  \"}}{fields}\"43\"}}}}\n");
        assert_eq!(String::from_utf8(payload(Format::Splunk, origin, &units)).unwrap(), wanted);
    }

    fn judged(status: u16, body: &str) -> Meaning {
        judge(&Answer { status, body: body.as_bytes(), items: 5 }).meaning
    }

    #[test]
    fn the_events_before_a_bad_one_are_stored_and_those_behind_it_sent_again() {
        use ItemVerdict::{Rejected, Retry, Stored};
        let meaning = judged(400, r#"{"text":"Invalid data format","code":6,"invalid-event-number":2}"#);
        let items = vec![Stored, Stored, Rejected, Retry, Retry];
        assert_eq!(meaning, Meaning::Items { items, at_once: true });
    }

    #[test]
    fn codes_say_more_than_statuses() {
        assert_eq!(judged(200, r#"{"text":"Success","code":0}"#), Meaning::Status);
        assert_eq!(judged(200, r#"{"text":"No data","code":5}"#), Meaning::Reject);
        assert_eq!(judged(400, r#"{"text":"Incorrect index","code":7,"invalid-event-number":1}"#), Meaning::Hold);
        assert_eq!(judged(400, r#"{"text":"Data channel is missing","code":10}"#), Meaning::Hold);
        assert_eq!(judged(400, r#"{"text":"Invalid data format","code":6,"invalid-event-number":9}"#), Meaning::Reject);
        assert_eq!(judged(503, r#"{"text":"Server is busy","code":9}"#), Meaning::Status);
        assert_eq!(judged(403, r#"{"text":"Invalid token","code":4}"#), Meaning::Status);
        assert_eq!(judged(251, r#"{"text":"Server is busy","code":9}"#), Meaning::Retry, "a 2xx that is no yes");
        assert_eq!(judged(201, r#"{"text":"Invalid data format","code":6}"#), Meaning::Reject);
        assert_eq!(judged(502, "<html>"), Meaning::Status);
    }

    proptest! {
        #[test]
        fn every_event_reads_back_to_the_byte(units in prop::collection::vec(any_unit(), 1..8)) {
            let bodies: Vec<_> = units.iter().map(Owned::unit).collect();
            let body = payload(Format::Splunk, origin(), &bodies);
            let events: Vec<Value> =
                serde_json::Deserializer::from_slice(&body).into_iter().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(events.len(), units.len());
            for (owned, event) in units.iter().zip(events) {
                let text = match event["fields"].get("message_base64") {
                    Some(exact) => BASE64_STANDARD.decode(exact.as_str().unwrap()).unwrap(),
                    None => event["event"].as_str().or(event["event"]["message"].as_str()).unwrap().as_bytes().to_vec(),
                };
                prop_assert_eq!(text, &owned.text[..]);
                prop_assert!(event["event"].as_str().is_none_or(|text| !text.trim().is_empty()), "blank");
                prop_assert!(event["fields"].as_object().unwrap().values().all(Value::is_string));
            }
        }
    }
}
