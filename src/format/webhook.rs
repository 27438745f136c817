//! The webhook engine: our JSON objects in another envelope and under other names, and presets for services.
//!
//! A preset is a constant here, a variant, and a row in `config/schemes.rs`. All of them are the object of [`super::ndjson`], with
//! the time and the text called what the service calls them, in lines, in an array, or in an object.

use super::{
    Encode, Format, Gap, Origin, Protocol,
    http::{Answer, Compress, Meaning, PathRule, Ruling, brief},
    json,
    ndjson::{self, NAMES, Names, Ndjson, message, object},
    raw::Raw,
};
use crate::line::Unit;
use serde_json::Value;

/// What is sent, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// A JSON array of our objects.
    Array,
    /// `{"logs":[…]}`.
    Wrapped,
    /// The lines as they are.
    Text,
    /// Better Stack (Logtail).
    BetterStack,
    /// Axiom.
    Axiom,
    /// New Relic's Log API.
    NewRelic,
    /// VictoriaLogs' jsonline.
    VictoriaLogs,
}

const GZIP: &[Compress] = &[Compress::Gzip, Compress::Off];

const ARRAY: Protocol = Protocol { content_type: "application/json", ..Protocol::PLAIN };

/// 402 is the quota, 403 the token: held. 406 is a body that it can't read.
const BETTER_STACK: Protocol = Protocol { compress: GZIP, ..ndjson::PROTOCOL };

/// At most 10,000 events; a 200 may have failures in it.
const AXIOM: Protocol = Protocol {
    compress: &[Compress::Gzip, Compress::Zstd, Compress::Off],
    answer_bytes: 512,
    counts_only: true,
    judge: axiom,
    ..ndjson::PROTOCOL
};

/// At most 10^6 bytes a request.
const NEW_RELIC: Protocol = Protocol {
    content_type: "application/json",
    path: PathRule::IfEmpty("/log/v1"),
    token: ("api-key", ""),
    compress: GZIP,
    bytes: 512 << 10,
    ..Protocol::PLAIN
};

const VICTORIA_LOGS: Protocol = Protocol {
    path: PathRule::IfEmpty("/insert/jsonline"),
    headers: &[("vl-stream-fields", "app,host,stream"), ("vl-time-field", "_time"), ("vl-msg-field", "_msg")],
    compress: GZIP,
    ..ndjson::PROTOCOL
};

pub(crate) const fn protocol(preset: Preset) -> &'static Protocol {
    match preset {
        Preset::Array | Preset::Wrapped => &ARRAY,
        Preset::Text => &Protocol::PLAIN,
        Preset::BetterStack => &BETTER_STACK,
        Preset::Axiom => &AXIOM,
        Preset::NewRelic => &NEW_RELIC,
        Preset::VictoriaLogs => &VICTORIA_LOGS,
    }
}

/// Axiom says how many failed, not which.
fn axiom(answer: &Answer<'_>) -> Ruling {
    if !answer.is_success() {
        return Meaning::Status.into();
    }
    // Field by field: what is odd in one must not hide what another says.
    let said: Value = answer.json().unwrap_or_default();
    match said["failed"].as_u64() {
        Some(failed @ 1..) => {
            let why = brief(said["failures"][0]["error"].as_str().unwrap_or_default());
            Ruling::all_but(answer.items, failed, format!("{failed} of {} lines failed: {why}", answer.items))
        }
        _ => Meaning::Status.into(),
    }
}

pub(crate) fn make(format: Format, origin: &Origin) -> Box<dyn Encode> {
    let Format::Webhook(preset) = format else { return Box::new(Raw) };
    let lines = |time, message, no_empty| Box::new(Ndjson::new(origin, Names { time, message, no_empty }));
    match preset {
        Preset::Array => Box::new(Enveloped::new(origin, b"[", b"]")),
        Preset::Wrapped => Box::new(Enveloped::new(origin, b"{\"logs\":[", b"]}")),
        Preset::Text => Box::new(Raw),
        Preset::BetterStack => lines("dt", "message", false),
        Preset::Axiom => lines("_time", "message", false),
        // An empty `_msg` is replaced by a complaint.
        Preset::VictoriaLogs => lines("_time", "_msg", true),
        Preset::NewRelic => Box::new(NewRelic::new(origin)),
    }
}

