//! Finding frames again behind what is none, and how much of that is read.

use super::{
    codec::{FRAME_FIXED, encode_frame, testing::header},
    disk::Disk,
    index::Index,
    load::Loader,
    log::Log,
    recovery::{Range, recover},
    scan::{CHUNK, Item, Scanner},
    sim::SimDisk,
};
use crate::drain::testing::batch;
use std::sync::Arc;

const NAME: &str = "a.seg";

fn frame(first: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_frame(&batch(first, 2), [0; 3], 1, &mut bytes);
    bytes
}

fn scanner(bytes: Vec<u8>) -> (SimDisk, Scanner) {
    let len = bytes.len() as u64;
    (SimDisk::with(&[(NAME.to_owned(), bytes)].into()), Scanner::new(NAME.to_owned(), 1, 0, len))
}

/// All there is: first sequence numbers of the frames, and up to where nothing was valid.
fn all((disk, mut scanner): (SimDisk, Scanner)) -> (Vec<u64>, Vec<u64>) {
    let (mut frames, mut damage) = (Vec::new(), Vec::new());
    while let Some(item) = scanner.next(&disk).unwrap() {
        match item {
            Item::Frame { batch, .. } => frames.push(batch.first_seq()),
            Item::Damage { to } => damage.push(to),
            Item::Footer(_) => unreachable!("there is none"),
        }
    }
    (frames, damage)
}

#[test]
fn a_frame_is_found_wherever_it_begins_though_one_reading_ends_in_the_midst_of_its_first_bytes() {
    for gap in (1..4).chain(CHUNK - 4..CHUNK + 5).chain(2 * CHUNK - 8..2 * CHUNK + 5) {
        let (frames, damage) = all(scanner([vec![b'x'; gap], frame(1), frame(3)].concat()));
        assert_eq!((frames, damage), (vec![1, 3], vec![gap as u64]), "{gap}");
    }
}

#[test]
fn what_is_no_frame_is_read_once_on_the_way_to_the_next() {
    let (disk, mut scanner) = scanner([vec![b'x'; 20 * CHUNK], frame(1)].concat());
    assert_eq!(scanner.next(&disk).unwrap(), Some(Item::Damage { to: 20 * CHUNK as u64 }));
    assert!((20..24).contains(&disk.calls()), "{} reads", disk.calls());
}

#[test]
fn what_only_looks_like_a_frame_is_passed_over_while_the_patience_lasts() {
    // Each claims to be as long as all that is behind it.
    let (lies, true_one) = (5, frame(1));
    let mut bytes = Vec::new();
    for number in (1..=lies).rev() {
        let mut lie = frame(9)[..FRAME_FIXED].to_vec();
        let len = (number - 1) * FRAME_FIXED + true_one.len();
        lie[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        bytes.extend(lie);
    }
    let behind = bytes.len() as u64;
    bytes.extend(&true_one);
    let cost: u64 = (0..lies).map(|number| bytes.len() as u64 - (number * FRAME_FIXED) as u64).sum();
    for (patience, found) in [(cost + 1, true), (cost, false), (1, false)] {
        let (disk, mut scanner) = scanner(bytes.clone());
        scanner.patience = patience;
        let expected = if found { (vec![1], vec![behind]) } else { (vec![], vec![bytes.len() as u64]) };
        assert_eq!(all((disk, scanner)), expected, "{patience} of {cost}");
    }
}

#[test]
fn a_segment_is_read_once_however_small_the_bites_in_which_it_is_loaded() {
    let disk = Arc::new(SimDisk::default());
    let mut log = Log::new(Arc::clone(&disk) as Arc<dyn Disk>, header(), 1 << 20, 1 << 30, recover(&*disk));
    let count = 500;
    for number in 0..count {
        log.append(&[batch(1 + 2 * number, 2)], &mut Vec::new()).unwrap();
    }
    let mut loader = Loader::new(Arc::clone(&disk) as Arc<dyn Disk>, Arc::new(Index::new([1])), "now".into());
    let mut range = Range { segment: 1, from: 1, to: 1 + 2 * count, stream: None, units: 2 * count };
    disk.set_faults(Default::default());
    let mut loads = 0;
    while range.from < range.to {
        let loaded = loader.load(&range, 1);
        assert_eq!(loaded.batches.len(), 1);
        range.from = loaded.upto;
        loads += 1;
    }
    // Beside its length, for which it is asked each time.
    let reads = disk.calls() - loads;
    assert!(loads == count as usize && reads <= 3, "{reads} reads");
}
