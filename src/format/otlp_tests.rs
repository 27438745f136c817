//! Both encodings of OTLP, read back by the `opentelemetry-proto` crate, which shares no code with them.

use super::*;
use crate::{
    format::{Format, testing::*},
    ledger::{Loss, Losses},
    transport::ItemVerdict,
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{KeyValue, any_value::Value as Any},
    logs::v1::LogRecord,
};
use proptest::prelude::*;

fn request(encoding: Encoding, units: &[Unit<'_>]) -> ExportLogsServiceRequest {
    let body = payload(Format::Otlp(encoding), origin(), units);
    match encoding {
        Encoding::Protobuf => ExportLogsServiceRequest::decode(&body[..]).unwrap(),
        Encoding::Json => serde_json::from_slice(&body).unwrap(),
    }
}

fn records(request: &ExportLogsServiceRequest) -> &[LogRecord] {
    &request.resource_logs[0].scope_logs[0].log_records
}

fn value(attributes: &[KeyValue], name: &str) -> Option<Any> {
    attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?.value
}

fn text(text: &str) -> Option<Any> {
    Some(Any::StringValue(text.into()))
}

#[test]
fn resource_scope_and_record_follow_the_conventions() {
    let request = request(Encoding::Protobuf, &[unit(42, b"GET /cart 200")]);
    let resource = &request.resource_logs[0].resource.as_ref().unwrap().attributes;
    assert_eq!(value(resource, "service.name"), text("shop"));
    assert_eq!(value(resource, "host.name"), text("web-7"));
    assert_eq!(value(resource, "process.pid"), Some(Any::IntValue(4121)));
    assert_eq!(value(resource, "lastword.run"), text("0197-b7"));
    let scope = request.resource_logs[0].scope_logs[0].scope.as_ref().unwrap();
    assert_eq!((&*scope.name, &*scope.version), ("lastword", env!("CARGO_PKG_VERSION")));
    let record = &records(&request)[0];
    assert_eq!(record.time_unix_nano, u64::try_from(TIME.0).unwrap());
    assert_eq!((record.observed_time_unix_nano, record.severity_number), (record.time_unix_nano, 0));
    assert_eq!(record.body.as_ref().unwrap().value, text("GET /cart 200"));
    assert_eq!(value(&record.attributes, "log.iostream"), text("stdout"));
    assert_eq!(value(&record.attributes, "log.record.uid"), text("0197-b7-42"));
}

#[test]
fn json_looks_as_the_specification_has_it() {
    let body = payload(Format::Otlp(Encoding::Json), origin(), &[unit(42, b"a\"b"), unit(43, b"\xff")]);
    let wanted = [
        r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}},"#,
        r#"{"key":"host.name","value":{"stringValue":"web-7"}},{"key":"process.pid","value":{"intValue":"4121"}},"#,
        r#"{"key":"lastword.run","value":{"stringValue":"0197-b7"}}]},"#,
        r#""scopeLogs":[{"scope":{"name":"lastword","version":""#,
        env!("CARGO_PKG_VERSION"),
        r#""},"logRecords":[{"timeUnixNano":"1767323045678901234","observedTimeUnixNano":"1767323045678901234","#,
        r#""body":{"stringValue":"a\"b"},"attributes":[{"key":"log.iostream","value":{"stringValue":"stdout"}},"#,
        r#"{"key":"log.record.uid","value":{"stringValue":"0197-b7-42"}},"#,
        r#"{"key":"lastword.seq","value":{"intValue":"42"}}]},"#,
        r#"{"timeUnixNano":"1767323045678901234","observedTimeUnixNano":"1767323045678901234","#,
        r#""body":{"bytesValue":"/w=="},"attributes":[{"key":"log.iostream","value":{"stringValue":"stdout"}},"#,
        r#"{"key":"log.record.uid","value":{"stringValue":"0197-b7-43"}},"#,
        r#"{"key":"lastword.seq","value":{"intValue":"43"}}]}]}]}]}"#,
    ];
    assert_eq!(String::from_utf8(body).unwrap(), wanted.concat());
}

