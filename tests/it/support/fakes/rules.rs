//! The rules of each service, from its protocol card.

use super::{Asked, Kept, Rule};
use base64::{Engine, prelude::BASE64_STANDARD};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest, common::v1::any_value::Value as Any, logs::v1::LogRecord,
};
use prost::Message;
use serde_json::{Deserializer, Value};
use std::collections::{BTreeMap, BTreeSet};

fn exact(code: Option<&Value>, text: Option<&Value>) -> Vec<u8> {
    match code.and_then(Value::as_str) {
        Some(code) => BASE64_STANDARD.decode(code).expect("base64"),
        None => text.and_then(Value::as_str).expect("a text").as_bytes().to_vec(),
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Loki: labels that are valid, times that ascend strictly; stores nothing at its `blocked`th request and says 260; refuses
/// entries with `poison` in them by a partial 400; keeps no entry twice.
pub fn loki(blocked: usize, poison: &'static str) -> Rule {
    let (mut requests, mut latest, mut known) = (0, BTreeMap::<String, i64>::new(), BTreeSet::new());
    Box::new(move |asked, kept| {
        requests += 1;
        if asked.path != "/loki/api/v1/push" || asked.header("content-type") != Some("application/json") {
            return (400, "not a push".into());
        }
        if requests == blocked {
            return (260, "ingestion blocked".into());
        }
        let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
        let (mut ignored, mut all) = (0, 0);
        for stream in body["streams"].as_array().expect("streams") {
            let labels = stream["stream"].as_object().expect("labels");
            let is_name = |name: &String| {
                name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                    && !name.as_bytes()[0].is_ascii_digit()
            };
            if labels.is_empty() || labels.len() > 15 || !labels.keys().all(is_name) {
                return (400, "bad labels".into());
            }
            let name = stream["stream"].to_string();
            for entry in stream["values"].as_array().expect("values") {
                all += 1;
                let time: i64 = entry[0].as_str().expect("a text").parse().expect("nanoseconds");
                let text = exact(entry[2].get("message_base64"), Some(&entry[1]));
                assert!(entry[2].as_object().expect("metadata").values().all(Value::is_string), "metadata are texts");
                if !poison.is_empty() && text.windows(poison.len()).any(|window| window == poison.as_bytes()) {
                    ignored += 1;
                    continue;
                }
                if !known.insert((name.clone(), time, text.clone())) {
                    continue;
                }
                let latest = latest.entry(name.clone()).or_insert(i64::MIN);
                assert!(time > *latest, "times ascend strictly: {time} after {latest}");
                *latest = time;
                kept.push((number(&entry[2]["seq"]), text));
            }
        }
        match ignored {
            0 => (204, String::new()),
            _ => (
                400,
                format!(
                    "entry with timestamp x ignored, reason: 'entry too far behind',\ntotal ignored: {ignored} out of {all} for stream: {{}}"
                ),
            ),
        }
    })
}

/// Elasticsearch: `create` alone, a final newline; busy for every `busy`th document the first time; 409 for an id that it has.
pub fn elastic(busy: u64, poison: &'static str) -> Rule {
    let (mut ids, mut was_busy, mut seen) = (BTreeSet::new(), BTreeSet::new(), 0_u64);
    Box::new(move |asked, kept| {
        if !asked.path.starts_with("/logs-test/_bulk?") || asked.header("content-type") != Some("application/x-ndjson")
        {
            return (400, "no bulk".into());
        }
        if !asked.body.ends_with(b"\n") {
            return (400, "the bulk request must be terminated by a newline".into());
        }
        let lines: Vec<&[u8]> = asked.body.strip_suffix(b"\n").expect("seen").split(|&byte| byte == b'\n').collect();
        let mut items = Vec::new();
        for pair in lines.chunks(2) {
            let action: Value = serde_json::from_slice(pair[0]).expect("an action");
            let document: Value = serde_json::from_slice(pair[1]).expect("a document");
            let id = action["create"]["_id"].as_str().expect("create with an id").to_owned();
            assert!(document["@timestamp"].is_string(), "data streams want a time");
            let text = exact(document.get("message_base64"), document.get("message"));
            seen += 1;
            let status = if ids.contains(&id) {
                409
            } else if !poison.is_empty() && text.windows(poison.len()).any(|window| window == poison.as_bytes()) {
                400
            } else if seen.is_multiple_of(busy) && was_busy.insert(id.clone()) {
                429
            } else {
                kept.push((document["event.sequence"].as_u64(), text));
                ids.insert(id);
                201
            };
            items.push(format!("{{\"create\":{{\"status\":{status},\"error\":{{\"type\":\"t\"}}}}}}"));
        }
        (200, format!("{{\"errors\":true,\"items\":[{}]}}", items.join(",")))
    })
}

/// Splunk: refuses blank events with code 13 and `poison` with code 6, and has stored those before.
pub fn splunk(poison: &'static str) -> Rule {
    Box::new(move |asked, kept| {
        if asked.header("authorization") != Some("Splunk t0k3n") {
            return (403, r#"{"text":"Invalid token","code":4}"#.into());
        }
        if asked.path != "/services/collector/event" || asked.header("x-splunk-request-channel").is_none() {
            return (400, r#"{"text":"Data channel is missing","code":10}"#.into());
        }
        for (index, event) in Deserializer::from_slice(&asked.body).into_iter::<Value>().enumerate() {
            let event = event.expect("JSON");
            let refuse = |code| (400, format!("{{\"text\":\"no\",\"code\":{code},\"invalid-event-number\":{index}}}"));
            if event["event"].as_str().is_some_and(|text| text.trim().is_empty()) {
                return refuse(13);
            }
            if !event["time"].to_string().bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
                return refuse(15);
            }
            let fields = &event["fields"];
            let text = event["event"].get("message").unwrap_or(&event["event"]);
            let text = exact(fields.get("message_base64"), Some(text));
            if !poison.is_empty() && text.windows(poison.len()).any(|window| window == poison.as_bytes()) {
                return refuse(6);
            }
            kept.push((number(&fields["seq"]), text));
        }
        (200, r#"{"text":"Success","code":0}"#.into())
    })
}

/// Datadog: at most 1000 entries and 5 MB.
pub fn datadog() -> Rule {
    Box::new(|asked, kept| {
        if asked.header("dd-api-key") != Some("t0k3n") {
            return (403, "{}".into());
        }
        if asked.body.len() > 5_000_000 {
            return (413, "{}".into());
        }
        let entries: Vec<Value> = serde_json::from_slice(&asked.body).expect("an array");
        if entries.len() > 1000 || asked.path != "/api/v2/logs" {
            return (400, "{}".into());
        }
        for entry in entries {
            kept.push((entry["seq"].as_u64(), exact(entry.get("message_base64"), entry.get("message"))));
        }
        (202, "{}".into())
    })
}

/// One GELF message; a blank one is dropped after it was taken.
pub fn gelf_message(bytes: &[u8], kept: &mut Vec<Kept>) {
    let message: Value = serde_json::from_slice(bytes).expect("JSON");
    assert_eq!(message["version"], "1.1");
    assert!(message.get("_id").is_none(), "forbidden");
    if !message["short_message"].as_str().expect("a text").trim().is_empty() {
        let text = exact(message.get("_message_base64"), message.get("short_message"));
        kept.push((message["_seq"].as_u64(), text));
    }
}

/// Graylog over HTTP: says 202 before it parses; the exact path; without bulk just the first message counts.
pub fn gelf(bulk: bool) -> Rule {
    Box::new(move |asked, kept| {
        if asked.path != "/gelf" {
            return (404, String::new());
        }
        if bulk && asked.body.len() > 8 << 16 {
            return (413, String::new());
        }
        let messages = asked.body.split(|&byte| byte == b'\n').filter(|message| !message.is_empty());
        messages.take(if bulk { usize::MAX } else { 1 }).for_each(|message| gelf_message(message, kept));
        (202, String::new())
    })
}

/// Vector's reading of Logplex: by line, never by count; 400 where the header's count differs.
pub fn logplex() -> Rule {
    let mut frames = BTreeSet::new();
    Box::new(move |asked, kept| {
        let wanted: Option<usize> = asked.header("logplex-msg-count").and_then(|count| count.parse().ok());
        let lines: Vec<&[u8]> = asked.body.split_inclusive(|&byte| byte == b'\n').collect();
        if wanted != Some(lines.len()) || asked.header("logplex-drain-token").is_none() {
            return (400, format!("{wanted:?} frames, {} lines", lines.len()));
        }
        // The first time, the answer is lost: 503 after it was stored. The id tells the retry.
        if !frames.insert(asked.header("logplex-frame-id").expect("an id").to_owned()) {
            return (204, String::new());
        }
        for line in lines {
            let text = line.strip_suffix(b"\n").expect("one LF a frame").splitn(8, |&byte| byte == b' ').nth(7);
            kept.push((None, text.expect("eight fields").to_vec()));
        }
        if frames.len() == 1 { (503, String::new()) } else { (204, String::new()) }
    })
}

fn of_record(record: &LogRecord) -> Kept {
    let attribute = |name: &str| record.attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?.value;
    let seq = match attribute("lastword.seq") {
        Some(Any::IntValue(seq)) => u64::try_from(seq).ok(),
        _ => None,
    };
    match record.body.clone().and_then(|body| body.value) {
        Some(Any::StringValue(text)) => (seq, text.into_bytes()),
        Some(Any::BytesValue(bytes)) => (seq, bytes),
        other => panic!("body {other:?}"),
    }
}

/// An OTLP receiver that shares no code with us; of the first requests it refuses the last
/// `refused` records each by a partial success.
pub fn otlp(refused: &'static [usize]) -> Rule {
    let mut refused = refused.iter();
    Box::new(move |asked, kept| {
        let refused = *refused.next().unwrap_or(&0);
        let request = match asked.header("content-type") {
            _ if asked.path != "/v1/logs" => return (404, String::new()),
            Some("application/x-protobuf") => ExportLogsServiceRequest::decode(&asked.body[..]).expect("protobuf"),
            Some("application/json") => serde_json::from_slice(&asked.body).expect("JSON"),
            _ => return (415, String::new()),
        };
        let records = &request.resource_logs[0].scope_logs[0].log_records;
        kept.extend(records[..records.len() - refused].iter().map(of_record));
        let body = format!("{{\"partialSuccess\":{{\"rejectedLogRecords\":\"{refused}\",\"errorMessage\":\"full\"}}}}");
        (200, if refused == 0 { r#"{"partialSuccess":null}"#.into() } else { body })
    })
}

/// Objects under these names, in lines or in an array (at this pointer).
pub fn objects(array_at: Option<&'static str>, message: &'static str, attributes: &'static str) -> Rule {
    Box::new(move |asked: &Asked, kept| {
        let all: Vec<Value> = match array_at {
            Some(pointer) => {
                let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
                body.pointer(pointer).and_then(Value::as_array).expect("an array").clone()
            }
            None => Deserializer::from_slice(&asked.body).into_iter().collect::<Result<_, _>>().expect("JSON lines"),
        };
        for object in all {
            let more = object.pointer(attributes).expect("attributes");
            kept.push((more["seq"].as_u64(), exact(more.get("message_base64"), object.get(message))));
        }
        (202, "{}".into())
    })
}
