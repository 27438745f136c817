//! The judge: what each drain was given, against what came, what is counted lost, and what a death may take.

mod tests;

use super::{life::Life, world::World};
use crate::{
    config::SpoolSync,
    ledger::{Counts, DrainReport, Loss},
};
use std::collections::BTreeSet;

/// How a life went.
#[derive(Debug)]
pub(super) struct Past {
    /// Of an orderly exit.
    pub(super) reports: Option<Vec<DrainReport>>,
    /// Each drain's accounts at the end.
    pub(super) counts: Vec<Counts>,
    /// Different units that each receiver had then.
    received: Vec<u64>,
    /// Units of this life that its death must not take, for they were on the disk, and made no room.
    kept: BTreeSet<u64>,
    /// Segments that made room.
    pub(super) evicted: BTreeSet<u64>,
    /// What earlier lives had left was made safe from a crash of the machine.
    pub(super) synced: bool,
    unread: bool,
    /// Where the drains stood is on the disk.
    noted: bool,
    /// There is nothing that a crash of the machine may not take.
    never_synced: bool,
    disk_failed: bool,
}

impl Past {
    pub(super) fn of(life: &Life, reports: Option<Vec<DrainReport>>, unread: bool) -> Self {
        let world = &life.world;
        let machine = matches!(
            life.knobs.end,
            super::plan::End::Killed { machine: true } | super::plan::End::AtCall { machine: true, .. }
        );
        let evicted = life.index.as_ref().map(|index| index.evicted()).unwrap_or_default();
        let kept = if machine { life.safe.borrow() } else { life.appended.borrow() };
        let kept = kept.iter().filter(|(segment, _)| !evicted.contains(segment));
        let kept = kept.flat_map(|(_, units)| units.clone()).collect();
        let never_synced = life.knobs.spool.as_ref().is_some_and(|spool| spool.sync == SpoolSync::Never);
        Self {
            counts: life.inboxes.iter().map(|inbox| inbox.counts()).collect(),
            received: Vec::new(),
            kept,
            evicted,
            synced: life.synced.get(),
            unread,
            noted: life.noted.get(),
            never_synced,
            disk_failed: world.disk.failed() > 0,
            reports,
        }
    }
}

impl Past {
    /// All that was on its way is there, or never will be.
    pub(super) fn settle(&mut self, world: &World) {
        self.received = world.receivers.iter().map(|receiver| receiver.borrow().count()).collect();
    }
}

/// All lives are over.
pub(super) fn judge(world: &World, past: &[Past]) {
    for (life, lived) in past.iter().enumerate() {
        if lived.reports.is_some() && !lived.unread {
            world.truth.borrow().0[life].all_read();
        }
        books(world, life, lived, life.checked_sub(1).and_then(|before| past.get(before)));
    }
    for index in 0..world.receivers.len() {
        arrivals(world, index, past);
    }
}

/// The accounts of one life.
fn books(world: &World, life: usize, lived: &Past, before: Option<&Past>) {
    let truth = world.truth.borrow();
    for (index, counts) in lived.counts.iter().enumerate() {
        let receiver = world.receivers[index].borrow();
        let name = format!("life {life}, {}: {counts:?}", receiver.name);
        let written = truth.0[life].units.iter().filter(|unit| receiver.wants(unit.stream)).count() as u64;
        assert_eq!(counts.read, written, "{name}: what was read is what was written");
        if lived.reports.is_some() {
            assert_eq!(counts.pending(), 0, "{name}: an exit leaves nothing open");
            let settled = counts.confirmed + counts.accepted + counts.sent + counts.spooled + counts.lost.total();
            assert_eq!(counts.read + counts.adopted, settled, "{name}: the identity");
        }
        if let Some(before) = before.filter(|before| before.reports.is_some()) {
            let spooled = before.counts[index].spooled;
            assert!(counts.adopted >= spooled, "{name}: {spooled} were spooled before");
            if before.noted && !before.never_synced && !before.disk_failed && before.counts[index].lost.total() == 0 {
                // A cursor says nothing of what was settled, by a verdict of its own, behind what was not.
                let again = if receiver.itemized { before.counts[index].confirmed } else { 0 };
                assert!(
                    counts.adopted <= spooled + again,
                    "{name}: more is adopted than was left ({spooled}, {again})"
                );
            }
        }
        let mut seen = world.seen.borrow_mut();
        for (loss, what) in [
            (Loss::Overflow, "lost: overflow"),
            (Loss::Rejected, "lost: rejected"),
            (Loss::Oversize, "lost: oversize"),
            (Loss::Deadline, "lost: deadline"),
            (Loss::SpoolError, "lost: spool error"),
            (Loss::Corrupt, "lost: corrupt"),
        ] {
            seen.add(what, counts.lost.of(loss));
        }
        seen.add("a spooled unit", counts.spooled);
        seen.add("a confirmed unit", counts.confirmed);
        seen.add("an accepted unit", counts.accepted);
        assert_eq!(counts.lost.of(Loss::DrainDied), 0, "{name}: a drain died");
    }
}

/// What came to one receiver.
fn arrivals(world: &World, index: usize, past: &[Past]) {
    let receiver = world.receivers[index].borrow();
    let truth = world.truth.borrow();
    let (mut missing, mut excused) = (Vec::new(), 0);
    for (life, record) in truth.0.iter().enumerate() {
        let wanted = (1..).zip(&record.units).filter(|(_, unit)| receiver.wants(unit.stream));
        for (seq, _) in wanted.filter(|&(seq, _)| !receiver.has((life, seq))) {
            let died = past[life].reports.is_none() && !past[life].kept.contains(&seq)
                || world.shaken.borrow().contains(&(life, seq));
            if died {
                excused += 1;
            } else if !receiver.is_forgiven((life, seq)) {
                missing.push((life, seq));
            }
        }
    }
    world.seen.borrow_mut().add("a unit that a death took, for it was on no disk", excused);
    world.seen.borrow_mut().add("a unit missing, and announced", missing.len() as u64);
    let lost: u64 = past.iter().map(|lived| lived.counts[index].lost.total()).sum();
    assert!(
        missing.len() as u64 <= lost,
        "{}: {} units did not come, {lost} are counted lost: {missing:?}",
        receiver.name,
        missing.len()
    );
    // What was confirmed came, whatever happened then.
    let (mut settled, forgiven) = (0, receiver.forgiven());
    for lived in past {
        let counts = &lived.counts[index];
        settled += counts.confirmed + counts.accepted;
        let most = lived.received[index] + receiver.duplicates + forgiven;
        assert!(settled <= most, "{}: {settled} are confirmed or accepted, {most} came", receiver.name);
    }
}
