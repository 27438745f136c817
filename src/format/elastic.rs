//! The `_bulk` API of Elasticsearch and OpenSearch.
//!
//! ```json
//! {"create":{"_id":"0197…-42"}}
//! {"@timestamp":"2026-01-02T03:04:05.678901Z","message":"GET /cart 200","log.level":"info","service.name":"shop",…}
//! ```
//!
//! `create` with an id of our own (run and sequence) is all that data streams take, and makes a retry harmless: what is
//! there already answers 409, which counts as stored. The index or data stream is the URL's path; without one it is
//! `logs-lastword-default`. A 200 proves nothing: each item's own status is read. Fields follow ECS; text that is not
//! UTF-8 has U+FFFD in `message` and its exact bytes in `message_base64`.

use super::{
    Encode, Gap, OWN_STREAM, Origin, Protocol, StampText,
    http::{Answer, Compress, Meaning, PathRule, Ruling},
    json, level,
    ndjson::{escape, message, object},
};
use crate::{line::Unit, transport::ItemVerdict};
use serde::Deserialize;

pub(crate) const PROTOCOL: Protocol = Protocol {
    content_type: "application/x-ndjson",
    path: PathRule::Suffix { suffix: "/_bulk", empty: "/logs-lastword-default/_bulk" },
    // Answers shrink to a tenth.
    query: Some("filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason"),
    token: ("authorization", "ApiKey "),
    compress: &[Compress::Gzip, Compress::Off],
    items: 5_000,
    // An emulation that ignores `filter_path` needs some 300.
    answer_bytes: 1024,
    judge,
    ..Protocol::PLAIN
};

#[derive(Deserialize)]
struct Bulk {
    items: Vec<Outcomes>,
}

#[derive(Deserialize)]
struct Outcomes {
    create: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    error: Option<Trouble>,
}

#[derive(Deserialize)]
struct Trouble {
    #[serde(rename = "type")]
    kind: Option<String>,
    reason: Option<String>,
}

fn judge(answer: &Answer<'_>) -> Ruling {
    if !answer.is_success() {
        return Meaning::Status.into();
    }
    let bulk = match answer.json::<Bulk>() {
        Ok(bulk) if bulk.items.len() == answer.items => bulk,
        // VictoriaLogs answers 200 with nothing when it could not decode the body.
        _ => {
            let reason = format!("{} without an answer for each of {} lines: not stored", answer.status, answer.items);
            return Ruling::because(Meaning::Retry, reason);
        }
    };
    let all: Vec<&Outcome> = bulk.items.iter().map(|item| &item.create).collect();
    if all.iter().all(|outcome| is_stored(outcome.status)) {
        return Meaning::Status.into();
    }
    // Credentials and routes are nobody's line: 404 is an index that may not be made.
    if let Some(outcome) = all.iter().find(|outcome| matches!(outcome.status, 401 | 403 | 404)) {
        return Ruling::because(Meaning::Hold, words(outcome));
    }
    let items: Vec<ItemVerdict> = all.iter().map(|outcome| verdict(outcome.status)).collect();
    let worst = all.iter().find(|outcome| !is_stored(outcome.status)).map(|outcome| words(outcome));
    Ruling::because(Meaning::Items { items, at_once: false }, worst.unwrap_or_default())
}

/// 409: a line of this id is there already.
const fn is_stored(status: u16) -> bool {
    matches!(status, 200 | 201 | 409)
}

const fn verdict(status: u16) -> ItemVerdict {
    match status {
        _ if is_stored(status) => ItemVerdict::Stored,
        429 | 500.. => ItemVerdict::Retry,
        _ => ItemVerdict::Rejected,
    }
}

fn words(outcome: &Outcome) -> String {
    let trouble = outcome.error.as_ref();
    let kind = trouble.and_then(|trouble| trouble.kind.as_deref()).unwrap_or("refused");
    let reason = trouble.and_then(|trouble| trouble.reason.as_deref()).unwrap_or_default();
    let text: String = format!("a line got {} {kind}: {reason}", outcome.status).chars().take(160).collect();
    text.trim_end_matches([':', ' ']).replace(char::is_control, " ")
}

/// Encodes units as actions with their documents.
#[derive(Clone, Debug)]
pub struct Elastic {
    /// `{"create":{"_id":"RUN-`.
    action: Vec<u8>,
    /// `,"service.name":…` and on, the same in every document.
    origin: Vec<u8>,
    stamp: StampText,
}

impl Elastic {
    pub(crate) fn new(origin: &Origin) -> Self {
        let mut action = b"{\"create\":{\"_id\":\"".to_vec();
        escape(&origin.run, &mut action);
        action.push(b'-');
        let mut fields = Vec::new();
        json::text("service.name", &origin.app, &mut fields);
        json::text("host.name", &origin.host, &mut fields);
        json::text("service.node.name", origin.instance.wait(), &mut fields);
        json::text("lastword.run", &origin.run, &mut fields);
        if !origin.labels.is_empty() {
            json::key("labels", &mut fields);
            // A dot in a label's name would make an object of it, and clash with its neighbours.
            let labels: Vec<_> =
                origin.labels.iter().map(|(name, value)| (name.replace('.', "_"), value.clone())).collect();
            object(&labels, &mut fields);
        }
        Self { action, origin: fields, stamp: StampText::default() }
    }

