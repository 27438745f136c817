//! A drain's queue without its thread, for `benches/stages.rs`: the parts are private, their price is not.

use super::{
    inbox::Inbox,
    pack::{self, Limits},
};
use crate::{
    config::WhenFull,
    format::{Encoder, Format, Origin},
    ledger::Grade,
    line::Batch,
    transport::Progress,
};
use std::{sync::Arc, time::Duration};

/// Memory of one queue, in bytes.
const MEMORY: usize = 32 << 20;

/// Queues that nobody drains but the bench.
#[derive(Debug)]
pub struct Queues {
    inboxes: Vec<Inbox>,
    limits: Limits,
}

impl Queues {
    /// So many of them, each with payloads of 64 KiB.
    pub fn new(count: usize) -> Self {
        let limits = Limits {
            bytes: 64 << 10,
            items: 10_000,
            gaps_alone: false,
            overhead: 160,
            linger: Duration::ZERO,
            nap: Duration::ZERO,
            in_flight: 4 << 20,
            load: 1 << 20,
        };
        Self { inboxes: (0..count).map(|_| Inbox::new(WhenFull::DropOldest, MEMORY)).collect(), limits }
    }

    /// What a reader does with a batch.
    pub fn publish(&self, batch: &Arc<Batch>) {
        self.inboxes.iter().for_each(|inbox| inbox.push(batch));
    }

    /// What a drain does with it, but for encoding and sending: seal, place, mark as sent, settle. Returns the units.
    pub fn settle(&self) -> u64 {
        let mut units = 0;
        for inbox in &self.inboxes {
            let mut upto = 0;
            loop {
                let mut state = inbox.lock();
                if !state.queue.seal(&self.limits) {
                    break;
                }
                let Some(run) = state.queue.unsent().cloned() else { break };
                state.queue.place(run.id(), (1..=run.open_items() as u32).collect());
                upto = state.queue.unsent().and_then(|run| run.span()).map_or(upto, |(_, end)| end);
                state.queue.mark_sent(run.id());
                drop(state);
                units += inbox.progress(Progress { epoch: 1, upto, grade: Grade::Confirmed });
            }
        }
        units
    }
}

/// Packs and encodes whole batches, as a drain does.
#[derive(Debug)]
pub struct Packer {
    encoders: pack::Encoders,
    out: Vec<u8>,
}

impl Packer {
    /// For one format.
    pub fn new(format: Format, origin: Origin) -> Self {
        Self { encoders: pack::Encoders::new(Encoder::new(format, origin)), out: Vec::new() }
    }

    /// Encodes a batch; returns the wire bytes.
    pub fn pack(&mut self, batch: &Arc<Batch>) -> usize {
        let piece = super::sealed::Piece::Units { batch: Arc::clone(batch), from: 0, to: batch.len() };
        let mut ends = Vec::with_capacity(batch.len());
        self.out.clear();
        pack::encode(&super::sealed::Sealed::new(1, vec![piece]), &mut self.encoders, &mut self.out, &mut ends);
        self.out.len()
    }
}