/// Our objects between two brackets.
#[derive(Clone, Debug)]
pub struct Enveloped {
    inner: Ndjson,
    begin: &'static [u8],
    end: &'static [u8],
}

impl Enveloped {
    fn new(origin: &Origin, begin: &'static [u8], end: &'static [u8]) -> Self {
        Self { inner: Ndjson::new(origin, NAMES), begin, end }
    }
}

impl Encode for Enveloped {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.begin);
    }

    fn separator(&self) -> &'static [u8] {
        b","
    }

    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        self.inner.encode(unit, out);
        out.pop();
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        self.inner.encode_gap(gap, out);
        out.pop();
    }

    fn end(&mut self, out: &mut Vec<u8>, _ends: &mut [u32]) {
        out.extend_from_slice(self.end);
    }
}

/// New Relic's detailed body: what all lines have in common stands in front. A text that is JSON is parsed there.
#[derive(Clone, Debug)]
pub struct NewRelic {
    head: Vec<u8>,
}

impl NewRelic {
    fn new(origin: &Origin) -> Self {
        let mut attributes = origin.labels.clone();
        let own = [("service", &*origin.app), ("hostname", &origin.host), ("instance", origin.instance.wait())];
        attributes.retain(|(name, _)| own.iter().all(|(taken, _)| name != taken) && name != "run");
        attributes.extend(own.map(|(name, value)| (name.to_string(), value.to_string())));
        attributes.push(("run".to_string(), origin.run.clone()));
        let mut head = b"[{\"common\":{\"attributes\":".to_vec();
        object(&attributes, &mut head);
        head.extend_from_slice(b"},\"logs\":[");
        Self { head }
    }
}

