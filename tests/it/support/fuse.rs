//! Just enough of a file system (fuse(4)) for a file to be opened, and then of one that answers nobody any more.
//!
//! A request that nobody has read can still be given up by who is killed, one that was read and not answered can't: so
//! the last request that is read is one that comes before any write, and a write is not even read.

use std::{
    fs::File,
    io::{self, Read, Write},
};

const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const INIT: u32 = 26;
const POLL: u32 = 40;
/// There is no answer to these: forget, interrupt, forget many.
const UNANSWERED: [u32; 3] = [2, 36, 42];

/// Its root, and the file that each name in it leads to.
const ROOT: u64 = 1;
const FILE: u64 = 2;

/// Answers on `device` until the file is polled: Rust's own start does that with each standard descriptor.
pub fn serve(mut device: File) -> io::Result<()> {
    let mut request = vec![0; 1 << 20];
    loop {
        let count = device.read(&mut request)?;
        let number = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().expect("four bytes"));
        let (what, unique, node) = (number(4), &request[8..16], u64::from(number(16)));
        assert!(count >= 40, "a request has a header");
        if UNANSWERED.contains(&what) {
            continue;
        }
        let answer = match what {
            // Version, read-ahead, flags, requests in the background, the longest write; the rest of it is zero.
            INIT => Some([words(&[7, 31, 0, 0, 0, 4096]), vec![0; 40]].concat()),
            LOOKUP => Some([words(&[FILE as u32, 0, 0, 0, 0, 0, 0, 0, 0, 0]), attributes(FILE)].concat()),
            GETATTR => Some([vec![0; 16], attributes(node)].concat()),
            OPEN => Some(vec![0; 16]),
            // Whatever else it is asked for, there is no such call here (ENOSYS), which the kernel remembers.
            _ => None,
        };
        let error = if answer.is_some() { 0 } else { -nix::libc::ENOSYS };
        let answer = answer.unwrap_or_default();
        let length = 16 + answer.len() as u32;
        device.write_all(&[&length.to_le_bytes(), &error.to_le_bytes(), unique, &answer].concat())?;
        if what == POLL {
            return Ok(());
        }
    }
}

/// Node, size, blocks and times, mode, links, owner, device and block size.
fn attributes(node: u64) -> Vec<u8> {
    let mode = if node == ROOT { 0o40755 } else { 0o100_666 };
    [words(&[node as u32, 0]), vec![0; 52], words(&[mode, 1, 0, 0, 0, 4096, 0])].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
