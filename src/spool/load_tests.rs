//! Why lines that are to be read back are not there.

use super::{
    codec::testing::header,
    disk::Disk,
    index::Index,
    load::{Loaded, Loader},
    log::Log,
    recovery::{Range, recover, segment_name},
    sim::{Faults, SimDisk},
};
use crate::{drain::testing::batch, ledger::Loss, line::Batch};
use nix::libc::EIO;
use std::sync::Arc;

/// A segment of ten lines, and what all of it is to a drain.
fn ten() -> (Arc<SimDisk>, Range) {
    let disk = Arc::new(SimDisk::default());
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), 1 << 20, 1 << 30, recover(&*disk));
    log.append(&[batch(1, 10)], &mut Vec::new()).unwrap();
    (disk, Range { segment: 1, from: 1, to: 11, stream: None, units: 10 })
}

#[test]
fn a_file_that_made_room_is_overflow_and_one_that_is_not_there_or_cant_be_read_is_the_spools_fault() {
    for (made_room, removed, reason) in [
        (true, true, Loss::Overflow),
        (false, true, Loss::SpoolError),
        (true, false, Loss::SpoolError),
        (false, false, Loss::SpoolError),
    ] {
        let (disk, range) = ten();
        let index = Arc::new(Index::new([1]));
        let mut loader = Loader::new(Arc::clone(&disk) as Arc<dyn Disk>, Arc::clone(&index), "now".into());
        if made_room {
            index.evict(1);
        }
        if removed {
            disk.remove(&segment_name(1)).unwrap();
        } else {
            disk.set_faults(Faults { fail_at: Some((0, EIO)), for_good: true, ..Faults::default() });
        }
        let loaded = loader.load(&range, 1 << 20);
        assert_eq!((loaded.batches.len(), loaded.upto, loaded.reason), (0, 11, reason), "{made_room} {removed}");
    }
}

#[test]
fn about_so_much_is_read_at_a_time_and_one_batch_at_least() {
    let disk = Arc::new(SimDisk::default());
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), 1 << 20, 1 << 30, recover(&*disk));
    (0..4).for_each(|number| log.append(&[batch(11 + 2 * number, 2)], &mut Vec::new()).unwrap());
    let range = Range { segment: 1, from: 11, to: 19, stream: None, units: 8 };
    let cost = batch(11, 2).lines().data.len() + Batch::OVERHEAD_BYTES;
    for (bytes, batches) in [(1, 1), (cost, 1), (cost + 1, 2), (3 * cost, 3), (1 << 20, 4)] {
        let mut loader = Loader::new(Arc::clone(&disk) as Arc<dyn Disk>, Arc::new(Index::new([1])), "now".into());
        let loaded = loader.load(&range, bytes);
        assert_eq!((loaded.batches.len(), loaded.upto), (batches, 11 + 2 * batches as u64), "{bytes} bytes");
    }
}

#[test]
fn no_more_is_read_than_the_range_has_whatever_is_before_and_behind_it() {
    let disk = Arc::new(SimDisk::default());
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), 1 << 20, 1 << 30, recover(&*disk));
    (0..4).for_each(|number| log.append(&[batch(11 + 2 * number, 2)], &mut Vec::new()).unwrap());
    let mut loader = Loader::new(Arc::clone(&disk) as Arc<dyn Disk>, Arc::new(Index::new([1])), "run-1".into());
    // Behind, before, and in the midst of what was read last.
    for (from, to, firsts) in [(13, 15, vec![13]), (11, 13, vec![11]), (14, 16, vec![13, 15]), (17, 19, vec![17])] {
        let loaded = loader.load(&Range { segment: 1, from, to, stream: None, units: to - from }, 1 << 20);
        assert_eq!(loaded.batches.iter().map(Batch::first_seq).collect::<Vec<_>>(), firsts, "{from}..{to}");
        assert_eq!((loaded.upto, loaded.holes), (to, 0), "{from}..{to}");
        assert!(loaded.batches.iter().all(|batch| batch.source().is_none()), "they are this run's own");
    }
}

#[test]
fn what_is_damaged_at_the_end_of_a_range_is_missed_and_what_is_behind_it_is_not_read_instead() {
    let disk = Arc::new(SimDisk::default());
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), 1 << 20, 1 << 30, recover(&*disk));
    let mut ends = Vec::new();
    for number in 0..3 {
        log.append(&[batch(11 + 2 * number, 2)], &mut Vec::new()).unwrap();
        ends.push(disk.files()[&segment_name(1)].len());
    }
    disk.flip(&segment_name(1), ends[1] - 1);
    let mut loader = Loader::new(Arc::clone(&disk) as Arc<dyn Disk>, Arc::new(Index::new([1])), "now".into());
    let loaded = loader.load(&Range { segment: 1, from: 13, to: 15, stream: None, units: 2 }, 1 << 20);
    assert_eq!(loaded, Loaded { batches: Vec::new(), upto: 15, reason: Loss::Corrupt, holes: 2 });
}
