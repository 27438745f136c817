//! What the thread does in its turns: appending, giving up, and what it says of it.

use super::{
    cursor::Place,
    disk::Disk,
    keeper::Turn,
    recovery::{recover, segment_name},
    rig::kept,
    sim::{Faults, Op},
    turns::{TURN, Turns, in_simulated_time},
};
use crate::{config::SpoolSync, drain::testing::batch, say::heard};
use nix::libc::EIO;
use std::time::Duration;

#[test]
fn a_spool_with_nothing_to_do_wakes_nobody() {
    in_simulated_time(async || {
        let mut turns = Turns::new(1 << 20, 1 << 20);
        turns.rest().await;
        turns.spool.push(&batch(1, 5));
        assert!(!turns.spool.has_nothing_to_do());
        // What was written is made safe, and where the drains stand is noted, without being asked.
        turns.turn();
        assert!(turns.keeper.patience().is_some());
        turns.rest().await;
        assert!(!turns.keeper.is_dirty());
        // The drain had no part in those lines: it stands behind them.
        assert_eq!(recover(&*turns.disk).cursors["all"].place, Place { segment: 1, seq: 6 });
    });
}

#[test]
fn a_disk_that_refused_once_is_not_looked_after_for_ever() {
    in_simulated_time(async || {
        let mut turns = Turns::new(1 << 20, 1 << 20);
        turns.fill(true);
        turns.spool.push(&batch(1, 5));
        assert_eq!(turns.turn(), Turn::Refused);
        turns.fill(false);
        turns.rest().await;
        assert_eq!(turns.there(), [1, 2, 3, 4, 5]);
        assert!(turns.spool.works());
        // Nor are the drains asked for what they hold, each time that there is something to do.
        turns.inbox.push(&batch(6, 1));
        turns.pass(TURN).await;
        assert_eq!(turns.there(), [1, 2, 3, 4, 5]);
    });
}

#[test]
fn a_spool_that_came_to_another_place_has_what_the_drains_hold_and_rests_then() {
    in_simulated_time(async || {
        let mut turns = Turns::new(1 << 20, 1 << 20);
        // These were appended where it was before.
        turns.inbox.push(&batch(1, 2));
        turns.inbox.push(&batch(3, 2));
        turns.keeper.resume(5);
        turns.turn();
        assert_eq!(turns.there(), [1, 2, 3, 4]);
        turns.deliver();
        turns.rest().await;
        // It has caught up: from now on it takes what it is given.
        turns.inbox.push(&batch(5, 1));
        turns.pass(TURN).await;
        assert_eq!(turns.there(), [1, 2, 3, 4]);
    });
}

#[test]
fn lines_that_no_drain_held_when_the_disk_worked_again_went_past_and_are_counted() {
    in_simulated_time(async || {
        // So much that what is written at the end evicts nothing.
        let mut turns = Turns::new(800, 1000);
        turns.push(1, 1);
        turns.turn();
        for from in [2, 102] {
            turns.fill(true);
            for seq in from..from + 100 {
                turns.push(seq, 1);
                turns.turn();
            }
            turns.fill(false);
            let said = heard::during(|| _ = turns.turn());
            let past = turns.spool.report().went_past;
            assert!(past > 0 && past + turns.there().len() as u64 == from + 99, "{past} past, {:?}", turns.there());
            let words = format!("{past} lines that no drain holds any more went past it");
            assert_eq!(said.iter().any(|said| said.contains(&words)), from == 2, "{said:?}");
        }
    });
}

#[test]
fn of_a_file_that_somebody_removed_it_is_said_which_drain_loses_lines_if_any_does() {
    for unloaded in [false, true] {
        let mut turns = Turns::new(1 << 20, 1 << 20);
        turns.push(1, 2);
        turns.push(3, 2);
        turns.turn();
        // A hole in the numbers begins another file.
        turns.push(11, 2);
        turns.turn();
        if unloaded {
            turns.inbox.change(|queue| {
                queue.take_memory(1 << 20);
                queue.unload();
            });
        }
        turns.disk.remove(&segment_name(1)).unwrap();
        turns.spool.begin_settling();
        let said = heard::during(|| assert_eq!(turns.turn(), Turn::Well));
        assert!(said.iter().any(|said| said.contains("files removed by somebody else: 1")), "{said:?}");
        let lost = said.iter().filter(|said| said.contains("2 lines for all that were in it alone are lost")).count();
        assert_eq!((said.len(), lost), if unloaded { (2, 1) } else { (1, 0) }, "{said:?}");
        assert_eq!(turns.there(), [11, 12], "and the other file is counted on");
        assert!(!turns.spool.is_unsettled(), "who asked has an answer");
    }
}
/// An append that is larger than the whole spool evicts segments that it has only just begun.
#[test]
fn what_an_append_evicts_of_its_own_is_not_called_spooled() {
    let mut turns = Turns::new(1 << 20, 1 << 20);
    (0..40).for_each(|number| turns.spool.push(&batch(1 + 5 * number, 5)));
    turns.turn();
    let there = turns.disk.files();
    let known = turns.index.extents();
    assert!(!known.is_empty() && known[0].first_seq > 1, "nothing was evicted: {known:?}");
    assert!(known.iter().all(|extent| there.contains_key(&segment_name(extent.segment))), "{known:?}");
}

