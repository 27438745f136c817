//! Formats: how units become bytes. One file each; encoders are pure.
//!
//! A format promises to be *deterministic*: the same items give the same payload from any encoder of the same settings
//! and origin, whatever was encoded before. Drains lean on that: a replay is made by encoding again, and a position in the
//! wire bytes is mapped back to units the same way. What an encoder remembers between payloads is a cache of exactly that.
//!
//! To add a format: a file with an [`Encode`] (and a [`Protocol`], if it is spoken over HTTP), a variant of [`Format`] with
//! its line in [`Format::parts`], a row in `config/schemes.rs`, and a test.

pub mod datadog;
pub mod elastic;
mod gap;
pub mod gelf;
pub mod http;
mod json;
pub mod local_syslog;
pub mod logplex;
pub mod loki;
pub mod ndjson;
pub mod otlp;
mod otlp_json;
pub mod raw;
pub mod splunk;
mod stamp;
pub mod syslog;
pub mod syslog3164;
#[cfg(test)]
pub(crate) mod testing;
pub mod webhook;

pub use gap::{Gap, thousands};
pub use http::Protocol;
pub use stamp::StampText;

use crate::line::{Stream, Unit};
use std::sync::{Arc, OnceLock};

/// Who is talking: what formats say about the origin of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Host name.
    pub host: String,
    /// App name.
    pub app: String,
    /// Process id or instance name of the app.
    pub instance: Instance,
    /// Names the run: a UUIDv7.
    pub run: String,
    /// `--label k=v`, in the order given, each name once.
    pub labels: Vec<(String, String)>,
}

/// A name that is known once the app runs. Clones share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance(Arc<OnceLock<String>>);

impl Instance {
    /// A name that is known already.
    pub fn known(name: impl Into<String>) -> Self {
        Self(Arc::new(OnceLock::from(name.into())))
    }

    /// Tells the name; the first one holds.
    pub fn tell(&self, name: impl Into<String>) {
        let _ = self.0.set(name.into());
    }

    /// The name. Waits for it: a line may be read in the moment between the app's start and our learning its pid.
    pub fn wait(&self) -> &str {
        self.0.wait()
    }
}

/// A format with its settings. Closed: one variant a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// The line as the app wrote it, with its newline.
    Raw,
    /// RFC 5424.
    Syslog(syslog::Framing),
    /// What libc writes into /dev/log.
    LocalSyslog,
    /// RFC 3164, as syslog was before.
    Syslog3164(syslog::Framing),
    /// Heroku's Logplex.
    Logplex(logplex::Data),
    /// Grafana Loki's push API, as JSON.
    Loki,
    /// OpenTelemetry logs.
    Otlp(otlp::Encoding),
    /// The `_bulk` API of Elasticsearch and OpenSearch.
    Elastic,
    /// Splunk's HTTP Event Collector.
    Splunk,
    /// Datadog's logs intake, version 2.
    Datadog,
    /// Graylog's GELF 1.1.
    Gelf(gelf::Carrier),
    /// JSON in another envelope or under other names, or plain text.
    Webhook(webhook::Preset),
}

/// Makes an encoder that speaks for an origin.
type Make = fn(Format, &Origin) -> Box<dyn Encode>;

impl Format {
    /// What a format is made of: its encoder and its HTTP dialect.
    const fn parts(self) -> (Make, &'static Protocol) {
        match self {
            Self::Ndjson => (|_, origin| Box::new(ndjson::Ndjson::new(origin, ndjson::NAMES)), &ndjson::PROTOCOL),
            Self::Raw => (|_, _| Box::new(raw::Raw), &Protocol::PLAIN),
            Self::Syslog(_) => (syslog::make, &Protocol::PLAIN),
            Self::LocalSyslog => (|_, origin| Box::new(local_syslog::LocalSyslog::new(origin)), &Protocol::PLAIN),
            Self::Syslog3164(_) => (syslog3164::make, &Protocol::PLAIN),
            Self::Logplex(_) => (logplex::make, &logplex::PROTOCOL),
            Self::Loki => (|_, origin| Box::new(loki::Loki::new(origin)), &loki::PROTOCOL),
            Self::Otlp(otlp::Encoding::Protobuf) => (|_, origin| Box::new(otlp::Otlp::new(origin)), &otlp::PROTOCOL),
            Self::Otlp(otlp::Encoding::Json) => {
                (|_, origin| Box::new(otlp_json::OtlpJson::new(origin)), &otlp_json::PROTOCOL)
            }
            Self::Elastic => (|_, origin| Box::new(elastic::Elastic::new(origin)), &elastic::PROTOCOL),
            Self::Splunk => (|_, origin| Box::new(splunk::Splunk::new(origin)), &splunk::PROTOCOL),
            Self::Datadog => (|_, origin| Box::new(datadog::Datadog::new(origin)), &datadog::PROTOCOL),
            Self::Gelf(carrier) => (gelf::make, gelf::protocol(carrier)),
            Self::Webhook(preset) => (webhook::make, webhook::protocol(preset)),
        }
    }

