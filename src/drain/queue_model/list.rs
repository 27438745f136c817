//! The naive model: flat lists of units and gaps.

use crate::{
    config::WhenFull,
    drain::sealed::{GAP_BYTES, charge},
    ledger::{Counts, Grade, Loss},
};

/// A unit with its batch, or a gap with its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Unit(u64),
    Gap(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) items: Vec<Item>,
    pub(super) charge: usize,
    pub(super) at: Option<u64>,
    pub(super) sent: bool,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) memory: usize,
    pub(super) waiting: Vec<Vec<Item>>,
    pub(super) window: Vec<Run>,
    pub(super) wire: u64,
    pub(super) counts: Counts,
    /// Number, units accepted in it, and up to where; beside that, units sent in it.
    pub(super) epoch: (u32, u64, u64),
    pub(super) sent: u64,
    pub(super) announced: u64,
    pub(super) over: bool,
    pub(super) dead: bool,
}

pub(super) fn wire_length(item: Item) -> u64 {
    match item {
        Item::Unit(seq) => 8 + seq % 5,
        Item::Gap(_) => 30,
    }
}

pub(super) fn charge_of(piece: &[Item]) -> usize {
    match piece[0] {
        Item::Gap(_) => GAP_BYTES,
        Item::Unit(_) => charge(piece.iter().map(|item| text_length(*item)).sum(), piece.len()),
    }
}

pub(super) fn text_length(item: Item) -> usize {
    match item {
        Item::Unit(seq) => format!("line {seq}\n").len(),
        Item::Gap(_) => 0,
    }
}

pub(super) fn units(items: &[Item]) -> u64 {
    items.iter().filter(|item| matches!(item, Item::Unit(_))).count() as u64
}

impl Model {
    pub(super) fn charged(&self) -> usize {
        let waiting: usize = self.waiting.iter().map(|piece| charge_of(piece)).sum();
        waiting + self.window.iter().map(|run| run.charge).sum::<usize>()
    }

    pub(super) fn push(&mut self, policy: WhenFull, first: u64, len: u64) {
        if self.over {
            return;
        }
        self.counts.read += len;
        if self.dead {
            return self.counts.lost.add(Loss::DrainDied, len);
        }
        let piece: Vec<_> = (first..first + len).map(Item::Unit).collect();
        let full = self.charged() + charge_of(&piece) > self.memory;
        if policy == WhenFull::DropNewest && full && !self.waiting.is_empty() {
            self.counts.lost.add(Loss::Overflow, len);
            self.waiting.push(vec![Item::Gap(len)]);
        } else {
            let patient = policy == WhenFull::Block && self.charged() <= self.memory;
            self.waiting.push(piece);
            while policy != WhenFull::DropNewest && !patient && self.charged() > self.memory {
                let oldest = self.waiting.iter().position(|piece| units(piece) > 0).unwrap();
                if oldest + 1 == self.waiting.len() {
                    break;
                }
                let lost = units(&self.waiting[oldest]);
                self.counts.lost.add(Loss::Overflow, lost);
                self.waiting[oldest] = vec![Item::Gap(lost)];
                self.merge_gaps();
            }
        }
        self.merge_gaps();
    }

    pub(super) fn merge_gaps(&mut self) {
        let mut merged: Vec<Vec<Item>> = Vec::new();
        for piece in self.waiting.drain(..) {
            match (merged.last().map(|last| last[0]), piece[0]) {
                (Some(Item::Gap(one)), Item::Gap(two)) => *merged.last_mut().unwrap() = vec![Item::Gap(one + two)],
                _ => merged.push(piece),
            }
        }
        self.waiting = merged;
    }

    /// Takes over what the queue sealed; its size is the limits' business, its place and order are not.
    pub(super) fn sealed(&mut self, count: usize) {
        let (mut items, mut charged) = (Vec::new(), 0);
        while items.len() < count {
            let take = self.waiting[0].len().min(count - items.len());
            let rest = self.waiting[0].split_off(take);
            let piece = std::mem::replace(&mut self.waiting[0], rest);
            charged += charge_of(&piece);
            items.extend(piece);
            if self.waiting[0].is_empty() {
                self.waiting.remove(0);
            }
        }
        self.window.push(Run { items, charge: charged, at: None, sent: false });
    }

    pub(super) fn settle(&mut self, upto: u64, grade: Grade) -> u64 {
        let mut settled = 0;
        for run in &mut self.window {
            let Some(at) = &mut run.at else { break };
            while !run.items.is_empty() && *at + wire_length(run.items[0]) <= upto {
                *at += wire_length(run.items[0]);
                match run.items.remove(0) {
                    Item::Unit(_) => settled += 1,
                    Item::Gap(count) => self.announced += count,
                }
            }
            if !run.items.is_empty() {
                break;
            }
        }
        self.window.retain(|run| !run.items.is_empty());
        self.counts.settle(grade, settled);
        settled
    }

    pub(super) fn progress(&mut self, epoch: u32, upto: u64, grade: Grade) {
        if self.over || self.dead {
            return;
        }
        if self.epoch.0 != epoch {
            self.epoch = (epoch, 0, 0);
            self.sent = 0;
        }
        let settled = self.settle(upto, grade);
        if grade == Grade::Accepted {
            self.epoch = (epoch, self.epoch.1 + settled, self.epoch.2.max(upto));
        } else if grade == Grade::Sent {
            self.sent += settled;
            self.epoch.2 = self.epoch.2.max(upto);
        } else if upto >= self.epoch.2 {
            self.counts.upgrade(Grade::Accepted, std::mem::take(&mut self.epoch.1));
            self.counts.upgrade(Grade::Sent, std::mem::take(&mut self.sent));
        }
    }

    pub(super) fn end(&mut self, reason: Loss) {
        if !self.over {
            self.counts.lost.add(reason, self.counts.pending());
            (self.waiting, self.window) = (Vec::new(), Vec::new());
        }
    }

    pub(super) fn gaps(&self) -> u64 {
        let window = self.window.iter().flat_map(|run| &run.items);
        let all = window.chain(self.waiting.iter().flatten());
        all.map(|item| if let Item::Gap(count) = item { *count } else { 0 }).sum()
    }
}
