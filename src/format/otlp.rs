//! OTLP/HTTP logs: OpenTelemetry's protobuf, version 1 (opentelemetry-proto `logs/v1`, `collector/logs/v1`).
//!
//! One `ResourceLogs` with one `ScopeLogs` a payload. The messages are nested and each wears its length in front, so the records
//! are written first and the outer lengths put before them at the end of the payload. Times are the line's own (see
//! [`Unit::own_time`]), the body is a string, or bytes where the text is not UTF-8: nothing is escaped. A line has no
//! severity, as nobody knows it; a gap has WARN. `log.record.uid` names a line for receivers that drop duplicates.

use super::{
    Encode, Gap, OWN_STREAM, Origin, Protocol,
    http::{Answer, Compress, Meaning, PathRule, Ruling, brief},
};
use crate::line::{Part, Stamp, Unit};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};
use serde::Deserialize;

/// `#encoding=`: how payloads are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

pub(crate) const PROTOCOL: Protocol = Protocol {
    content_type: "application/x-protobuf",
    path: PathRule::Suffix { suffix: "/v1/logs", empty: "/v1/logs" },
    compress: &[Compress::Gzip, Compress::Off],
    // Just the one refusal of a payload, but with words; 0 would do, were it not that a 200 may be a half no.
    answer_bytes: 1,
    counts_only: true,
    judge,
    ..Protocol::PLAIN
};

/// `SEVERITY_NUMBER_WARN`.
pub(super) const WARN: u64 = 13;

#[derive(Clone, PartialEq, Message)]
struct ExportLogsServiceResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<ExportLogsPartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct ExportLogsPartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_log_records: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonAnswer {
    partial_success: Option<JsonPartial>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct JsonPartial {
    rejected_log_records: serde_json::Value,
    error_message: String,
}

/// What is rejected by a partial success must not be sent again (OTLP specification, "Partial Success"). Of the other
/// answers the specification wants all but 429, 502, 503 and 504 to be final; we retry every 5xx, since Vector's receiver says
/// 500 when its sinks are in trouble.
pub(super) fn judge(answer: &Answer<'_>) -> Ruling {
    if !answer.is_success() {
        return Meaning::Status.into();
    }
    let (rejected, message) = partial(answer.body);
    if rejected == 0 {
        return Meaning::Status.into();
    }
    let reason = format!("{rejected} of {} lines rejected: {}", answer.items, brief(&message));
    Ruling::all_but(answer.items, rejected, reason)
}

/// Count and words. An empty body, `{}` and `{"partialSuccess":null}` are full successes.
fn partial(body: &[u8]) -> (u64, String) {
    if body.first() == Some(&b'{') {
        let partial = serde_json::from_slice(body).ok().and_then(|answer: JsonAnswer| answer.partial_success);
        let JsonPartial { rejected_log_records: rejected, error_message } = partial.unwrap_or_default();
        // 64-bit integers are strings in protobuf's JSON; some write numbers.
        let rejected = rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok());
        return (rejected.unwrap_or(0), error_message);
    }
    let partial = ExportLogsServiceResponse::decode(body).ok().and_then(|answer| answer.partial_success);
    let ExportLogsPartialSuccess { rejected_log_records, error_message } = partial.unwrap_or_default();
    (u64::try_from(rejected_log_records).unwrap_or(0), error_message)
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Int(i64),
}

/// Attributes of the resource, by the semantic conventions.
pub(super) fn resource(origin: &Origin) -> Vec<(String, Value)> {
    let mut attributes = vec![
        ("service.name".to_string(), Value::Text(origin.app.clone())),
        ("host.name".to_string(), Value::Text(origin.host.clone())),
    ];
    // A pid, unless the platform has a better name.
    let instance = origin.instance.wait();
    attributes.push(match instance.parse() {
        Ok(pid) => ("process.pid".to_string(), Value::Int(pid)),
        Err(_) => ("service.instance.id".to_string(), Value::Text(instance.to_string())),
    });
    attributes.push(("lastword.run".to_string(), Value::Text(origin.run.clone())));
    let own: Vec<String> = attributes.iter().map(|(name, _)| name.clone()).collect();
    let labels = origin.labels.iter().filter(|(name, _)| !own.contains(name));
    attributes.extend(labels.map(|(name, value)| (name.clone(), Value::Text(value.clone()))));
    attributes
}

/// Encodes units as log records.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// `resource` of `ResourceLogs`, whole.
    resource: Vec<u8>,
    /// `scope` of `ScopeLogs`, whole.
    scope: Vec<u8>,
    run: String,
    /// `log.iostream` of stdout, stderr and ourselves: a whole attribute each.
    streams: [Vec<u8>; 3],
    record: Vec<u8>,
    inner: Vec<u8>,
}

