//! Packing: how much travels in one payload, how long to gather for it, and its encoding.
//!
//! Sizes before encoding are estimates (text plus a flat share an item), so a payload may pass its limit by what
//! escaping adds; receivers that mind answer 413, and the payload is halved.

use super::sealed::{Piece, Sealed};
use crate::{
    config::{DrainSpec, Target},
    format::{Encoder, Format},
};
use std::time::Duration;

/// How one drain packs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Estimated wire bytes of a payload.
    pub(crate) bytes: usize,
    /// Items in a payload.
    pub(crate) items: usize,
    /// Estimated wire bytes of an item beside its text.
    pub(crate) overhead: usize,
    /// How long to gather lines before a payload that is not full.
    pub(crate) linger: Duration,
    /// The same when the drain was idle for less than this: wake-ups cost more than bytes, so a busy drain naps.
    pub(crate) nap: Duration,
    /// Wire bytes that may be sealed and unsettled at a time.
    pub(crate) in_flight: usize,
}

impl Limits {
    /// Limits for a drain that has `memory` bytes.
    pub(crate) fn new(spec: &DrainSpec, memory: usize) -> Self {
        const KIB: usize = 1024;
        let (bytes, items, linger, nap) = match &spec.target {
            Target::Http(_) => (spec.format.protocol().bytes, spec.format.protocol().items, 150, 150),
            Target::Tcp(_) => (64 * KIB, 10_000, 0, 5),
            Target::Udp(_) => (64 * KIB, 256, 0, 1),
            Target::File(_) => (1024 * KIB, 20_000, 0, 5),
        };
        let overhead = match spec.format {
            Format::Raw => 1,
            _ => 160,
        };
        let in_flight = in_flight(memory);
        Self {
            bytes: bytes.min(in_flight / 2),
            items,
            overhead,
            linger: Duration::from_millis(linger),
            nap: Duration::from_millis(nap),
            in_flight,
        }
    }
}

impl Limits {
    /// The limits while time runs out: smaller payloads, so that a slow receiver shows progress, and less hangs on the last
    /// answer.
    pub(crate) fn hurried(self) -> Self {
        Self { bytes: self.bytes.min(HURRIED_BYTES), ..self }
    }
}

/// See [`Limits::hurried`].
const HURRIED_BYTES: usize = 256 << 10;

/// Wire bytes that a drain of `memory` bytes may have in flight (sealed, written but unacknowledged, replay window).
pub(crate) fn in_flight(memory: usize) -> usize {
    (memory / 4).min(4 << 20)
}

/// Encodes the open items of `sealed` as a payload into `out`, which is empty, and notes where each ends.
pub(crate) fn encode(sealed: &Sealed, encoder: &mut Encoder, out: &mut Vec<u8>, ends: &mut Vec<u32>) {
    let mut note = |out: &Vec<u8>| ends.push(u32::try_from(out.len()).unwrap_or(u32::MAX));
    encoder.begin(out);
    let mut is_first = true;
    let mut separate = |encoder: &mut Encoder, out: &mut Vec<u8>| {
        if !std::mem::replace(&mut is_first, false) {
            encoder.separate(out);
        }
    };
    for piece in sealed.open_pieces() {
        match piece {
            Piece::Units { batch, from, to } => {
                for index in from..to {
                    separate(encoder, out);
                    encoder.encode(&batch.unit(index), out);
                    note(out);
                }
            }
            Piece::Gap(gap) => {
                separate(encoder, out);
                encoder.encode_gap(&gap, out);
                note(out);
            }
        }
    }
    encoder.end(out, ends);
}
