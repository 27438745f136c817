//! What goes into a segment comes out again, and nothing else is believed.

use super::codec::{testing::header, *};
use crate::{
    format::testing::hostile_text,
    line::{Batch, Lines, Part, Stamp, Stream},
};
use proptest::prelude::*;

fn batch(texts: &[Vec<u8>], seq: u64, parts: bool) -> Batch {
    let (mut data, mut ends, mut table) = (Vec::new(), Vec::new(), Vec::new());
    for (index, text) in texts.iter().enumerate() {
        data.extend_from_slice(text);
        data.push(b'\n');
        ends.push(data.len() as u32);
        if parts {
            table.push((index as u32, Part { number: index as u32 + 1, last: index + 1 == texts.len() }));
        }
    }
    Batch::new(Stream::Stderr, seq, Stamp(-5), Lines { data: data.into(), ends, parts: table })
}

proptest! {
    #[test]
    fn a_frame_comes_back_as_it_went_in_and_no_changed_bit_passes(
        texts in prop::collection::vec(hostile_text(), 1..6),
        seq in 1..u64::MAX / 2,
        parts: bool,
        before: [u32; 3],
        salt: u32,
        flip: prop::sample::Index,
    ) {
        let batch = batch(&texts, seq, parts);
        let mut bytes = Vec::new();
        encode_frame(&batch, before.map(u64::from), salt, &mut bytes);
        prop_assert_eq!(decode_frame(&bytes, salt), Some((batch, before.map(u64::from))));
        prop_assert_eq!(decode_frame(&bytes, salt ^ 1), None, "another segment's frame");
        prop_assert_eq!(decode_frame(&bytes[..bytes.len() - 1], salt), None);
        let bit = flip.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(decode_frame(&bytes, salt), None);
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for magic in [&b""[..], FRAME_MAGIC, FOOTER_MAGIC, b"LASTWORD\x01\0"] {
            let bytes = [magic, &bytes].concat();
            let _ = (decode_frame(&bytes, 1), decode_footer(&bytes, 0), decode_header(&bytes));
        }
    }
}

#[test]
fn a_header_comes_back_and_each_damage_has_its_name() {
    let (bytes, crc) = encode_header(&header());
    assert_eq!(decode_header(&bytes), Ok((header(), bytes.len(), crc)));
    assert_eq!(header_len(&bytes), Some(bytes.len()));
    for len in 0..bytes.len() {
        assert_eq!(decode_header(&bytes[..len]), Err(BadHeader::Torn), "{len} bytes");
    }
    assert_eq!(decode_header(&[0; 64]), Err(BadHeader::Torn));
    assert_eq!(decode_header(b"\0\0\0\0\0\0\0\0the block behind it"), Err(BadHeader::Bad));
    assert_eq!(decode_header(b"something else"), Err(BadHeader::Foreign));
    for bit in 64..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_header(&bytes).is_err(), "bit {bit}");
    }
    let mut newer = bytes;
    newer[8] = 3;
    assert_eq!(decode_header(&newer), Err(BadHeader::Version(3)));
}

#[test]
fn a_frames_head_is_not_believed_if_its_payload_can_not_hold_what_it_says() {
    let mut bytes = Vec::new();
    encode_frame(&batch(&[Vec::new(), Vec::new()], 7, true), [0; 3], 1, &mut bytes);
    let believes = |at: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        frame_head(&bytes).is_some()
    };
    let [len, units, first_seq, parts] = [4, 12, 16, 36];
    // Two ends of four bytes, two parts of eight.
    assert_eq!([25_u32, 24, 23].map(|value| believes(len, &value.to_le_bytes())), [true, true, false]);
    assert_eq!([0_u32, 1, 2, 3].map(|value| believes(units, &value.to_le_bytes())), [false, false, true, false]);
    assert_eq!([0_u32, 2, 3].map(|value| believes(parts, &value.to_le_bytes())), [true, true, false]);
    assert!(believes(first_seq, &(u64::MAX - 2).to_le_bytes()) && !believes(first_seq, &u64::MAX.to_le_bytes()));
}

