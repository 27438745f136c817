//! How often the thread does what takes the disk its time.

use super::{
    disk::Disk,
    keeper::Turn,
    recovery::{recover, segment_name},
    sim::{Faults, Op},
    turns::{TURN, Turns, in_simulated_time},
};
use crate::{clock, config::SpoolSync, drain::testing::batch, say::heard};
use std::time::Duration;

const MEMORY: usize = 1 << 20;

/// Lines come all the time, for so many seconds. Returns how many syncs that took.
async fn syncs_in(seconds: u64, turns: &mut Turns) -> usize {
    let before = turns.syncs();
    for number in 0..seconds * 20 {
        turns.spool.push(&batch(1 + 2 * number, 2));
        tokio::time::advance(Duration::from_millis(50)).await;
        turns.turn();
    }
    turns.syncs() - before
}

#[test]
fn syncs_are_as_frequent_as_was_asked_for() {
    for (sync, range) in [(SpoolSync::Never, 0..=0), (SpoolSync::Interval, 8..=30), (SpoolSync::Always, 200..=400)] {
        in_simulated_time(async || {
            let mut turns = Turns::that_syncs(sync, MEMORY, MEMORY);
            let syncs = syncs_in(10, &mut turns).await;
            assert!(range.contains(&syncs), "{sync:?}: {syncs}");
        });
    }
}

#[test]
fn a_disk_that_takes_lines_but_does_not_sync_them_is_not_well() {
    in_simulated_time(async || {
        let mut turns = Turns::that_syncs(SpoolSync::Always, MEMORY, MEMORY);
        turns.disk.set_faults(Faults { syncs_fail: true, ..Faults::default() });
        for number in 0..3 {
            turns.spool.push(&batch(1 + 2 * number, 2));
            assert_eq!(turns.turn(), Turn::Refused);
            assert!(!turns.spool.works());
        }
        assert_eq!(turns.there(), [1, 2, 3, 4, 5, 6], "they outlive lastword all the same");
    });
}

#[test]
fn what_is_not_safe_yet_is_looked_after_if_it_is_to_be() {
    for (sync, looks) in [(SpoolSync::Never, false), (SpoolSync::Interval, true)] {
        in_simulated_time(async || {
            let mut turns = Turns::that_syncs(sync, MEMORY, MEMORY);
            // The drain has no part in it, so that is all there is to look after.
            turns.spool.push(&batch(1, 2));
            turns.pass(2 * TURN).await;
            assert!(turns.keeper.is_dirty());
            assert_eq!(turns.keeper.patience().is_some(), looks, "{sync:?}");
        });
    }
}

#[test]
fn who_hurries_gets_a_sync_at_once_and_only_one() {
    in_simulated_time(async || {
        let mut turns = Turns::new(MEMORY, MEMORY);
        turns.pass(Duration::from_secs(2)).await;
        turns.spool.push(&batch(1, 2));
        turns.turn();
        // That one was due. What comes now is not, for a second.
        assert_eq!(turns.syncs(), 1);
        turns.spool.push(&batch(3, 2));
        turns.pass(TURN).await;
        assert_eq!(turns.syncs(), 1);
        turns.spool.hurry();
        turns.turn();
        assert_eq!(turns.syncs(), 2);
        turns.spool.push(&batch(5, 2));
        turns.pass(TURN).await;
        assert_eq!(turns.syncs(), 2);
        turns.pass(Duration::from_secs(1)).await;
        assert_eq!(turns.syncs(), 3);
    });
}

