//! Why lines that are to be read back are not there.

use super::{
    codec::testing::header,
    disk::Disk,
    index::Index,
    load::Loader,
    log::Log,
    recovery::{Range, recover, segment_name},
    sim::{Faults, SimDisk},
};
use crate::{drain::testing::batch, ledger::Loss};
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