#[test]
fn a_gap_is_a_warning_in_both_encodings() {
    let mut lost = Losses::default();
    lost.add(Loss::Overflow, 12);
    let gap = Gap { lost, first: TIME, last: TIME, among: 0 };
    for encoding in [Encoding::Protobuf, Encoding::Json] {
        let body = gap_payload(Format::Otlp(encoding), origin(), &gap);
        let request: ExportLogsServiceRequest = match encoding {
            Encoding::Protobuf => ExportLogsServiceRequest::decode(&body[..]).unwrap(),
            Encoding::Json => serde_json::from_slice(&body).unwrap(),
        };
        let record = &records(&request)[0];
        assert_eq!((record.severity_number, &*record.severity_text), (13, "WARN"));
        assert_eq!(record.body.as_ref().unwrap().value, text(&gap.message()));
        assert_eq!(value(&record.attributes, "lastword.lost"), Some(Any::IntValue(12)));
    }
}

fn judged(status: u16, body: &[u8]) -> Meaning {
    judge(&Answer { status, body, items: 10 }).meaning
}

#[test]
fn checklist_30_a_partial_success_is_counted_and_not_retried() {
    let partial = ExportLogsPartialSuccess { rejected_log_records: 4, error_message: "too old\n".into() };
    let binary = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let bodies = [
        binary,
        br#"{"partialSuccess":{"rejectedLogRecords":"4","errorMessage":"too old"}}"#.to_vec(),
        br#"{"partialSuccess":{"rejectedLogRecords":4}}"#.to_vec(),
    ];
    for body in bodies {
        let Meaning::Items { items, .. } = judged(200, &body) else { panic!("not by item: {body:?}") };
        let rejected = items.iter().filter(|&&verdict| verdict == ItemVerdict::SomeRejected).count();
        let stored = items.iter().filter(|&&verdict| verdict == ItemVerdict::Stored).count();
        assert_eq!((rejected, stored), (4, 6));
    }
}

#[test]
fn the_ways_to_say_full_success_are_understood() {
    for body in [&b""[..], b"{}", br#"{"partialSuccess":null}"#, br#"{"partialSuccess":{}}"#, b"nonsense", b"{nonsense"]
    {
        assert_eq!(judged(200, body), Meaning::Status, "{body:?}");
    }
    let warning = br#"{"partialSuccess":{"rejectedLogRecords":"0","errorMessage":"slow down"}}"#;
    assert_eq!(judged(200, warning), Meaning::Status);
}

proptest! {
    #[test]
    fn every_record_reads_back_to_the_byte(units in prop::collection::vec(any_unit(), 1..8), json in any::<bool>()) {
        let encoding = if json { Encoding::Json } else { Encoding::Protobuf };
        let bodies: Vec<_> = units.iter().map(Owned::unit).collect();
        let request = request(encoding, &bodies);
        let records = records(&request);
        prop_assert_eq!(records.len(), units.len());
        for (owned, record) in units.iter().zip(records) {
            let bytes = match record.body.clone().unwrap().value.unwrap() {
                Any::StringValue(text) => text.into_bytes(),
                Any::BytesValue(bytes) => bytes,
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(&bytes, &owned.text);
            prop_assert_eq!(record.time_unix_nano, u64::try_from(owned.time.0).unwrap_or(0));
            let uid = format!("0197-b7-{}", owned.seq);
            prop_assert_eq!(value(&record.attributes, "log.record.uid"), text(&uid));
            let stream = owned.stream.name();
            prop_assert_eq!(value(&record.attributes, "log.iostream"), text(stream));
            let part = owned.part.map(|part| (Any::IntValue(part.number.into()), Any::BoolValue(part.last)));
            let found = value(&record.attributes, "lastword.part").zip(value(&record.attributes, "lastword.last"));
            prop_assert_eq!(found, part);
        }
    }

    /// `ends` are what the drain finds units by.
    #[test]
    fn the_ends_ascend_to_the_end_of_the_body(units in prop::collection::vec(any_unit(), 1..8)) {
        let bodies: Vec<_> = units.iter().map(Owned::unit).collect();
        let (body, ends) = payload_and_ends(Format::Otlp(Encoding::Protobuf), origin(), &bodies);
        prop_assert!(ends.is_sorted());
        prop_assert_eq!(*ends.last().unwrap() as usize, body.len());
    }
}