#[test]
fn where_a_drain_stands_is_noted_five_times_a_second_at_most_while_it_moves() {
    in_simulated_time(async || {
        let mut turns = Turns::new(MEMORY, MEMORY);
        let stores = |turns: &Turns| {
            let cursor = turns.disk.ops().iter().find_map(|op| match op {
                Op::Create(name, file) if name.ends_with(".cur") => Some(*file),
                _ => None,
            });
            turns.disk.ops().iter().filter(|op| matches!(op, Op::Write(file, ..) if Some(*file) == cursor)).count()
        };
        for number in 0..100 {
            // The drain settles them at once.
            turns.spool.push(&batch(1 + 2 * number, 2));
            tokio::time::advance(Duration::from_millis(20)).await;
            turns.turn();
        }
        assert!((8..=12).contains(&stores(&turns)), "{} in two seconds", stores(&turns));
        turns.pass(TURN).await;
        let before = stores(&turns);
        assert_eq!(recover(&*turns.disk).cursors["all"].place.seq, 201);
        turns.pass(Duration::from_secs(5)).await;
        assert_eq!(stores(&turns), before, "it does not move");
    });
}

#[test]
fn a_file_that_somebody_removed_is_missed_within_a_second_though_nobody_asks_and_for_little() {
    in_simulated_time(async || {
        let mut turns = Turns::new(MEMORY, MEMORY);
        turns.push(1, 2);
        // A hole in the numbers begins another file.
        turns.push(11, 2);
        turns.pass(Duration::from_secs(2)).await;
        turns.disk.set_faults(Faults::default());
        turns.pass(Duration::from_secs(10)).await;
        assert_eq!(turns.disk.calls(), 10, "the directory is listed once a second, and that is all");
        turns.disk.remove(&segment_name(1)).unwrap();
        let before = clock::now();
        let mut said = Vec::new();
        while said.is_empty() {
            tokio::time::advance(TURN).await;
            said = heard::during(|| _ = turns.turn());
        }
        assert!(said[0].contains("files removed by somebody else: 1"), "{said:?}");
        assert!(clock::now() - before <= Duration::from_secs(1));
    });
}

#[test]
fn trouble_and_its_end_are_said_once_in_ten_seconds_and_counted_each_time() {
    in_simulated_time(async || {
        let mut turns = Turns::new(MEMORY, MEMORY);
        let mut seq = 1;
        let mut trouble = async |turns: &mut Turns| {
            let mut said = heard::during(|| {
                turns.fill(true);
                turns.spool.push(&batch(seq, 2));
                assert_eq!(turns.turn(), Turn::Refused);
                assert!(!turns.spool.works());
            });
            turns.pass(TURN).await;
            said.extend(heard::during(|| {
                turns.fill(false);
                assert_eq!(turns.turn(), Turn::Well);
                assert!(turns.spool.works());
            }));
            seq += 2;
            said
        };
        let first = trouble(&mut turns).await;
        assert_eq!(first.len(), 2, "{first:?}");
        assert!(first[0].contains("drains go on from memory, and it is tried again"), "{first:?}");
        assert!(first[1].contains("works again after 0.2 s; nothing is missing in it"), "{first:?}");
        turns.pass(Duration::from_secs(9)).await;
        assert!(trouble(&mut turns).await.is_empty());
        turns.pass(Duration::from_secs(1)).await;
        assert_eq!(trouble(&mut turns).await.len(), 2);
        let report = turns.spool.report();
        assert_eq!((report.troubles, report.went_past, report.works), (3, 0, true));
    });
}

#[test]
fn a_disk_that_works_again_is_found_out_about_though_nothing_is_to_be_written() {
    for sync in [SpoolSync::Never, SpoolSync::Interval] {
        in_simulated_time(async || {
            let mut turns = Turns::that_syncs(sync, MEMORY, MEMORY);
            turns.rest().await;
            // A publisher waited in vain, say.
            turns.disk.set_faults(Faults { syncs_fail: true, ..Faults::default() });
            turns.spool.lose_patience();
            assert!(!turns.spool.works() && turns.keeper.patience().is_some());
            turns.turn();
            assert_eq!(turns.spool.works(), sync == SpoolSync::Never, "what need not sync need not be able to");
            turns.disk.set_faults(Faults::default());
            turns.turn();
            assert!(turns.spool.works());
            assert!(turns.disk.files().keys().all(|name| name.ends_with(".cur")), "{:?}", turns.disk.files().keys());
        });
    }
}