    /// How the format is spoken over HTTP.
    pub const fn protocol(self) -> &'static Protocol {
        self.parts().1
    }
}

/// What lastword's own lines (gaps, and the app's life) say where an app's line says `stdout` or `stderr`.
pub const OWN_STREAM: &str = Stream::Own.name();

/// The level of a stream's lines in words, where a format has that: Docker's choice for the app's, and `notice` for ours.
const fn level(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "info",
        Stream::Stderr => "error",
        Stream::Own => "notice",
    }
}

/// A format's encoder. All methods append to a buffer of the caller's.
///
/// A payload is `begin`, its items with `separator`s between them, and `end`; formats for byte streams and datagrams leave
/// begin, separator and end empty. What an item's bytes are may depend on the items before it in the same payload.
pub(crate) trait Encode: std::fmt::Debug + Send {
    /// One unit, framing included.
    fn unit(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>);

    /// The announcement of a loss, framing included.
    fn gap(&mut self, gap: &Gap, out: &mut Vec<u8>);

    /// Sets the longest message. For formats that can cut a unit into messages, and framings that tell messages apart within
    /// a unit: not for datagrams.
    fn set_limit(&mut self, _limit: usize) {}

    /// What stands before the first item.
    fn begin(&mut self, _out: &mut Vec<u8>) {}

    /// What stands between two items.
    fn separator(&self) -> &'static [u8] {
        b""
    }

    /// What stands behind the last item. `out` is the whole payload, `ends` where each item ends in it: an encoder that
    /// puts something in front (a length) moves them.
    fn end(&mut self, _out: &mut Vec<u8>, _ends: &mut [u32]) {}
}

/// Turns units into the bytes of one format. Appends to a buffer of the caller's and allocates nothing per unit.
#[derive(Debug)]
pub struct Encoder {
    format: Format,
    origin: Origin,
    limit: Option<usize>,
    /// Made for the first line: only then all of the origin is known.
    encode: Option<Box<dyn Encode>>,
}

impl Encoder {
    /// An encoder of `format`, speaking for `origin`.
    pub const fn new(format: Format, origin: Origin) -> Self {
        Self { format, origin, limit: None, encode: None }
    }

    /// Sets the longest message in bytes, for formats of messages: longer units travel in pieces.
    pub const fn limited(mut self, limit: Option<usize>) -> Self {
        self.limit = limit;
        self
    }

    /// The same format, for lines of another run.
    pub(crate) fn speaking_for(&self, origin: Origin) -> Self {
        Self::new(self.format, origin).limited(self.limit)
    }

    fn inner(&mut self) -> &mut dyn Encode {
        let make = || {
            let mut encode = (self.format.parts().0)(self.format, &self.origin);
            self.limit.into_iter().for_each(|limit| encode.set_limit(limit));
            encode
        };
        self.encode.get_or_insert_with(make).as_mut()
    }

