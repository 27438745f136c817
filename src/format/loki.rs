//! Grafana Loki's push API, as JSON.
//!
//! ```json
//! {"streams":[{"stream":{"app":"shop","host":"web-7","stream":"stdout"},"values":[["1767323045678901234","GET /cart 200",{"seq":"42"}]]}]}
//! ```
//!
//! Labels are few: app, host, stream, and the user's up to Loki's limit of 15; instance, run, sequence and what labels are
//! left over travel as structured metadata. Each line has a time of its own, strictly ascending in its stream and the same
//! on every retry: Loki drops a line that repeats one of the same time, and so a retry makes no duplicate, while two equal
//! lines are both kept. Text that is not UTF-8 has U+FFFD in the line and its exact bytes in `message_base64`.

use super::{
    Encode, Gap, OWN_STREAM, Origin, Protocol,
    http::{Answer, Compress, Meaning, PathRule, Ruling},
    json,
    ndjson::{object, text_value},
};
use crate::line::{Stamp, Unit};

/// Labels of a stream, by Loki's default (`max_label_names_per_series`).
const LABELS_MAX: usize = 15;
/// Bytes of a label's value, by Loki's default.
const LABEL_VALUE_MAX: usize = 2048;

pub(crate) const PROTOCOL: Protocol = Protocol {
    content_type: "application/json",
    path: PathRule::IfEmpty("/loki/api/v1/push"),
    compress: &[Compress::Gzip, Compress::Off],
    counts_only: true,
    judge,
    ..Protocol::PLAIN
};

/// The Loki card: a 260 (or whatever the operator configured) stores nothing, and a 400 stores all but the lines that it
/// counts.
fn judge(answer: &Answer<'_>) -> Ruling {
    match answer.status {
        200 | 204 => Meaning::Status.into(),
        status @ 201..300 => {
            Ruling::because(Meaning::Hold, format!("{status}: Loki takes requests but stores nothing for this tenant"))
        }
        400 => match ignored(&String::from_utf8_lossy(answer.body)) {
            Some(lines) if lines > 0 => {
                Ruling::all_but(answer.items, lines, format!("400: Loki ignored {lines} lines, and took the others"))
            }
            // Loki keeps no line twice that has the same time, so bisecting costs nothing but requests.
            _ => Meaning::Status.into(),
        },
        _ => Meaning::Status.into(),
    }
}

/// Sums up `total ignored: 2 out of 5 for stream: {…}` over the streams.
fn ignored(text: &str) -> Option<u64> {
    let mut total: Option<u64> = None;
    for rest in text.split("total ignored: ").skip(1) {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        total = Some(total.unwrap_or(0).saturating_add(digits.parse().ok()?));
    }
    total
}

/// Encodes units as entries.
#[derive(Clone, Debug)]
pub struct Loki {
    /// `{"stream":{…},"values":[`, for stdout, stderr and ourselves.
    heads: [Vec<u8>; 3],
    /// `{"instance":…,"run":"…"`, the same in every entry.
    metadata: Vec<u8>,
    /// The stream whose entries are being written.
    open: Option<usize>,
}

const OURS: usize = 2;

impl Loki {
    pub(crate) fn new(origin: &Origin) -> Self {
        let own = ["app", "host", "stream"];
        let mut labels: Vec<(String, String)> = Vec::new();
        let mut metadata =
            vec![("instance".to_string(), origin.instance.wait().to_string()), ("run".to_string(), origin.run.clone())];
        for (name, value) in &origin.labels {
            let name = label_name(name);
            let is_taken = own.contains(&&*name) || labels.iter().chain(&metadata).any(|(taken, _)| *taken == name);
            let name = if is_taken { format!("label_{name}") } else { name };
            let fits = labels.len() + own.len() < LABELS_MAX && value.len() <= LABEL_VALUE_MAX && !value.is_empty();
            if fits { &mut labels } else { &mut metadata }.push((name, value.clone()));
        }
        let head = |stream: &str| {
            let mut all = vec![("app".to_string(), cut(&origin.app)), ("host".to_string(), cut(&origin.host))];
            all.push(("stream".to_string(), stream.to_string()));
            all.extend(labels.iter().cloned());
            let mut out = b"{\"stream\":".to_vec();
            object(&all, &mut out);
            out.extend_from_slice(b",\"values\":[");
            out
        };
        let mut fields = Vec::new();
        object(&metadata, &mut fields);
        fields.pop();
        Self { heads: ["stdout", "stderr", OWN_STREAM].map(head), metadata: fields, open: None }
    }

    /// `["TIME",`, behind whatever has to stand before an entry of this stream.
    fn open(&mut self, stream: usize, time: Stamp, out: &mut Vec<u8>) {
        if self.open == Some(stream) {
            out.push(b',');
        } else {
            if self.open.is_some() {
                out.extend_from_slice(b"]},");
            }
            out.extend_from_slice(&self.heads[stream]);
            self.open = Some(stream);
        }
        out.extend_from_slice(b"[\"");
        out.extend_from_slice(itoa::Buffer::new().format(time.0).as_bytes());
        out.extend_from_slice(b"\",");
    }
}