impl Otlp {
    pub(crate) fn new(origin: &Origin) -> Self {
        let (mut resource, mut attributes) = (Vec::new(), Vec::new());
        for (name, value) in self::resource(origin) {
            match value {
                Value::Text(text) => attribute(1, &name, &text_value(&text), &mut attributes),
                Value::Int(number) => attribute(1, &name, &int_value(number), &mut attributes),
            }
        }
        bytes(1, &attributes, &mut resource);
        let (mut scope, mut fields) = (Vec::new(), Vec::new());
        bytes(1, b"lastword", &mut fields);
        bytes(2, env!("CARGO_PKG_VERSION").as_bytes(), &mut fields);
        bytes(1, &fields, &mut scope);
        let stream = |name: &str| {
            let mut out = Vec::new();
            attribute(6, "log.iostream", &text_value(name), &mut out);
            out
        };
        let streams = ["stdout", "stderr", OWN_STREAM].map(stream);
        Self { resource, scope, run: origin.run.clone(), streams, record: Vec::new(), inner: Vec::new() }
    }

    fn begin_record(&mut self, time: Stamp) {
        self.record.clear();
        // The proto has unsigned times: before 1970 is no time.
        let nanos = u64::try_from(time.0).unwrap_or(0).to_le_bytes();
        for tag in [1, 11] {
            encode_key(tag, WireType::SixtyFourBit, &mut self.record);
            self.record.extend_from_slice(&nanos);
        }
    }

    fn body(&mut self, text: &[u8]) {
        self.inner.clear();
        // AnyValue: 1 is a string, 7 bytes.
        bytes(if std::str::from_utf8(text).is_ok() { 1 } else { 7 }, text, &mut self.inner);
        bytes(5, &self.inner, &mut self.record);
    }

    fn end_record(&self, out: &mut Vec<u8>) {
        bytes(2, &self.record, out);
    }
}

impl Encode for Otlp {
    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        self.begin_record(unit.own_time());
        self.body(unit.text);
        self.record.extend_from_slice(&self.streams[unit.stream as usize]);
        let mut seq = itoa::Buffer::new();
        self.inner.clear();
        self.inner.extend_from_slice(self.run.as_bytes());
        self.inner.push(b'-');
        self.inner.extend_from_slice(seq.format(unit.seq).as_bytes());
        let mut uid = Vec::new();
        bytes(1, &self.inner, &mut uid);
        attribute(6, "log.record.uid", &uid, &mut self.record);
        attribute(6, "lastword.seq", &int_value(unit.seq as i64), &mut self.record);
        if let Some(Part { number, last }) = unit.part {
            attribute(6, "lastword.part", &int_value(i64::from(number)), &mut self.record);
            // AnyValue: 2 is a bool.
            attribute(6, "lastword.last", &[2 << 3, u8::from(last)], &mut self.record);
        }
        self.end_record(out);
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        self.begin_record(gap.last);
        encode_key(2, WireType::Varint, &mut self.record);
        encode_varint(WARN, &mut self.record);
        bytes(3, b"WARN", &mut self.record);
        self.body(gap.message().as_bytes());
        self.record.extend_from_slice(&self.streams[2]);
        attribute(6, "lastword.lost", &int_value(gap.lost.total() as i64), &mut self.record);
        self.end_record(out);
    }

    fn end(&mut self, out: &mut Vec<u8>, ends: &mut [u32]) {
        let scope_logs = self.scope.len() + out.len();
        let mut head = self.resource.clone();
        encode_key(2, WireType::LengthDelimited, &mut head);
        encode_varint(scope_logs as u64, &mut head);
        head.extend_from_slice(&self.scope);
        let resource_logs = (head.len() + out.len()) as u64;
        let mut front = Vec::with_capacity(head.len() + 1 + encoded_len_varint(resource_logs));
        encode_key(1, WireType::LengthDelimited, &mut front);
        encode_varint(resource_logs, &mut front);
        front.extend_from_slice(&head);
        let moved = u32::try_from(front.len()).unwrap_or(u32::MAX);
        out.splice(..0, front);
        ends.iter_mut().for_each(|end| *end = end.saturating_add(moved));
    }
}

/// A length-delimited field.
fn bytes(tag: u32, value: &[u8], out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// A `KeyValue` under `tag`; `value` is an encoded `AnyValue`.
fn attribute(tag: u32, name: &str, value: &[u8], out: &mut Vec<u8>) {
    let field = |length: usize| 1 + encoded_len_varint(length as u64) + length;
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint((field(name.len()) + field(value.len())) as u64, out);
    bytes(1, name.as_bytes(), out);
    bytes(2, value, out);
}

fn text_value(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(1, text.as_bytes(), &mut out);
    out
}

fn int_value(number: i64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(3, WireType::Varint, &mut out);
    encode_varint(number as u64, &mut out);
    out
}

#[cfg(test)]
#[path = "otlp_tests.rs"]
mod tests;
