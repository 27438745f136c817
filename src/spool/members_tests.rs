//! What is asked of the drains, and what is said of those that are not there.

use super::{
    codec::{Header, Owed, testing::header},
    cursor::Place,
    disk::Disk,
    index::Index,
    log::{Extent, Log},
    members::{Members, complete},
    recovery::{Segment, recover},
    shared::Shared,
    sim::SimDisk,
    thread::Member,
    turns::in_simulated_time,
};
use crate::{
    config::WhenFull,
    drain::{inbox::Inbox, testing::batch},
    line::Stream,
    say::heard,
};
use std::{sync::Arc, time::Duration};

fn members(inboxes: &[(&str, &Arc<Inbox>)]) -> Members {
    let member =
        |(identity, inbox): &(&str, &Arc<Inbox>)| Member { identity: (*identity).into(), inbox: Arc::clone(inbox) };
    Members::new(inboxes.iter().map(member).collect(), Arc::new(Shared::new(1 << 20, "spool".into())))
}

fn inbox() -> Arc<Inbox> {
    Arc::new(Inbox::new(WhenFull::DropOldest, 1 << 20))
}

#[test]
fn each_drain_stands_where_it_is_and_one_with_lines_is_enough_to_be_looked_after() {
    let disk = Arc::new(SimDisk::default());
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), 400, 1 << 30, recover(&*disk));
    let index = Index::default();
    let mut done = Vec::new();
    log.append(&[batch(1, 4)], &mut done).unwrap();
    done.into_iter().for_each(|extent: Extent| index.add(extent));
    let (busy, idle) = (inbox(), inbox());
    busy.push(&batch(3, 2));
    let (here, end) = (Place { segment: 1, seq: 3 }, Place { segment: 1, seq: 5 });
    for (one, two, places, open) in
        [(&busy, &idle, [here, end], true), (&idle, &busy, [end, here], true), (&idle, &idle, [end, end], false)]
    {
        let found = members(&[("one", one), ("two", two)]).places(&index, &log);
        assert_eq!(found, (vec![("one".to_owned(), places[0]), ("two".to_owned(), places[1])], open));
    }
}

#[test]
fn drains_are_asked_for_lines_that_were_left_out_and_only_then() {
    let seqs =
        |batches: Vec<Arc<crate::line::Batch>>| batches.iter().map(|batch| batch.first_seq()).collect::<Vec<_>>();
    let asked = |from, to| {
        assert_eq!((from, to), (3, 7));
        // Two drains may hold the same.
        [batch(5, 2), batch(3, 2), batch(5, 2)]
    };
    assert_eq!(seqs(complete(3, vec![batch(7, 1), batch(8, 1)], asked)), [3, 5, 7, 8]);
    let nobody = |_, _| -> [Arc<crate::line::Batch>; 0] { panic!("nothing was left out") };
    for next in [7, 8] {
        assert_eq!(seqs(complete(next, vec![batch(7, 1)], nobody)), [7]);
    }
    assert!(complete(3, Vec::new(), nobody).is_empty());
}

/// A segment of two lines of stdout, for these.
fn segment(drains: &[(&str, Option<Stream>)]) -> Segment {
    let disk = Arc::new(SimDisk::default());
    let drains = drains.iter().map(|&(identity, stream)| Owed { identity: identity.into(), stream }).collect();
    let header = Header { drains, ..header() };
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header, 400, 1 << 30, recover(&*disk));
    log.append(&[batch(1, 2)], &mut Vec::new()).unwrap();
    recover(&*disk).segments.remove(0)
}

#[test]
fn lines_that_made_room_are_mourned_if_their_drain_is_not_configured_and_once_in_ten_seconds() {
    in_simulated_time(async || {
        let inbox = inbox();
        let mut members = members(&[("known", &inbox)]);
        let mut evict = |drains: &[(&str, Option<Stream>)]| heard::during(|| members.evicted(vec![segment(drains)]));
        assert!(evict(&[("known", None)]).is_empty(), "it has an account that says it");
        let said = evict(&[("known", None), ("old", None)]);
        assert_eq!(said, ["spool spool: full; old lines for old are lost, up to 2 just now"]);
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert!(evict(&[("old", None)]).is_empty());
        tokio::time::advance(Duration::from_millis(1)).await;
        let said = evict(&[("old", Some(Stream::Stdout))]);
        assert_eq!(said, ["spool spool: full; old lines for old are lost, up to 2 just now"]);
    });
}