    /// Appends what stands before the first item of a payload.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        self.inner().begin(out);
    }

    /// Appends what stands between two items.
    pub fn separate(&mut self, out: &mut Vec<u8>) {
        let separator = self.inner().separator();
        out.extend_from_slice(separator);
    }

    /// Appends one unit, framing included.
    pub fn encode(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        self.inner().unit(unit, out);
    }

    /// Appends the announcement of a loss, framing included.
    pub fn encode_gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        self.inner().gap(gap, out);
    }

    /// Ends the payload `out`, whose items end at `ends`.
    pub fn end(&mut self, out: &mut Vec<u8>, ends: &mut [u32]) {
        self.inner().end(out, ends);
        if let Some(last) = ends.last_mut() {
            *last = u32::try_from(out.len()).unwrap_or(u32::MAX);
        }
    }

    /// How the format is spoken over HTTP.
    pub const fn protocol(&self) -> &'static Protocol {
        self.format.protocol()
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::*, *};
    use crate::{
        ledger::{Loss, Losses},
        line::Stamp,
    };
    use proptest::prelude::*;

    const FORMATS: [Format; 23] = [
        Format::LocalSyslog,
        Format::Ndjson,
        Format::Raw,
        Format::Syslog(syslog::Framing::Counted),
        Format::Syslog(syslog::Framing::Lf),
        Format::Syslog(syslog::Framing::Datagram),
        Format::Syslog3164(syslog::Framing::Lf),
        Format::Logplex(logplex::Data::Omit),
        Format::Logplex(logplex::Data::Nil),
        Format::Loki,
        Format::Otlp(otlp::Encoding::Protobuf),
        Format::Otlp(otlp::Encoding::Json),
        Format::Elastic,
        Format::Splunk,
        Format::Datadog,
        Format::Gelf(gelf::Carrier::Stream),
        Format::Gelf(gelf::Carrier::Bulk),
        Format::Webhook(webhook::Preset::Array),
        Format::Webhook(webhook::Preset::Wrapped),
        Format::Webhook(webhook::Preset::BetterStack),
        Format::Webhook(webhook::Preset::Axiom),
        Format::Webhook(webhook::Preset::NewRelic),
        Format::Webhook(webhook::Preset::VictoriaLogs),
    ];

    fn used(format: Format, units: &[Owned]) -> Encoder {
        let mut encoder = Encoder::new(format, origin());
        let (mut out, mut ends) = (Vec::new(), vec![0; units.len()]);
        encoder.begin(&mut out);
        units.iter().for_each(|owned| encoder.encode(&owned.unit(), &mut out));
        encoder.end(&mut out, &mut ends);
        encoder
    }

    proptest! {
        /// Replays are made by encoding again, from anywhere, so the past of an encoder must not show.
        #[test]
        fn a_payload_has_the_same_bytes_from_a_used_and_a_fresh_encoder(units in prop::collection::vec(any_unit(), 1..12)) {
            for format in FORMATS {
                let bodies: Vec<_> = units.iter().map(Owned::unit).collect();
                let (mut encoder, mut out, mut ends) = (used(format, &units), Vec::new(), Vec::new());
                encoder.begin(&mut out);
                for (index, unit) in bodies.iter().enumerate() {
                    if index > 0 {
                        encoder.separate(&mut out);
                    }
                    encoder.encode(unit, &mut out);
                    ends.push(out.len() as u32);
                }
                encoder.end(&mut out, &mut ends);
                prop_assert_eq!((out, ends), payload_and_ends(format, origin(), &bodies));
            }
        }

        /// What stands on a byte stream is cut at any unit, so there a unit's bytes are its own.
        #[test]
        fn on_byte_streams_a_unit_gives_the_same_bytes_wherever_it_stands(units in prop::collection::vec(any_unit(), 1..12)) {
            let streams = FORMATS.iter().filter(|format| {
                matches!(format, Format::Ndjson | Format::Raw | Format::LocalSyslog | Format::Syslog(_) | Format::Syslog3164(_)
                    | Format::Gelf(gelf::Carrier::Stream))
            });
            for &format in streams {
                let mut whole = Vec::new();
                for owned in &units {
                    whole.extend(payload(format, origin(), &[owned.unit()]));
                }
                let bodies: Vec<_> = units.iter().map(Owned::unit).collect();
                prop_assert_eq!(payload(format, origin(), &bodies), whole);
            }
        }
    }

    #[test]
    fn a_gap_tells_its_count_and_both_times_in_the_same_bytes_from_a_used_and_a_fresh_encoder() {
        let mut lost = Losses::default();
        lost.add(Loss::Overflow, 987);
        let gap = Gap { lost, first: TIME, last: Stamp(TIME.0 + 5_000_000_000), among: 0 };
        for format in FORMATS {
            let owned =
                Owned { seq: 3, stream: crate::line::Stream::Stderr, time: TIME, text: b"x".to_vec(), part: None };
            let (mut encoder, mut out) = (used(format, &[owned]), Vec::new());
            encoder.begin(&mut out);
            encoder.encode_gap(&gap, &mut out);
            encoder.end(&mut out, &mut [0]);
            assert_eq!(out, gap_payload(format, origin(), &gap));
            let text = String::from_utf8_lossy(&out);
            for told in ["987", "2026-01-02T03:04:05.678901", "2026-01-02T03:04:10.678901"] {
                assert!(text.contains(told), "{format:?} does not tell {told}: {text}");
            }
        }
    }

    #[test]
    fn labels_travel_wherever_a_format_has_a_place_for_them() {
        let without = |format: &Format| {
            matches!(format, Format::Raw | Format::LocalSyslog | Format::Syslog3164(_) | Format::Logplex(_))
        };
        let mut labelled = origin();
        labelled.labels = vec![("env".into(), "pr\"od".into())];
        for format in FORMATS {
            let body = payload(format, labelled.clone(), &[unit(1, b"x")]);
            let body = String::from_utf8_lossy(&body);
            assert_eq!(body.contains("env") && body.contains("pr"), !without(&format), "{format:?}: {body}");
        }
    }
}