impl Encode for NewRelic {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
    }

    fn separator(&self) -> &'static [u8] {
        b","
    }

    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        out.push(b'{');
        json::number("timestamp", json::millis(unit.time), out);
        json::key("attributes", out);
        out.push(b'{');
        json::text("stream", unit.stream.name(), out);
        json::number("seq", unit.seq, out);
        json::part("", unit.part, out);
        let exact = std::str::from_utf8(unit.text).is_err();
        if exact {
            json::key("message_base64", out);
            out.push(b'"');
            ndjson::base64_into(unit.text, out);
            out.push(b'"');
        }
        out.push(b'}');
        json::key("message", out);
        ndjson::text_value(unit.text, out);
        out.push(b'}');
    }

    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        out.push(b'{');
        json::number("timestamp", json::millis(gap.last), out);
        json::key("attributes", out);
        out.push(b'{');
        json::text("stream", super::OWN_STREAM, out);
        json::number("lost", gap.lost.total(), out);
        out.push(b'}');
        message("message", gap.message().as_bytes(), out);
        out.push(b'}');
    }

    fn end(&mut self, out: &mut Vec<u8>, _ends: &mut [u32]) {
        out.extend_from_slice(b"]}]");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{format::testing::*, transport::ItemVerdict};
    use base64::{Engine, prelude::BASE64_STANDARD};
    use proptest::prelude::*;

    fn body(preset: Preset, units: &[Unit<'_>]) -> String {
        String::from_utf8(payload(Format::Webhook(preset), origin(), units)).unwrap()
    }

    #[test]
    fn each_preset_has_its_envelope_and_its_names() {
        let units = [unit(1, b"one"), unit(2, b"")];
        let object = |time: &str, rest: &str| {
            format!(
                "{{\"{time}\":\"2026-01-02T03:04:05.678901Z\",\"stream\":\"stdout\",\"level\":\"info\",\"host\":\"web-7\",\
                 \"app\":\"shop\",\"instance\":\"4121\",\"run\":\"0197-b7\",{rest}}}"
            )
        };
        let (one, two) = (object("ts", "\"seq\":1,\"message\":\"one\""), object("ts", "\"seq\":2,\"message\":\"\""));
        assert_eq!(body(Preset::Array, &units), format!("[{one},{two}]"));
        assert_eq!(body(Preset::Wrapped, &units), format!("{{\"logs\":[{one},{two}]}}"));
        assert_eq!(body(Preset::Text, &units), "one\n\n");
        assert_eq!(body(Preset::BetterStack, &units[..1]), object("dt", "\"seq\":1,\"message\":\"one\"") + "\n");
        assert_eq!(body(Preset::Axiom, &units[..1]), object("_time", "\"seq\":1,\"message\":\"one\"") + "\n");
        assert_eq!(
            body(Preset::VictoriaLogs, &units[1..]),
            object("_time", "\"seq\":2,\"_msg\":\"-\",\"message_base64\":\"\"") + "\n"
        );
        assert_eq!(
            body(Preset::NewRelic, &units[..1]),
            "[{\"common\":{\"attributes\":{\"service\":\"shop\",\"hostname\":\"web-7\",\"instance\":\"4121\",\"run\":\"0197-b7\"}},\
             \"logs\":[{\"timestamp\":1767323045678,\"attributes\":{\"stream\":\"stdout\",\"seq\":1},\"message\":\"one\"}]}]"
        );
    }

    #[test]
    fn axiom_says_in_a_200_how_many_it_did_not_take() {
        let of_bytes = |body: &[u8]| axiom(&Answer { status: 200, body, items: 3 }).meaning;
        let judged = |body: &str| of_bytes(body.as_bytes());
        assert!(matches!(judged(r#"{"failed":2,"failures":null}"#), Meaning::Items { .. }), "one field is odd");
        let bytes = b"{\"failed\":2,\"failures\":[{\"error\":\"\xff\"}]}";
        assert!(matches!(of_bytes(bytes), Meaning::Items { .. }), "its words are no UTF-8");
        let failed =
            r#"{"ingested":2,"failed":1,"failures":[{"timestamp":"x","error":"bad field"}],"processedBytes":9}"#;
        let Meaning::Items { items, .. } = judged(failed) else { panic!("not by item") };
        assert_eq!(items, [ItemVerdict::SomeRejected, ItemVerdict::Stored, ItemVerdict::Stored]);
        assert_eq!(judged(r#"{"ingested":3,"failed":0,"failures":[]}"#), Meaning::Status);
        assert_eq!(judged(""), Meaning::Status);
    }

    proptest! {
        #[test]
        fn every_line_reads_back_to_the_byte(units in prop::collection::vec(any_unit(), 1..6)) {
            let bodies: Vec<_> = units.iter().map(Owned::unit).collect();
            let array: Vec<Value> = serde_json::from_str(&body(Preset::Array, &bodies)).unwrap();
            let wrapped: Value = serde_json::from_str(&body(Preset::Wrapped, &bodies)).unwrap();
            let newrelic: Value = serde_json::from_str(&body(Preset::NewRelic, &bodies)).unwrap();
            prop_assert_eq!(wrapped["logs"].as_array().unwrap(), &array);
            let logs = newrelic[0]["logs"].as_array().unwrap();
            prop_assert_eq!((array.len(), logs.len()), (units.len(), units.len()));
            for (index, owned) in units.iter().enumerate() {
                for (value, exact) in [(&array[index], &array[index]), (&logs[index], &logs[index]["attributes"])] {
                    let text = match exact.get("message_base64") {
                        Some(exact) => BASE64_STANDARD.decode(exact.as_str().unwrap()).unwrap(),
                        None => value["message"].as_str().unwrap().as_bytes().to_vec(),
                    };
                    prop_assert_eq!(&text, &owned.text);
                }
            }
        }
    }
}