/// The last turn of the thread comes after the books are closed.
#[test]
fn what_counts_as_spooled_makes_no_room_for_what_comes_to_the_disk_after_the_books_are_closed() {
    let mut turns = Turns::new(1 << 20, 1 << 20);
    (0..40).for_each(|number| turns.push(1 + 5 * number, 5));
    turns.turn();
    // The disk refuses these, and no time is left to ask it again.
    (40..80).for_each(|number| turns.push(1 + 5 * number, 5));
    assert!(turns.inbox.lock().queue.close_books());
    let spooled = turns.inbox.counts().spooled;
    assert!((5..200).contains(&spooled), "{spooled}: the spool is not full");
    turns.spool.begin_end();
    turns.turn();
    let owed = kept(&turns.disk);
    // What found room without making any is sent again, though it is booked as lost.
    assert!(
        owed.starts_with(&(201 - spooled..201).collect::<Vec<_>>()),
        "the next run adopts what this one spooled: {owed:?}"
    );
}

#[test]
fn the_report_says_which_directory_it_became_and_what_in_it_can_not_be_read() {
    let turns = Turns::new(1 << 20, 1 << 20);
    let report = turns.spool.report();
    assert_eq!(turns.spool.dir(), report.dir);
    assert_eq!((report.dir, report.unreadable.files, report.works), ("spool/second-1".into(), 1, true));
}

#[test]
fn a_disk_that_takes_lines_but_no_cursor_is_not_well() {
    in_simulated_time(async || {
        let mut turns = Turns::new(1 << 20, 1 << 20);
        turns.push(1, 2);
        turns.pass(TURN).await;
        turns.deliver();
        turns.disk.set_faults(Faults { fail_at: Some((0, EIO)), for_good: true, ..Faults::default() });
        for _ in 0..3 {
            tokio::time::advance(TURN).await;
            assert_eq!(turns.turn(), Turn::Refused);
            assert!(!turns.spool.works());
        }
        turns.disk.set_faults(Faults::default());
        turns.pass(TURN).await;
        assert!(turns.spool.works());
        assert_eq!(recover(&*turns.disk).cursors["all"].place, Place { segment: 1, seq: 3 });
    });
}

#[test]
fn what_was_appended_has_left_the_inbox() {
    let mut turns = Turns::new(1 << 20, 1000);
    for round in 0..10 {
        let mut seq = 100 * round + 1;
        while !turns.spool.would_wait(10, 1) {
            turns.push(seq, 1);
            seq += 1;
        }
        assert!(seq > 100 * round + 2, "more than one has room");
        turns.turn();
        assert!(!turns.spool.would_wait(5000, 1), "nothing is in it, so whatever comes first is taken");
    }
    assert!(turns.spool.works());
}

#[test]
fn what_was_settled_leaves_the_disk_while_lines_go_on() {
    in_simulated_time(async || {
        let mut turns = Turns::new(1 << 20, 1 << 20);
        turns.push(1, 2);
        turns.pass(TURN).await;
        turns.deliver();
        // A hole in the numbers begins another file.
        turns.push(11, 2);
        turns.pass(2 * TURN).await;
        assert!(!turns.disk.files().contains_key(&segment_name(1)));
        assert!(turns.disk.files().contains_key(&segment_name(2)));
        assert_eq!(turns.there(), [11, 12]);
    });
}

/// The last turn: what is left is safe, if that was asked, and what is not left is gone.
#[test]
fn at_the_end_what_is_left_is_synced_if_that_was_asked_and_what_is_settled_needs_no_sync() {
    for sync in [SpoolSync::Never, SpoolSync::Interval, SpoolSync::Always] {
        for delivers in [false, true] {
            in_simulated_time(async || {
                let mut turns = Turns::that_syncs(sync, 1 << 20, 1 << 20);
                turns.pass(Duration::from_secs(2)).await;
                turns.push(1, 2);
                turns.push(3, 2);
                turns.turn();
                turns.push(11, 2);
                turns.turn();
                if delivers {
                    turns.deliver();
                }
                turns.inbox.change(|queue| assert!(queue.close_books()));
                turns.spool.begin_end();
                let (before, ops) = (turns.syncs(), turns.disk.ops().len());
                assert_eq!(turns.turn(), Turn::Over);
                assert!(turns.spool.look().1, "where the drain stands is noted");
                let left = turns.disk.files().keys().filter(|name| name.ends_with(".seg")).count();
                assert_eq!(left, if delivers { 0 } else { 2 }, "{sync:?}");
                // The end of the first file, and the second one; all but its end is safe with `always`.
                let synced = match sync {
                    _ if delivers => 0,
                    SpoolSync::Never => 0,
                    SpoolSync::Interval => 2,
                    SpoolSync::Always => 1,
                };
                assert_eq!(turns.syncs() - before, synced, "{sync:?}, delivers: {delivers}");
                let names = turns.disk.ops()[ops..].contains(&Op::SyncDir);
                assert_eq!(names, sync == SpoolSync::Interval && !delivers, "{sync:?}: the second one's name");
            });
        }
    }
}

#[test]
fn at_the_end_a_disk_that_takes_no_cursor_is_said_to_have_none() {
    let mut turns = Turns::new(1 << 20, 1 << 20);
    turns.push(1, 2);
    turns.turn();
    turns.disk.set_faults(Faults { fail_at: Some((0, EIO)), for_good: true, ..Faults::default() });
    turns.spool.begin_end();
    let said = heard::during(|| assert_eq!(turns.turn(), Turn::Over));
    assert_eq!(said.len(), 1, "{said:?}");
    let (_, noted, _) = turns.spool.look();
    assert!(!noted && !turns.spool.works());
}
