//! Proofs of the syslog format: by eye, and by a reader of RFC 5424 that shares no code with the encoder.

use super::*;
use crate::{
    format::{Encoder, Format, Instance, testing::*},
    ledger::{Loss, Losses},
    line::Part,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn encoded(framing: Framing, unit: &Unit<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new(Format::Syslog(framing), origin()).encode(unit, &mut out);
    out
}

#[test]
fn a_counted_line_states_its_length() {
    let out = encoded(Framing::Counted, &unit(42, b"GET /cart 200"));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "133 <134>1 2026-01-02T03:04:05.678901Z web-7 shop 4121 stdout [meta sequenceId=\"42\"]\
         [lastword@32473 run=\"0197-b7\" seq=\"42\"] GET /cart 200"
    );
}

#[test]
fn a_part_on_stderr_is_an_error_with_its_place_in_the_line() {
    let part = Some(Part { number: 2, last: true });
    let out = encoded(Framing::Lf, &Unit { stream: Stream::Stderr, part, ..unit(43, b"\0\x1b rest") });
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "<131>1 2026-01-02T03:04:05.678901Z web-7 shop 4121 stderr [meta sequenceId=\"43\"]\
         [lastword@32473 run=\"0197-b7\" seq=\"43\" part=\"2\" last=\"1\"] #000\x1b rest\n"
    );
}

#[test]
fn a_gap_is_a_warning_with_counts() {
    let mut lost = Losses::default();
    lost.add(Loss::Overflow, 1_200);
    lost.add(Loss::SpoolError, 34);
    let mut out = Vec::new();
    let gap = Gap { lost, first: TIME, last: TIME, among: 0 };
    Encoder::new(Format::Syslog(Framing::Datagram), origin()).encode_gap(&gap, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "<132>1 2026-01-02T03:04:05.678901Z web-7 shop 4121 lastword [lastword@32473 run=\"0197-b7\" lost=\"1234\" \
         overflow=\"1200\" spool_error=\"34\"] lastword: 1,234 lines lost at 2026-01-02T03:04:05.678901Z \
         (overflow 1,200, spool_error 34)"
    );
}

#[test]
fn the_sequence_id_starts_over_behind_its_greatest_value() {
    for (seq, id) in [(1, "1"), (2_147_483_647, "2147483647"), (2_147_483_648, "1"), (2_147_483_649, "2")] {
        let out = encoded(Framing::Datagram, &unit(seq, b""));
        let message = read(&out).unwrap();
        assert_eq!(message.data["meta"]["sequenceId"], id);
        assert_eq!(message.data["lastword@32473"]["seq"], seq.to_string());
    }
}

#[test]
fn header_fields_are_cleaned_and_cut() {
    let odd = Origin {
        host: String::new(),
        app: "my shop\u{e9}".to_owned() + &"x".repeat(60),
        instance: Instance::known("web.1\n"),
        run: "a\"b\\c]\n".into(),
        labels: Vec::new(),
    };
    let mut out = Vec::new();
    Encoder::new(Format::Syslog(Framing::Datagram), odd).encode(&unit(1, b"hi"), &mut out);
    let message = read(&out).unwrap();
    let app = "my_shop__".to_owned() + &"x".repeat(39);
    assert_eq!(message.header, ["-", app.as_str(), "web.1_", "stdout"]);
    assert_eq!(message.data["lastword@32473"]["run"], "a\"b\\c] ");
}

#[test]
fn the_longest_part_fits_its_scratch() {
    let part = Some(Part { number: u32::MAX, last: false });
    let out = encoded(Framing::Datagram, &Unit { part, ..unit(1, b"") });
    assert_eq!(read(&out).unwrap().data["lastword@32473"]["part"], "4294967295");
}

