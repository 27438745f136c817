//! What the log writes, and what it need not.

use super::{
    codec::testing::header,
    cursor::{Cursor, Place},
    disk::Disk,
    log::Log,
    recovery::recover,
    sim::{Op, SimDisk},
};
use crate::drain::testing::batch;
use std::sync::Arc;

fn log(disk: &Arc<SimDisk>) -> Log {
    Log::new(Arc::clone(disk) as Arc<dyn Disk>, header(), 400, 1 << 30, recover(&**disk))
}

#[test]
fn a_cursor_is_written_when_its_drain_has_moved_and_only_then() {
    let disk = Arc::new(SimDisk::default());
    let mut log = log(&disk);
    log.append(&[batch(1, 5)], &mut Vec::new()).unwrap();
    let writes = || disk.ops().iter().filter(|op| matches!(op, Op::Write(..))).count();
    let mut note = |all, err| {
        let before = writes();
        let place = |seq| Place { segment: 1, seq };
        log.note(&[("all".to_owned(), place(all)), ("err".to_owned(), place(err))]).unwrap();
        let stored = |name| Cursor::load(&*disk, &Cursor::file_name(name)).unwrap().unwrap().place.seq;
        assert_eq!([stored("all"), stored("err")], [all, err]);
        writes() - before
    };
    assert_eq!([note(1, 1), note(2, 1), note(2, 1), note(5, 5)], [2, 1, 0, 2]);
}
