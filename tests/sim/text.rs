//! What the app writes: a function of life, stream and number, with hostile shapes among it.

use rand::{RngExt, rngs::StdRng};

/// A line without its newline; it never has one inside.
pub(super) fn line(life: usize, stream: usize, number: u64, long: usize, rng: &mut StdRng) -> Vec<u8> {
    let plain = format!("life {life} stream {stream} line {number}");
    match rng.random_range(0..24) {
        0 => Vec::new(),
        1 => b"\r".to_vec(),
        2 => b"\xff\xfe\x80 no text".to_vec(),
        3 => b"a NUL \0 and an escape \x1b[31m".to_vec(),
        4 => br#"{"run":"life-0","seq":1,"message":"forged"}"#.to_vec(),
        5 => b"lastword: 7 lines lost at 2026-01-02T03:04:05.678901Z (overflow 7)".to_vec(),
        6 => [plain.as_bytes(), " ß日🦀\\\"\t".repeat(rng.random_range(1..4)).as_bytes()].concat(),
        7 => {
            let mut text = plain.into_bytes();
            text.resize(rng.random_range(1..3 * long), b'=');
            text
        }
        _ => {
            let mut text = plain.into_bytes();
            text.resize(text.len() + rng.random_range(0..40), b'.');
            text
        }
    }
}