proptest! {
    #[test]
    fn every_unit_reads_back_to_the_byte_in_every_framing(units in prop::collection::vec(any_unit(), 1..6)) {
        for framing in [Framing::Counted, Framing::Lf, Framing::Datagram] {
            let mut encoder = Encoder::new(Format::Syslog(framing), origin());
            let mut stream = Vec::new();
            for owned in &units {
                if framing == Framing::Datagram {
                    stream.clear();
                }
                encoder.encode(&owned.unit(), &mut stream);
                if framing == Framing::Datagram {
                    check(&stream, framing, owned)?;
                }
            }
            let mut rest = &stream[..];
            for owned in units.iter().filter(|_| framing != Framing::Datagram) {
                let message;
                (message, rest) = unframe(framing, rest).unwrap();
                check(message, framing, owned)?;
            }
            prop_assert!(framing == Framing::Datagram || rest.is_empty());
        }
    }
}

/// What receivers neither tear nor shorten, byte by byte.
fn travelling(framing: Framing, text: &[u8]) -> Vec<u8> {
    let escape = |(at, &byte): (usize, &u8)| match byte {
        0 => b"#000".to_vec(),
        b'\n' if framing == Framing::Lf => b"#012".to_vec(),
        b'\r' if framing == Framing::Lf && at + 1 == text.len() => b"#015".to_vec(),
        byte => vec![byte],
    };
    text.iter().enumerate().flat_map(escape).collect()
}

#[test]
fn what_receivers_tear_or_drop_is_escaped() {
    for text in [&b""[..], b"\0", b"\r", b"a\0\0b\0", b"one\ntwo\r\nthree\r", b"\r\r", b"\0\r", b"\r\0", b"plain"] {
        for framing in [Framing::Counted, Framing::Lf, Framing::Datagram] {
            assert_eq!(*escaped(framing, text), travelling(framing, text), "{framing:?}");
        }
    }
    assert_eq!(*escaped(Framing::Lf, b"one\ntwo\0\r"), *b"one#012two#000#015");
    assert_eq!(*escaped(Framing::Counted, b"one\ntwo\0\r"), *b"one\ntwo#000\r");
}

fn check(message: &[u8], framing: Framing, owned: &Owned) -> Result<(), TestCaseError> {
    let read = read(message).ok_or_else(|| TestCaseError::fail(format!("unreadable: {message:?}")))?;
    let severity = match owned.stream {
        Stream::Stdout => 6,
        Stream::Stderr => 3,
        Stream::Own => 5,
    };
    prop_assert_eq!(read.priority, 128 + severity);
    prop_assert_eq!(read.header, ["web-7", "shop", "4121", owned.stream.name()]);
    prop_assert_eq!(read.time.len(), 27);
    prop_assert!(read.time.parse::<jiff::Timestamp>().is_ok());
    let own = &read.data["lastword@32473"];
    prop_assert_eq!(&own["seq"], &owned.seq.to_string());
    prop_assert_eq!(&own["run"], "0197-b7");
    let place = own.get("part").map(|number| Part { number: number.parse().unwrap(), last: own["last"] == "1" });
    prop_assert_eq!(place, owned.part);
    prop_assert_eq!(read.text, travelling(framing, &owned.text));
    Ok(())
}

fn unframe(framing: Framing, stream: &[u8]) -> Option<(&[u8], &[u8])> {
    if framing == Framing::Lf {
        let end = stream.iter().position(|&byte| byte == b'\n')?;
        return Some((&stream[..end], &stream[end + 1..]));
    }
    let space = stream.iter().position(|&byte| byte == b' ')?;
    let digits = std::str::from_utf8(&stream[..space]).ok()?;
    (!digits.starts_with('0')).then_some(())?;
    let rest = &stream[space + 1..];
    rest.split_at_checked(digits.parse().ok()?)
}

struct Message<'a> {
    priority: u8,
    time: &'a str,
    header: [&'a str; 4],
    data: BTreeMap<String, BTreeMap<String, String>>,
    text: &'a [u8],
}

