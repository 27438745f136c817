//! `--fallback`: without a spool, what no drain took in time is written as it is, to a file or to stderr, instead of being lost.
//!
//! A line that several drains did not get is written once. Order is that of the sequence numbers. Stderr that does not
//! take it (closed, full) or a file that can't be written leaves the lines lost, as they would have been.

use super::sealed::Piece;
use crate::{config::Fallback, say::say_raw, sys};
use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
};

/// Writes all units of `pieces`, each once.
///
/// # Errors
/// What the file system says, or that stderr takes nothing.
pub(crate) fn write(pieces: &[Piece], to: &Fallback) -> io::Result<()> {
    let mut units: Vec<_> = pieces.iter().flat_map(units).collect();
    units.sort_unstable_by_key(|&(seq, _)| seq);
    units.dedup_by_key(|&mut (seq, _)| seq);
    let text: Vec<u8> = units.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    match to {
        Fallback::Stderr => {
            if say_raw(&text) {
                Ok(())
            } else {
                Err(io::Error::other("stderr takes nothing"))
            }
        }
        Fallback::File(path) => {
            // A FIFO without a reader, or with one that is slower, is no reason to be late.
            let mut options = OpenOptions::new();
            let mut file = options.append(true).create(true).mode(0o600).custom_flags(sys::OPEN_AT_ONCE).open(path)?;
            file.write_all(&text)
        }
    }
}

/// Sequence number and bytes, newline included; a last line without one gets it, a part in the middle does not.
fn units(piece: &Piece) -> impl Iterator<Item = (u64, Vec<u8>)> + '_ {
    let (batch, from, to) = match piece {
        Piece::Units { batch, from, to } => (Some(batch), *from, *to),
        Piece::Gap(_) | Piece::OnLog(_) => (None, 0, 0),
    };
    batch.into_iter().flat_map(move |batch| (from..to).map(|index| batch.unit(index))).map(|unit| {
        let mut text = unit.text.to_vec();
        if unit.newline || unit.part.is_none_or(|part| part.last) {
            text.push(b'\n');
        }
        (unit.seq, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::testing::batch;

    #[test]
    fn lines_that_two_drains_did_not_get_are_written_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("left");
        let piece = |first, from, to| Piece::Units { batch: batch(first, 3), from, to };
        write(&[piece(4, 0, 2), piece(1, 1, 3), piece(1, 2, 3)], &Fallback::File(path.clone())).unwrap();
        write(&[piece(7, 0, 1)], &Fallback::File(path.clone())).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "line 2\nline 3\nline 4\nline 5\nline 7\n");
    }

    #[test]
    fn a_fifo_that_nobody_reads_is_an_error_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let piece = Piece::Units { batch: batch(1, 3), from: 0, to: 3 };
        let error = write(&[piece], &Fallback::File(path)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::ENXIO as i32));
    }
}
