//! A drain's cursor: how far it has come, in two slots that are written in turn, so that a torn write costs one of them.

use super::{
    codec::{Reader, cut, put_text},
    disk::Disk,
};
use crc32c::crc32c;
use std::io;

const MAGIC: &[u8; 4] = b"LWcu";
const SLOT_STRIDE: u64 = 4096;
/// Magic, checksum, three numbers; the identity stands behind.
const FIXED: usize = 32;

/// A border in the log: everything in earlier segments is settled, and in this one everything before `seq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) seq: u64,
}

/// The cursor of one drain, as it stands on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) identity: String,
    pub(crate) place: Place,
    generation: u64,
    /// The other slot is bad. What it held before it was torn, which a crash of the machine may bring back, may be ahead of this.
    pub(crate) is_torn: bool,
}

impl Cursor {
    /// A cursor that is not on the disk yet.
    pub(crate) fn new(identity: &str) -> Self {
        // A slot holds its identity in whole; what is longer than that still names its drain.
        let identity = cut(identity, SLOT_STRIDE as usize - FIXED - 2);
        Self { identity: identity.to_owned(), place: Place::default(), generation: 0, is_torn: false }
    }

    /// The file of a drain: 64 bits of FNV-1a of its identity.
    pub(crate) fn file_name(identity: &str) -> String {
        let hash = identity
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        format!("{hash:016x}.cur")
    }

    /// Reads a file; None if both slots are bad.
    ///
    /// # Errors
    /// If the disk does not give the bytes.
    pub(crate) fn load(disk: &dyn Disk, name: &str) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        disk.read(name, 0, 2 * SLOT_STRIDE as usize, &mut bytes)?;
        let slots = [0, SLOT_STRIDE as usize]
            .map(|at| bytes.get(at..bytes.len().min(at + SLOT_STRIDE as usize)).unwrap_or_default());
        let is_torn = slots.iter().any(|slot| decode(slot).is_none() && slot.iter().any(|&byte| byte != 0));
        let newest = slots.into_iter().filter_map(decode).max_by_key(|cursor| cursor.generation);
        Ok(newest.map(|cursor| Self { is_torn, ..cursor }))
    }

    /// Writes the next slot. The cursor in memory moves though the disk fails: it is a hint there. After a failure the same slot
    /// is next, for the other one has what was stored last.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub(crate) fn store(&mut self, disk: &dyn Disk, place: Place) -> io::Result<()> {
        self.place = place;
        self.generation += 1;
        let name = Self::file_name(&self.identity);
        let offset = self.generation % 2 * SLOT_STRIDE;
        let slot = self.encode();
        let result = match disk.write(&name, offset, &slot) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.create(&name).and_then(|()| disk.write(&name, offset, &slot))
            }
            result => result,
        };
        self.generation += u64::from(result.is_err());
        result
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[0; 4]);
        for number in [self.generation, self.place.segment, self.place.seq] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        put_text(&mut out, &self.identity);
        let crc = crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }
}

/// Removes cursors that could not be read, so that they are gone though the machine crashes. Who numbered segments without
/// them must do that first: one that can be read after all (the disk had a moment, or a crash of the machine brings back what a
/// torn slot held before) may be ahead of those numbers, and what is in such segments would be taken for settled.
///
/// # Errors
/// What the disk says; `names` has what is left.
pub(crate) fn forget(disk: &dyn Disk, names: &mut Vec<String>) -> io::Result<()> {
    for name in &*names {
        match disk.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    if !names.is_empty() {
        disk.sync_dir()?;
        names.clear();
    }
    Ok(())
}

fn decode(slot: &[u8]) -> Option<Cursor> {
    let mut reader = Reader(slot.strip_prefix(MAGIC)?);
    let crc = reader.u32()?;
    let body = reader.0;
    let (generation, segment, seq) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let identity = reader.text()?;
    let len = body.len() - reader.0.len();
    (crc32c(&body[..len]) == crc).then_some(Cursor {
        identity,
        place: Place { segment, seq },
        generation,
        is_torn: false,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::sim::{Faults, Op, SimDisk},
        *,
    };
    use nix::libc::EIO;

    #[test]
    fn the_next_version_finds_a_drains_cursor_where_this_one_left_it() {
        // As FNV-1a is published.
        for (identity, hash) in [("", "cbf29ce484222325"), ("a", "af63dc4c8601ec8c"), ("foobar", "85944171f73967e8")] {
            assert_eq!(Cursor::file_name(identity), format!("{hash}.cur"));
        }
    }

    #[test]
    fn a_store_that_fails_any_number_of_times_leaves_what_was_stored_before() {
        let disk = SimDisk::default();
        let mut cursor = Cursor::new("logs");
        cursor.store(&disk, Place { segment: 2, seq: 1 }).unwrap();
        cursor.store(&disk, Place { segment: 2, seq: 2 }).unwrap();
        for seq in 3..9 {
            // Half of the slot is written.
            disk.set_faults(Faults { fail_at: Some((0, EIO)), ..Faults::default() });
            let error = cursor.store(&disk, Place { segment: 2, seq }).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(EIO), "what is wrong is said as it is");
            let there = Cursor::load(&disk, &Cursor::file_name("logs")).unwrap().unwrap();
            assert_eq!(there.place, Place { segment: 2, seq: 2 });
        }
        cursor.store(&disk, Place { segment: 2, seq: 9 }).unwrap();
        assert_eq!(Cursor::load(&disk, &Cursor::file_name("logs")).unwrap().unwrap(), cursor);
    }

    #[test]
    fn cursors_that_are_to_be_gone_are_gone_for_good_and_who_removed_one_before_is_no_trouble() {
        let disk = SimDisk::default();
        forget(&disk, &mut Vec::new()).unwrap();
        assert!(disk.ops().is_empty(), "there are none, as nearly always");
        disk.create("two.cur").unwrap();
        let mut names = ["one.cur", "two.cur"].map(str::to_owned).to_vec();
        forget(&disk, &mut names).unwrap();
        assert!(names.is_empty() && disk.files().is_empty());
        assert_eq!(disk.ops().last(), Some(&Op::SyncDir));
    }

    #[test]
    fn a_torn_slot_costs_one_step_and_two_bad_slots_are_no_cursor() {
        let disk = SimDisk::default();
        let mut cursor = Cursor::new("logs");
        let name = Cursor::file_name("logs");
        for seq in 1..=5 {
            cursor.store(&disk, Place { segment: 2, seq }).unwrap();
            assert_eq!(Cursor::load(&disk, &name).unwrap().unwrap(), cursor);
        }
        // Generation 5 is in slot 1.
        disk.flip(&name, SLOT_STRIDE as usize + 20);
        assert_eq!(Cursor::load(&disk, &name).unwrap().unwrap().place, Place { segment: 2, seq: 4 });
        disk.flip(&name, 20);
        assert_eq!(Cursor::load(&disk, &name).unwrap(), None);
        cursor.store(&disk, Place { segment: 3, seq: 1 }).unwrap();
        assert_eq!(Cursor::load(&disk, &name).unwrap().unwrap().place, cursor.place, "and it is written anew");
    }
}