    fn head(&mut self, id: &str, time: crate::line::Stamp, stream: &str, level: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.action);
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(b"\"}}\n{");
        json::text("@timestamp", self.stamp.render(time), out);
        json::text("log.level", level, out);
        json::text("stream", stream, out);
        out.extend_from_slice(&self.origin);
    }
}

impl Encode for Elastic {
    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        let level = level(unit.stream);
        let mut id = itoa::Buffer::new();
        self.head(id.format(unit.seq), unit.time, unit.stream.name(), level, out);
        json::number("event.sequence", unit.seq, out);
        json::part("lastword.", unit.part, out);
        message("message", unit.text, out);
        out.extend_from_slice(b"}\n");
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        let id = format!("gap-{}-{}", gap.last.0, gap.lost.total());
        self.head(&id, gap.last, OWN_STREAM, "warn", out);
        json::number("lastword.lost", gap.lost.total(), out);
        message("message", gap.message().as_bytes(), out);
        out.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Format, testing::*};
    use base64::{Engine, prelude::BASE64_STANDARD};
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn a_line_is_an_action_and_a_document() {
        let mut origin = origin();
        origin.labels = vec![("env".into(), "prod".into()), ("a.b".into(), "\"".into())];
        let wanted = [
            "{\"create\":{\"_id\":\"0197-b7-42\"}}\n",
            r#"{"@timestamp":"2026-01-02T03:04:05.678901Z","log.level":"info","stream":"stdout","service.name":"shop","#,
            r#""host.name":"web-7","service.node.name":"4121","lastword.run":"0197-b7","#,
            r#""labels":{"env":"prod","a_b":"\""},"event.sequence":42,"message":"GET /cart 200"}"#,
            "\n",
        ];
        let body = payload(Format::Elastic, origin, &[unit(42, b"GET /cart 200")]);
        assert_eq!(String::from_utf8(body).unwrap(), wanted.concat());
    }

    fn judged(status: u16, body: &str, items: usize) -> Ruling {
        judge(&Answer { status, body: body.as_bytes(), items })
    }

    fn answer(statuses: &[u16]) -> String {
        let item = |status: &u16| {
            let error = if *status > 299 { r#","error":{"type":"some_exception","reason":"why"}"# } else { "" };
            format!(r#"{{"create":{{"_index":"i","status":{status}{error}}}}}"#)
        };
        let items: Vec<_> = statuses.iter().map(item).collect();
        format!(r#"{{"took":3,"errors":true,"items":[{}]}}"#, items.join(","))
    }

    #[test]
    fn checklist_29_each_item_has_its_own_verdict() {
        use ItemVerdict::{Rejected, Retry, Stored};
        let ruling = judged(200, &answer(&[201, 201, 429, 201, 400, 503, 409]), 7);
        let items = vec![Stored, Stored, Retry, Stored, Rejected, Retry, Stored];
        assert_eq!(ruling.meaning, Meaning::Items { items, at_once: false });
        assert_eq!(ruling.reason.as_deref(), Some("a line got 429 some_exception: why"));
    }

    #[test]
    fn a_200_that_does_not_speak_of_every_item_stored_nothing() {
        for (body, items) in [("", 1), ("{}", 1), (&*answer(&[201]), 2), ("{\"items\":[", 1), ("{\"errors\":false}", 3)]
        {
            assert_eq!(judged(200, body, items).meaning, Meaning::Retry, "{body}");
        }
        assert_eq!(judged(200, &answer(&[201, 409, 200]), 3).meaning, Meaning::Status);
        assert_eq!(judged(413, "", 3).meaning, Meaning::Status);
        assert_eq!(judged(200, &answer(&[404, 404]), 2).meaning, Meaning::Hold);
    }

    proptest! {
        #[test]
        fn every_document_reads_back_to_the_byte(owned in any_unit()) {
            let body = payload(Format::Elastic, origin(), &[owned.unit()]);
            let lines: Vec<&[u8]> = body.split_inclusive(|&byte| byte == b'\n').collect();
            prop_assert_eq!(lines.len(), 2);
            let action: Value = serde_json::from_slice(lines[0]).unwrap();
            prop_assert_eq!(action["create"]["_id"].as_str().unwrap(), format!("0197-b7-{}", owned.seq));
            let value: Value = serde_json::from_slice(lines[1]).unwrap();
            let text = match value.get("message_base64") {
                Some(exact) => BASE64_STANDARD.decode(exact.as_str().unwrap()).unwrap(),
                None => value["message"].as_str().unwrap().as_bytes().to_vec(),
            };
            prop_assert_eq!(text, owned.text);
            prop_assert_eq!(value["event.sequence"].as_u64(), Some(owned.seq));
        }
    }
}