/// Reads a message by the ABNF of RFC 5424 §6, strictly.
fn read(message: &[u8]) -> Option<Message<'_>> {
    let rest = message.strip_prefix(b"<")?;
    let end = rest.iter().position(|&byte| byte == b'>')?;
    let priority = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    let mut rest = rest[end + 1..].strip_prefix(b"1 ")?;
    let mut fields = [""; 5];
    for (field, max) in fields.iter_mut().zip([32, 255, 48, 128, 32]) {
        let space = rest.iter().position(|&byte| byte == b' ')?;
        let text = &rest[..space];
        (1..=max).contains(&space).then_some(())?;
        text.iter().all(|byte| (33..=126).contains(byte)).then_some(())?;
        *field = std::str::from_utf8(text).ok()?;
        rest = &rest[space + 1..];
    }
    let [time, host, app, process, msgid] = fields;
    let (data, rest) = read_data(rest)?;
    let text = if rest.is_empty() { rest } else { rest.strip_prefix(b" ")? };
    Some(Message { priority, time, header: [host, app, process, msgid], data, text })
}

type Data = BTreeMap<String, BTreeMap<String, String>>;

fn read_data(mut rest: &[u8]) -> Option<(Data, &[u8])> {
    let mut data = Data::new();
    while let Some(element) = rest.strip_prefix(b"[") {
        let (id, mut inside) = read_name(element)?;
        let mut params = BTreeMap::new();
        while let Some(param) = inside.strip_prefix(b" ") {
            let (name, value) = read_name(param)?;
            let (value, after) = read_value(value.strip_prefix(b"=\"")?)?;
            params.insert(name, value).is_none().then_some(())?;
            inside = after;
        }
        rest = inside.strip_prefix(b"]")?;
        data.insert(id, params).is_none().then_some(())?;
    }
    (!data.is_empty()).then_some((data, rest))
}

fn read_name(rest: &[u8]) -> Option<(String, &[u8])> {
    let end = rest.iter().position(|byte| b"= ]\"".contains(byte))?;
    ((1..=32).contains(&end) && rest[..end].iter().all(|byte| (33..=126).contains(byte))).then_some(())?;
    Some((String::from_utf8(rest[..end].to_vec()).ok()?, &rest[end..]))
}

fn read_value(rest: &[u8]) -> Option<(String, &[u8])> {
    let mut value = Vec::new();
    let mut index = 0;
    loop {
        match rest.get(index)? {
            b'"' => return Some((String::from_utf8(value).ok()?, &rest[index + 1..])),
            b'\\' if matches!(rest.get(index + 1), Some(b'"' | b'\\' | b']')) => {
                value.push(rest[index + 1]);
                index += 2;
            }
            b']' => return None,
            &byte => {
                value.push(byte);
                index += 1;
            }
        }
    }
}

#[test]
fn a_unit_over_the_limit_travels_in_pieces_that_are_the_text_again() {
    for text in ["x".repeat(5000), "aß€😀".repeat(700)] {
        let mut syslog = Syslog::new(Framing::Counted, &origin());
        syslog.set_limit(512);
        let mut out = Vec::new();
        syslog.encode(&unit(7, text.as_bytes()), &mut out);
        let (mut rest, mut glued, mut number) = (&out[..], String::new(), 0);
        while !rest.is_empty() {
            let space = rest.iter().position(|&byte| byte == b' ').unwrap();
            let length: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
            let message = std::str::from_utf8(&rest[space + 1..space + 1 + length]).unwrap();
            assert!((400..=512).contains(&length) || space + 1 + length == rest.len(), "{length}");
            number += 1;
            assert!(message.contains(&format!(" seq=\"7\" piece=\"{number}\" pieces=")), "{message}");
            glued += message.rsplit_once("] ").unwrap().1;
            rest = &rest[space + 1 + length..];
        }
        assert_eq!(glued, text);
        assert!(number > 10);
        let mut short = Vec::new();
        syslog.encode(&unit(8, b"short"), &mut short);
        assert!(!String::from_utf8(short).unwrap().contains("piece"));
    }
}