#[test]
fn a_footer_is_valid_at_its_own_place_alone() {
    let footer = Footer { first_seq: 7, end_seq: 19, units: [4, 7, 1], offset: 4096 };
    let bytes = encode_footer(&footer);
    assert_eq!(decode_footer(&bytes, 4096), Some(footer));
    assert_eq!(decode_footer(&bytes, 4097), None);
    for bit in 0..8 * 48 {
        let mut bytes = bytes;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode_footer(&bytes, 4096), None, "bit {bit}");
    }
}

#[test]
fn a_header_may_be_as_long_as_a_header_is_believed_to_be() {
    let with = |more: usize| {
        let long = |number: usize| (format!("{number:02}"), "x".repeat(65_535 - 2 * usize::from(number == 0)));
        let mut header = Header { labels: (0..15).map(long).collect(), ..Header::default() };
        let (bytes, _) = encode_header(&header);
        header.host = "x".repeat(HEADER_MAX + HEADER_FIXED - bytes.len() + more);
        (encode_header(&header).0, header)
    };
    let (bytes, header) = with(0);
    assert_eq!(bytes.len(), HEADER_FIXED + HEADER_MAX);
    assert_eq!(decode_header(&bytes).map(|read| (read.0, read.1)), Ok((header, bytes.len())));
    assert_eq!(header_len(&bytes), Some(bytes.len()));
    let (bytes, _) = with(1);
    assert_eq!((decode_header(&bytes).err(), header_len(&bytes)), (Some(BadHeader::Bad), None));
    // A damaged length is no reason to wait for bytes that never come.
    assert_eq!(decode_header(&bytes[..100]).err(), Some(BadHeader::Bad));
}

#[test]
fn lines_of_each_stream_come_back_as_lines_of_that_stream() {
    for stream in [Stream::Stdout, Stream::Stderr, Stream::Own] {
        let lines = batch(&[b"one".to_vec()], 7, false);
        let batch = Batch::new(stream, 7, lines.time(), lines.lines().clone());
        let mut bytes = Vec::new();
        encode_frame(&batch, [1, 2, 3], 1, &mut bytes);
        assert_eq!(decode_frame(&bytes, 1), Some((batch, [1, 2, 3])));
        let drains = vec![Owed { identity: "a drain".into(), stream: Some(stream) }];
        let header = Header { drains, ..header() };
        assert_eq!(decode_header(&encode_header(&header).0).unwrap().0, header);
    }
}

/// As no encoder makes it, but with a checksum that holds: units that end at these places, and parts of these units.
fn odd(ends: &[u32], parts: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_frame(&batch(&[Vec::new()], 7, false), [0; 3], 1, &mut bytes);
    bytes.truncate(FRAME_FIXED);
    bytes.extend(ends.iter().flat_map(|end| end.to_le_bytes()));
    bytes.extend(parts.iter().flat_map(|&index| [index.to_le_bytes(), 1_u32.to_le_bytes()]).flatten());
    bytes.extend_from_slice(data);
    for (at, value) in [(4, bytes.len() - FRAME_FIXED), (12, ends.len()), (36, parts.len())] {
        bytes[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }
    seal_frame(&mut bytes, 1);
    bytes
}

#[test]
fn a_frame_that_contradicts_itself_is_no_frame_though_its_checksum_holds() {
    let is_frame = |ends: &[u32], parts: &[u32], data: &[u8]| decode_frame(&odd(ends, parts, data), 1).is_some();
    assert!(is_frame(&[2, 4], &[0, 1], b"a\nb\n") && is_frame(&[2, 4], &[1], b"a\nb\n"));
    for ends in [[0, 4], [2, 2], [4, 2], [2, 3], [2, 5], [4, 4]] {
        assert!(!is_frame(&ends, &[], b"a\nb\n"), "{ends:?}");
    }
    assert!(!is_frame(&[0], &[], b""), "a unit of nothing");
    for parts in [[0, 2], [1, 0], [1, 1], [2, 3]] {
        assert!(!is_frame(&[2, 4], &parts, b"a\nb\n"), "{parts:?}");
    }
}
