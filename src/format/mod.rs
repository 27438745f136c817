//! Formats: how units become bytes. One file each; encoders are pure.
//!
//! A format promises to be *deterministic*: the same unit or gap gives the same bytes from any encoder of the same
//! settings and origin, whatever was encoded before. Drains lean on that: a replay is made by encoding again, and a position in the wire
//! bytes is mapped back to units the same way. What an encoder remembers between calls is a cache of exactly that.

mod gap;
pub mod local_syslog;
pub mod ndjson;
pub mod raw;
mod stamp;
pub mod syslog;

pub use gap::{Gap, thousands};
pub use stamp::StampText;

use crate::line::Unit;
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
}

/// What lastword's own lines (gaps, and the app's life) say where an app's line says `stdout` or `stderr`.
pub const OWN_STREAM: &str = crate::line::Stream::Own.name();

/// Turns units into the bytes of one format. Appends to a buffer of the caller's and allocates nothing per unit.
#[derive(Clone, Debug)]
pub struct Encoder {
    format: Format,
    origin: Origin,
    limit: Option<usize>,
    /// Made for the first line: only then all of the origin is known.
    kind: Option<Kind>,
}

#[derive(Clone, Debug)]
enum Kind {
    Ndjson(ndjson::Ndjson),
    Raw,
    Syslog(syslog::Syslog),
    LocalSyslog(local_syslog::LocalSyslog),
}

impl Encoder {
    /// An encoder of `format`, speaking for `origin`.
    pub const fn new(format: Format, origin: Origin) -> Self {
        Self { format, origin, limit: None, kind: None }
    }

    /// Sets the longest message in bytes, for formats of messages: longer units travel in pieces.
    pub const fn limited(mut self, limit: Option<usize>) -> Self {
        self.limit = limit;
        self
    }

    /// The same format, for lines of another run.
    pub(crate) fn speaking_for(&self, origin: Origin) -> Self {
        Self::new(self.format, origin)
    }

    fn kind(&mut self) -> &mut Kind {
        self.kind.get_or_insert_with(|| match self.format {
            Format::Ndjson => Kind::Ndjson(ndjson::Ndjson::new(&self.origin)),
            Format::Raw => Kind::Raw,
            Format::Syslog(framing) => {
                let mut syslog = syslog::Syslog::new(framing, &self.origin);
                self.limit.into_iter().for_each(|limit| syslog.set_limit(limit));
                Kind::Syslog(syslog)
            }
            Format::LocalSyslog => Kind::LocalSyslog(local_syslog::LocalSyslog::new(&self.origin)),
        })
    }

    /// Appends one unit, framing included.
    pub fn encode(&mut self, unit: &Unit<'_>, out: &mut Vec<u8>) {
        match self.kind() {
            Kind::Ndjson(ndjson) => ndjson.encode(unit, out),
            Kind::Raw => raw::encode(unit, out),
            Kind::Syslog(syslog) => syslog.encode(unit, out),
            Kind::LocalSyslog(syslog) => syslog.encode(unit, out),
        }
    }

    /// Appends the announcement of a loss, framing included.
    pub fn encode_gap(&mut self, gap: &Gap, out: &mut Vec<u8>) {
        match self.kind() {
            Kind::Ndjson(ndjson) => ndjson.encode_gap(gap, out),
            Kind::Raw => raw::encode_gap(gap, out),
            Kind::Syslog(syslog) => syslog.encode_gap(gap, out),
            Kind::LocalSyslog(syslog) => syslog.encode_gap(gap, out),
        }
    }

    /// The media type for transports that name one.
    pub const fn content_type(&self) -> &'static str {
        match self.format {
            Format::Ndjson => "application/x-ndjson",
            Format::Raw | Format::Syslog(_) | Format::LocalSyslog => "text/plain",
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the tests of all formats share.

    use super::*;
    use crate::line::{Part, Stamp, Stream};
    use proptest::prelude::*;

    /// 2026-01-02T03:04:05.678901234Z.
    pub(crate) const TIME: Stamp = Stamp(1_767_323_045_678_901_234);

    pub(crate) fn origin() -> Origin {
        Origin { host: "web-7".into(), app: "shop".into(), instance: Instance::known("4121"), run: "0197-b7".into() }
    }

    pub(crate) fn unit(seq: u64, text: &[u8]) -> Unit<'_> {
        Unit { seq, stream: Stream::Stdout, time: TIME, text, part: None, newline: true }
    }

