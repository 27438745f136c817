//! What the tests of all formats share.

use super::*;
use crate::line::{Part, Stamp, Stream};
use proptest::prelude::*;

/// 2026-01-02T03:04:05.678901234Z.
pub(crate) const TIME: Stamp = Stamp(1_767_323_045_678_901_234);

pub(crate) fn origin() -> Origin {
    Origin {
        host: "web-7".into(),
        app: "shop".into(),
        instance: Instance::known("4121"),
        run: "0197-b7".into(),
        labels: Vec::new(),
    }
}

/// The whole payload of these units.
pub(crate) fn payload(format: Format, origin: Origin, units: &[Unit<'_>]) -> Vec<u8> {
    payload_and_ends(format, origin, units).0
}

pub(crate) fn payload_and_ends(format: Format, origin: Origin, units: &[Unit<'_>]) -> (Vec<u8>, Vec<u32>) {
    let (mut encoder, mut out, mut ends) = (Encoder::new(format, origin), Vec::new(), Vec::new());
    encoder.begin(&mut out);
    for (index, unit) in units.iter().enumerate() {
        if index > 0 {
            encoder.separate(&mut out);
        }
        encoder.encode(unit, &mut out);
        ends.push(u32::try_from(out.len()).unwrap());
    }
    encoder.end(&mut out, &mut ends);
    (out, ends)
}

/// The whole payload of one gap.
pub(crate) fn gap_payload(format: Format, origin: Origin, gap: &Gap) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(format, origin), Vec::new());
    encoder.begin(&mut out);
    encoder.encode_gap(gap, &mut out);
    encoder.end(&mut out, &mut [0]);
    out
}

pub(crate) fn unit(seq: u64, text: &[u8]) -> Unit<'_> {
    Unit { seq, stream: Stream::Stdout, time: TIME, text, part: None, newline: true, index: 0 }
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
        Unit {
            seq: self.seq,
            stream: self.stream,
            time: self.time,
            text: &self.text,
            part: self.part,
            newline,
            index: 0,
        }
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
