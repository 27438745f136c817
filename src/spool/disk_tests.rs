//! The real disk does what the simulated one does, and who only looks changes nothing.

use super::{
    disk::{Disk, ReadOnly, RealDisk},
    sim::SimDisk,
};
use std::io;

/// All that can be asked of a disk about two names.
fn look(disk: &dyn Disk) -> Vec<String> {
    let mut seen = Vec::new();
    let mut names = disk.list().unwrap();
    names.sort();
    seen.push(format!("{names:?}"));
    for name in ["a.seg", "b.seg"] {
        seen.push(format!("{:?}", disk.len(name).map_err(|error| error.kind())));
        for (offset, max) in [(0, 100), (3, 4), (9, 100), (50, 1)] {
            let mut out = b"before".to_vec();
            let result = disk.read(name, offset, max, &mut out).map_err(|error| error.kind());
            seen.push(format!("{result:?} {:?}", String::from_utf8_lossy(&out)));
        }
    }
    seen
}

type Call = fn(&dyn Disk) -> io::Result<()>;

const CALLS: [Call; 12] = [
    |disk| disk.create("a.seg"),
    |disk| disk.write("a.seg", 0, b"hello, disk"),
    |disk| disk.write("a.seg", 7, b"world and more"),
    |disk| disk.sync("a.seg"),
    |disk| disk.truncate("a.seg", 9),
    |disk| disk.write("b.seg", 0, b"nobody made it"),
    |disk| disk.create("b.seg"),
    |disk| disk.write("b.seg", 0, b"two"),
    |disk| disk.sync_dir(),
    |disk| disk.rename("b.seg", "a.seg"),
    |disk| disk.remove("a.seg"),
    |disk| disk.remove("a.seg"),
];

#[test]
fn a_real_disk_does_what_the_simulated_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let (real, simulated) = (RealDisk::new(dir.path().to_owned()), SimDisk::default());
    for (number, call) in CALLS.iter().enumerate() {
        let [one, other] = [&real as &dyn Disk, &simulated].map(|disk| call(disk).map_err(|error| error.kind()));
        assert_eq!(one, other, "call {number}");
        assert_eq!(look(&real), look(&simulated), "after call {number}");
    }
}

#[test]
fn who_only_looks_sees_everything_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let real = RealDisk::new(dir.path().to_owned());
    for call in &CALLS[..9] {
        let _ = call(&real);
    }
    let (only, before) = (ReadOnly::new(dir.path().to_owned()), look(&real));
    assert_eq!(look(&only), before);
    for (number, call) in CALLS.iter().enumerate() {
        assert_eq!(call(&only).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem, "call {number}");
    }
    assert_eq!(look(&real), before);
}