    /// A unit that owns its text: anything that can come out of a pipe.
    #[derive(Clone, Debug)]
    pub(crate) struct Owned {
        pub(crate) seq: u64,
        pub(crate) stream: Stream,
        pub(crate) time: Stamp,
        pub(crate) text: Vec<u8>,
        pub(crate) part: Option<Part>,
    }

    impl Owned {
        pub(crate) fn unit(&self) -> Unit<'_> {
            let newline = self.part.is_none_or(|part| part.last);
            Unit { seq: self.seq, stream: self.stream, time: self.time, text: &self.text, part: self.part, newline }
        }
    }

    /// Text with all that is hostile to encoders: quotes, controls, broken UTF-8, digits and brackets at the front.
    pub(crate) fn hostile_text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<[u8; 3]>().prop_map(|bytes| bytes.to_vec()),
            "[ -~]{0,40}".prop_map(String::into_bytes),
            "\\PC{0,8}".prop_map(String::into_bytes),
            prop::sample::select(vec![
                &b"\0"[..],
                b"\\",
                b"\"",
                b"\r",
                b"\t",
                b"\x1b[0m",
                b"\x7f",
                b"\xff",
                b"\xe2\x82",
                b"\xed\xa0\x80",
                b"]",
                b"12 ",
                b"<13>1 ",
                "\u{2028}".as_bytes(),
                "\u{feff}".as_bytes(),
                "🙂".as_bytes(),
            ])
            .prop_map(<[u8]>::to_vec),
        ];
        // A unit never holds a line feed: the framer ends units there.
        prop::collection::vec(piece, 0..8)
            .prop_map(|pieces| pieces.concat().into_iter().filter(|&byte| byte != b'\n').collect())
    }

    /// Any unit.
    pub(crate) fn any_unit() -> impl Strategy<Value = Owned> {
        let part =
            prop::option::weighted(0.3, (1..=u32::MAX, any::<bool>()).prop_map(|(number, last)| Part { number, last }));
        let stream = prop::sample::select(vec![Stream::Stdout, Stream::Stderr, Stream::Own]);
        (1..=u64::MAX, stream, any::<i64>(), hostile_text(), part).prop_map(|(seq, stream, time, text, part)| Owned {
            seq,
            stream,
            time: Stamp(time),
            text,
            part,
        })
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

    const FORMATS: [Format; 6] = [
        Format::LocalSyslog,
        Format::Ndjson,
        Format::Raw,
        Format::Syslog(syslog::Framing::Counted),
        Format::Syslog(syslog::Framing::Lf),
        Format::Syslog(syslog::Framing::Datagram),
    ];

    proptest! {
        /// Replays are made by encoding again, from anywhere, so the past of an encoder must not show.
        #[test]
        fn a_unit_gives_the_same_bytes_from_a_used_and_a_fresh_encoder(units in prop::collection::vec(any_unit(), 1..12)) {
            for format in FORMATS {
                let mut used = Encoder::new(format, origin());
                for owned in &units {
                    let (mut one, mut other) = (Vec::new(), b"before".to_vec());
                    used.encode(&owned.unit(), &mut one);
                    Encoder::new(format, origin()).encode(&owned.unit(), &mut other);
                    prop_assert_eq!(&one[..], &other[b"before".len()..]);
                }
            }
        }
    }

    #[test]
    fn a_gap_gives_the_same_bytes_from_a_used_and_a_fresh_encoder() {
        let mut lost = Losses::default();
        lost.add(Loss::Overflow, 12);
        let gap = Gap { lost, first: TIME, last: Stamp(TIME.0 + 5_000_000_000) };
        for format in FORMATS {
            let mut used = Encoder::new(format, origin());
            used.encode(&unit(3, b"x"), &mut Vec::new());
            let (mut one, mut other) = (Vec::new(), Vec::new());
            used.encode_gap(&gap, &mut one);
            Encoder::new(format, origin()).encode_gap(&gap, &mut other);
            assert_eq!(one, other);
            assert!(!one.is_empty());
        }
    }
}