impl Encode for Loki {
    fn begin(&mut self, out: &mut Vec<u8>) {
        self.open = None;
        out.extend_from_slice(b"{\"streams\":[");
    }

    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        self.open(unit.stream as usize, unit.own_time(), out);
        let whole = text_value(unit.text, out);
        out.push(b',');
        out.extend_from_slice(&self.metadata);
        json::unit_in_texts(unit, whole, out);
        out.extend_from_slice(b"}]");
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        self.open(OURS, gap.last, out);
        text_value(gap.message().as_bytes(), out);
        out.push(b',');
        out.extend_from_slice(&self.metadata);
        json::text("lost", &gap.lost.total().to_string(), out);
        out.extend_from_slice(b"}]");
    }

    fn end(&mut self, out: &mut Vec<u8>, _ends: &mut [u32]) {
        out.extend_from_slice(if self.open.is_some() { b"]}]}" } else { b"]}" });
        self.open = None;
    }
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`.
fn label_name(text: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let name: String = text.chars().map(plain).collect();
    if name.starts_with(|first: char| !first.is_ascii_digit()) { name } else { format!("_{name}") }
}

fn cut(text: &str) -> String {
    let end = (0..=LABEL_VALUE_MAX.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    text[..end.unwrap_or(0)].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format::{Format, testing::*},
        line::Stream,
        transport::ItemVerdict,
    };
    use base64::{Engine, prelude::BASE64_STANDARD};
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn a_payload_groups_entries_by_stream_and_keeps_their_order() {
        let units = [
            unit(42, b"one"),
            Unit { index: 1, ..unit(43, b"") },
            Unit { stream: Stream::Stderr, ..unit(44, b"\xff") },
        ];
        let head = r#"{"streams":[{"stream":{"app":"shop","host":"web-7","stream":"stdout"},"values":["#;
        let wanted = [
            head,
            r#"["1767323045678901234","one",{"instance":"4121","run":"0197-b7","seq":"42"}],"#,
            r#"["1767323045678901235","",{"instance":"4121","run":"0197-b7","seq":"43"}]"#,
            r#"]},{"stream":{"app":"shop","host":"web-7","stream":"stderr"},"values":["#,
            "[\"1767323045678901234\",\"\u{fffd}\",",
            r#"{"instance":"4121","run":"0197-b7","seq":"44","message_base64":"/w=="}]]}]}"#,
        ];
        assert_eq!(String::from_utf8(payload(Format::Loki, origin(), &units)).unwrap(), wanted.concat());
    }

    #[test]
    fn labels_are_bounded_and_the_rest_are_metadata() {
        let mut origin = origin();
        origin.labels = (1..=20).map(|number| (format!("{number}-k.{number}"), number.to_string())).collect();
        origin.labels.push(("stream".into(), "x".into()));
        let body: Value = serde_json::from_slice(&payload(Format::Loki, origin, &[unit(1, b"x")])).unwrap();
        let (labels, metadata) = (&body["streams"][0]["stream"], &body["streams"][0]["values"][0][2]);
        assert_eq!(labels.as_object().unwrap().len(), 15);
        assert_eq!(labels["_1_k_1"], "1");
        assert_eq!((&metadata["_20_k_20"], &metadata["label_stream"]), (&"20".into(), &"x".into()));
    }

    fn judged(status: u16, body: &str) -> Meaning {
        judge(&Answer { status, body: body.as_bytes(), items: 5 }).meaning
    }

    #[test]
    fn a_yes_that_stores_nothing_holds_and_a_no_that_stored_most_counts() {
        assert_eq!(judged(204, ""), Meaning::Status);
        assert_eq!(judged(260, "ingestion blocked"), Meaning::Hold);
        let text = "entry with timestamp 2026-01-02 03:04:05 +0000 UTC ignored, reason: 'entry too far behind',\n\
                    total ignored: 2 out of 4 for stream: {app=\"shop\"}\ntotal ignored: 1 out of 1 for stream: {app=\"x\"}";
        let Meaning::Items { items, .. } = judged(400, text) else { panic!("not by item") };
        let rejected = items.iter().filter(|&&verdict| verdict == ItemVerdict::SomeRejected).count();
        assert_eq!((items.len(), rejected), (5, 3));
        assert_eq!(judged(400, "error at least one label pair is required per stream"), Meaning::Status);
        assert_eq!(judged(429, "Ingestion rate limit exceeded"), Meaning::Status);
    }

    #[test]
    fn counts_that_add_up_to_more_than_there_is_are_all_lines() {
        let text = "total ignored: 18446744073709551615 out of 3\ntotal ignored: 9 out of 3";
        let Meaning::Items { items, .. } = judged(400, text) else { panic!("not by item") };
        assert_eq!(items, [ItemVerdict::Rejected; 5]);
    }

    proptest! {
        #[test]
        fn every_entry_reads_back_to_the_byte(units in prop::collection::vec(any_unit(), 1..8)) {
            let bodies: Vec<_> = units.iter().map(Owned::unit).collect();
            let body: Value = serde_json::from_slice(&payload(Format::Loki, origin(), &bodies)).unwrap();
            let entries = body["streams"].as_array().unwrap().iter().flat_map(|stream| {
                let name = stream["stream"]["stream"].as_str().unwrap();
                stream["values"].as_array().unwrap().iter().map(move |entry| (name, entry))
            });
            let entries: Vec<_> = entries.collect();
            prop_assert_eq!(entries.len(), units.len());
            for (owned, (stream, entry)) in units.iter().zip(entries) {
                let text = match entry[2].get("message_base64") {
                    Some(exact) => BASE64_STANDARD.decode(exact.as_str().unwrap()).unwrap(),
                    None => entry[1].as_str().unwrap().as_bytes().to_vec(),
                };
                prop_assert_eq!(&text, &owned.text);
                prop_assert_eq!(stream, owned.stream.name());
                prop_assert_eq!(entry[2]["seq"].as_str().unwrap(), owned.seq.to_string());
                prop_assert_eq!(entry[0].as_str().unwrap(), owned.time.0.to_string());
            }
        }
    }
}
