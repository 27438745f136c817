//! Packing: how much travels in one payload, how long to gather for it, and its encoding.
//!
//! Sizes before encoding are estimates (text plus a flat share an item), so a payload may pass its limit by what
//! escaping adds; receivers that mind answer 413, and the payload is halved.

use super::sealed::{Piece, Sealed};
use crate::{
    config::{DrainSpec, Target},
    format::{Encoder, Format, Origin},
    line::Source,
};
use std::time::Duration;

/// How one drain packs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Estimated wire bytes of a payload.
    pub(crate) bytes: usize,
    /// Items in a payload.
    pub(crate) items: usize,
    /// A gap line has a payload of its own: the receiver counts what it refuses, so lines must be all that it can count.
    pub(crate) gaps_alone: bool,
    /// Estimated wire bytes of an item beside its text.
    pub(crate) overhead: usize,
    /// How long to gather lines before a payload that is not full.
    pub(crate) linger: Duration,
    /// The same when the drain was idle for less than this: wake-ups cost more than bytes, so a busy drain naps.
    pub(crate) nap: Duration,
    /// Wire bytes that may be sealed and unsettled at a time.
    pub(crate) in_flight: usize,
    /// Bytes to read from the spool at a time.
    pub(crate) load: usize,
}

impl Limits {
    /// Limits for a drain that has `memory` bytes.
    pub(crate) fn new(spec: &DrainSpec, memory: usize) -> Self {
        const KIB: usize = 1024;
        let (bytes, items, linger, nap) = match &spec.target {
            Target::Http(_) => (spec.format.protocol().bytes, spec.format.protocol().items, 150, 150),
            Target::Tcp(_) | Target::Relp(_) => (64 * KIB, 10_000, 0, 5),
            Target::Udp(_) | Target::Unix(_) => (64 * KIB, 256, 0, 1),
            Target::File(_) => (1024 * KIB, 20_000, 0, 5),
        };
        let overhead = match spec.format {
            Format::Raw => 1,
            _ => 160,
        };
        let in_flight = in_flight(memory);
        // A replay window leaves a quarter of the limit free (see `transport::tcp`): payloads fit into that twice.
        let share = if matches!(spec.target, Target::Tcp(_)) { 8 } else { 2 };
        Self {
            bytes: bytes.min(in_flight / share),
            items,
            gaps_alone: matches!(spec.target, Target::Http(_)) && spec.format.protocol().counts_only,
            overhead,
            linger: Duration::from_millis(linger),
            nap: Duration::from_millis(nap),
            in_flight,
            load: (memory / 8).clamp(64 * KIB, 1024 * KIB),
        }
    }
}

impl Limits {
    /// The limits while time runs out: smaller payloads, so that a slow receiver shows progress, and less hangs on the
    /// last answer.
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

/// Encoders for lines of this run, and of whatever run left lines in the spool.
#[derive(Debug)]
pub(crate) struct Encoders {
    own: Encoder,
    /// The last other run that lines came from: they come one run after the other.
    other: Option<(Origin, Encoder)>,
}

impl Encoders {
    pub(crate) fn new(own: Encoder) -> Self {
        Self { own, other: None }
    }

    fn of(&mut self, source: Option<&Source>) -> &mut Encoder {
        let Some(source) = source else { return &mut self.own };
        let origin = &source.origin;
        if self.other.as_ref().is_none_or(|(known, _)| known != origin) {
            self.other = Some((origin.clone(), self.own.speaking_for(origin.clone())));
        }
        self.other.as_mut().map_or(&mut self.own, |(_, encoder)| encoder)
    }
}

/// Encodes the open items of `sealed`, which are of one source, as a payload into `out`, which is empty, and notes where
/// each ends.
pub(crate) fn encode(sealed: &Sealed, encoders: &mut Encoders, out: &mut Vec<u8>, ends: &mut Vec<u32>) {
    let mut note = |out: &Vec<u8>| ends.push(u32::try_from(out.len()).unwrap_or(u32::MAX));
    // A gap among an earlier run's lines speaks with their voice: the payload has just one.
    let encoder = encoders.of(sealed.source());
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
            Piece::OnLog(_) => debug_assert!(false, "what is on the log is loaded before it is sealed"),
        }
    }
    encoder.end(out, ends);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::WhenFull,
        drain::{
            queue::Queue,
            testing::{batch, limits, origin},
        },
        line::Batch,
    };
    use std::sync::Arc;

    fn left_by(run: &str, segment: u64, first: u64) -> Arc<Batch> {
        let origin = Origin { run: run.into(), app: run.into(), ..origin() };
        let batch = Arc::unwrap_or_clone(batch(first, 3));
        Arc::new(batch.from_source(Arc::new(Source { origin, segment })))
    }

    /// Loki says the app in front of the lines, NDJSON with each: neither may mix them up.
    #[test]
    fn a_payload_has_the_lines_of_one_run_and_its_names() {
        for format in [Format::Loki, Format::Ndjson] {
            let mut queue = Queue::new(WhenFull::DropOldest, 1 << 20);
            let batches = [left_by("one", 1, 1), left_by("one", 2, 4), left_by("two", 3, 1), batch(1, 3)];
            batches.iter().for_each(|batch| queue.push(batch));
            let mut encoders = Encoders::new(Encoder::new(format, origin()));
            let mut seen = Vec::new();
            while queue.seal(&limits()) {
                let sealed = queue.unsent().unwrap().clone();
                let (mut out, mut ends) = (Vec::new(), Vec::new());
                encode(&sealed, &mut encoders, &mut out, &mut ends);
                assert_eq!(ends.last().copied(), u32::try_from(out.len()).ok());
                let body = String::from_utf8(out).unwrap();
                let apps = ["one", "two", "app"].into_iter().filter(|app| body.contains(&format!("\"app\":\"{app}\"")));
                seen.push((apps.collect::<Vec<_>>(), ends.len()));
                queue.place(sealed.id(), ends.into());
                queue.mark_sent(sealed.id());
            }
            assert_eq!(seen, [(vec!["one"], 6), (vec!["two"], 3), (vec!["app"], 3)]);
        }
    }
}
