//! OTLP/HTTP logs as JSON (`#encoding=json`): what protobuf says, by the rules of OTLP's "JSON Protobuf Encoding".
//!
//! Names in lowerCamelCase, 64-bit integers as strings, bytes as base64. A text that is not UTF-8 is a `bytesValue`, so nothing is
//! escaped here either.

use super::{
    Encode, Gap, OWN_STREAM, Origin, Protocol, json,
    ndjson::{base64_into, escape},
    otlp::{self, Value, WARN},
};
use crate::line::{Stamp, Unit};

pub(crate) const PROTOCOL: Protocol = Protocol { content_type: "application/json", ..otlp::PROTOCOL };

/// Encodes units as log records.
#[derive(Clone, Debug)]
pub(super) struct OtlpJson {
    /// Everything before the first record.
    head: Vec<u8>,
    /// `RUN-`, escaped.
    uid: Vec<u8>,
}

impl OtlpJson {
    pub(crate) fn new(origin: &Origin) -> Self {
        let mut head = b"{\"resourceLogs\":[{\"resource\":{\"attributes\":[".to_vec();
        for (index, (name, value)) in otlp::resource(origin).into_iter().enumerate() {
            if index > 0 {
                head.push(b',');
            }
            match value {
                Value::Text(text) => attribute(&name, "stringValue", text.as_bytes(), &mut head),
                Value::Int(number) => attribute(&name, "intValue", number.to_string().as_bytes(), &mut head),
            }
        }
        head.extend_from_slice(b"]},\"scopeLogs\":[{\"scope\":{");
        json::text("name", "lastword", &mut head);
        json::text("version", env!("CARGO_PKG_VERSION"), &mut head);
        head.extend_from_slice(b"},\"logRecords\":[");
        let mut uid = Vec::new();
        escape(&origin.run, &mut uid);
        uid.push(b'-');
        Self { head, uid }
    }
}

fn begin_record(time: Stamp, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    let nanos = digits.format(u64::try_from(time.0).unwrap_or(0));
    out.push(b'{');
    json::text("timeUnixNano", nanos, out);
    json::text("observedTimeUnixNano", nanos, out);
}

fn body(text: &[u8], out: &mut Vec<u8>) {
    json::key("body", out);
    match std::str::from_utf8(text) {
        Ok(text) => {
            out.push(b'{');
            json::text("stringValue", text, out);
        }
        Err(_) => {
            out.extend_from_slice(b"{\"bytesValue\":\"");
            base64_into(text, out);
            out.push(b'"');
        }
    }
    out.extend_from_slice(b"},\"attributes\":[");
}

/// `{"key":…,"value":{KIND:"…"}}`; the value is text that needs no escape beyond that of a string.
fn attribute(name: &str, kind: &str, value: &[u8], out: &mut Vec<u8>) {
    out.push(b'{');
    json::text("key", name, out);
    json::key("value", out);
    out.push(b'{');
    json::text(kind, &String::from_utf8_lossy(value), out);
    out.extend_from_slice(b"}}");
}

impl Encode for OtlpJson {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
    }

    fn separator(&self) -> &'static [u8] {
        b","
    }

    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        begin_record(unit.own_time(), out);
        body(unit.text, out);
        attribute("log.iostream", "stringValue", unit.stream.name().as_bytes(), out);
        let mut digits = itoa::Buffer::new();
        let seq = digits.format(unit.seq);
        out.extend_from_slice(b",{\"key\":\"log.record.uid\",\"value\":{\"stringValue\":\"");
        out.extend_from_slice(&self.uid);
        out.extend_from_slice(seq.as_bytes());
        out.extend_from_slice(b"\"}},");
        // `intValue` is signed.
        attribute("lastword.seq", "intValue", itoa::Buffer::new().format(unit.seq as i64).as_bytes(), out);
        if let Some(part) = unit.part {
            out.push(b',');
            attribute("lastword.part", "intValue", part.number.to_string().as_bytes(), out);
            let last: &[u8] = if part.last { b"true" } else { b"false" };
            out.extend_from_slice(b",{\"key\":\"lastword.last\",\"value\":{\"boolValue\":");
            out.extend_from_slice(last);
            out.extend_from_slice(b"}}");
        }
        out.extend_from_slice(b"]}");
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        begin_record(gap.last, out);
        json::number("severityNumber", WARN, out);
        json::text("severityText", "WARN", out);
        body(gap.message().as_bytes(), out);
        attribute("log.iostream", "stringValue", OWN_STREAM.as_bytes(), out);
        out.push(b',');
        attribute("lastword.lost", "intValue", gap.lost.total().to_string().as_bytes(), out);
        out.extend_from_slice(b"]}");
    }

    fn end(&mut self, out: &mut Vec<u8>, _ends: &mut [u32]) {
        out.extend_from_slice(b"]}]}]}");
    }
}
