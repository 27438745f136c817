//! The real disk does what the simulated one does, and who only looks changes nothing.

use super::{
    disk::{Disk, LOCK, ReadOnly, RealDisk, lock, probe},
    sim::{Faults, Op, SimDisk},
};
use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

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

const CALLS: [Call; 13] = [
    |disk| disk.sync("a.seg"),
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
fn in_a_directory_that_is_gone_nothing_can_be_done_or_made_safe() {
    let disk = RealDisk::new(tempfile::tempdir().unwrap().path().to_owned());
    for call in CALLS {
        assert_eq!(call(&disk).map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
    }
}

#[test]
fn who_only_looks_sees_everything_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let real = RealDisk::new(dir.path().to_owned());
    for call in &CALLS[..10] {
        let _ = call(&real);
    }
    let (only, before) = (ReadOnly::new(dir.path().to_owned()), look(&real));
    assert_eq!(look(&only), before);
    for (number, call) in CALLS.iter().enumerate() {
        assert_eq!(call(&only).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem, "call {number}");
    }
    assert_eq!(look(&real), before);
}

#[test]
fn a_directory_is_one_process_at_a_time_and_nobody_elses_business() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/spool");
    let held = lock(&dir).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&dir.join(LOCK))), (0o700, 0o600));
    assert_eq!(lock(&dir).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(held);
    let again = lock(&dir);
    assert!(again.is_ok(), "{again:?}: it ends with who held it");
    let (file, below) = (parent.path().join("file"), parent.path().join("file/below"));
    fs::write(&file, "").unwrap();
    for path in [file, below] {
        assert_eq!(lock(&path).unwrap_err().kind(), io::ErrorKind::NotADirectory, "{path:?}");
    }
    let long = parent.path().join("x".repeat(300));
    assert_eq!(lock(&long).unwrap_err().kind(), io::ErrorKind::InvalidFilename, "what is wrong is said as it is");
    let disk = RealDisk::new(dir.clone());
    disk.create("a.seg").unwrap();
    assert_eq!(mode(&dir.join("a.seg")), 0o600);
}

#[test]
fn a_directory_that_is_no_longer_where_it_was_is_noticed_however_that_came() {
    let changes: [fn(&Path); 5] = [
        |dir| fs::remove_file(dir.join(LOCK)).unwrap(),
        |dir| fs::remove_dir_all(dir).unwrap(),
        |dir| fs::rename(dir, dir.with_extension("moved")).unwrap(),
        |dir| {
            fs::remove_dir_all(dir).unwrap();
            fs::write(dir, "").unwrap();
        },
        |dir| {
            fs::rename(dir.join(LOCK), dir.join("old")).unwrap();
            fs::write(dir.join(LOCK), "").unwrap();
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("spool");
        let held = lock(&dir).unwrap();
        let (watched, plain) = (RealDisk::watched(dir.clone(), &held).unwrap(), RealDisk::new(dir.clone()));
        assert!(watched.is_there() && plain.is_there(), "{number}");
        change(&dir);
        assert!(!watched.is_there(), "{number}");
        assert!(plain.is_there(), "{number}: it is not watched");
    }
}

#[test]
fn asking_a_disk_leaves_nothing_on_it_and_syncs_only_if_that_was_asked() {
    for sync in [false, true] {
        let disk = SimDisk::default();
        // Of one that was killed while it asked.
        disk.create("probe").unwrap();
        probe(&disk, sync).unwrap();
        let ops = disk.ops();
        assert!(ops.iter().any(|op| matches!(op, Op::Write(_, 0, bytes) if bytes.len() == 4096)), "{ops:?}");
        assert_eq!(ops.iter().any(|op| matches!(op, Op::Sync(_))), sync, "{ops:?}");
        assert!(disk.files().is_empty());
        for at in 1..4 + usize::from(sync) {
            disk.set_faults(Faults { fail_at: Some((at, nix::libc::EIO)), ..Faults::default() });
            assert!(probe(&disk, sync).is_err(), "call {at}");
        }
    }
}
