//! Reading RFC 5424: frames off a stream, and messages into units.

use super::judge::{Seen, Unit};
use std::collections::VecDeque;

/// Cuts a byte stream into messages. A frame that starts with a digit is octet-counted (RFC 6587 section 3.4.1), any
/// other ends at a newline (3.4.2).
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    start: usize,
}

impl Frames {
    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 1 << 20 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes of an unfinished frame.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// The next whole message.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        let rest = &self.bytes[self.start..];
        if rest.first()?.is_ascii_digit() {
            let space = rest.iter().take(12).position(|&byte| byte == b' ')?;
            let length: usize = std::str::from_utf8(&rest[..space]).ok()?.parse().expect("an octet count is a number");
            let message = rest.get(space + 1..space + 1 + length)?.to_vec();
            self.start += space + 1 + length;
            Some(message)
        } else {
            let newline = rest.iter().position(|&byte| byte == b'\n')?;
            let message = rest[..newline].to_vec();
            self.start += newline + 1;
            Some(message)
        }
    }
}

/// A message's parts that matter here.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// MSGID.
    pub id: &'a str,
    /// Structured data as (element, parameter, value).
    pub data: Vec<(String, String, String)>,
    /// MSG.
    pub text: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID SD [MSG]`, strictly.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}: {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)]));
        let mut words: VecDeque<&[u8]> = bytes.splitn(7, |&byte| byte == b' ').collect();
        let mut word = || words.pop_front().filter(|word| !word.is_empty()).ok_or_else(|| wrong("too few fields"));
        let head = word()?;
        let priority = head.strip_prefix(b"<").and_then(|rest| rest.strip_suffix(b">1"));
        let priority = priority.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u8>().ok());
        if priority.is_none_or(|priority| priority > 191) {
            return Err(wrong("no priority and version"));
        }
        let time = word()?;
        if time.len() != 27 || !time.ends_with(b"Z") || time[10] != b'T' {
            return Err(wrong("the timestamp has not six digits"));
        }
        let (_host, _app, _process) = (word()?, word()?, word()?);
        let id = std::str::from_utf8(word()?).map_err(|_| wrong("MSGID is no text"))?;
        let (data, text) = structured_data(words.pop_front().unwrap_or_default()).ok_or_else(|| wrong("broken SD"))?;
        Ok(Self { id, data, text })
    }

    /// A parameter's value.
    pub fn get(&self, element: &str, parameter: &str) -> Option<&str> {
        let mut all = self.data.iter();
        all.find(|(e, p, _)| e == element && p == parameter).map(|(_, _, value)| value.as_str())
    }
}

type Data = Vec<(String, String, String)>;

fn structured_data(mut rest: &[u8]) -> Option<(Data, &[u8])> {
    let mut data = Vec::new();
    if let Some(after) = rest.strip_prefix(b"-") {
        rest = after;
    } else {
        while let Some(element) = rest.strip_prefix(b"[") {
            let end = element.iter().position(|&byte| matches!(byte, b' ' | b']'))?;
            let name = std::str::from_utf8(&element[..end]).ok()?;
            rest = &element[end..];
            while let Some(parameter) = rest.strip_prefix(b" ") {
                let equals = parameter.iter().position(|&byte| byte == b'=')?;
                let key = std::str::from_utf8(&parameter[..equals]).ok()?;
                let (value, after) = quoted(parameter.get(equals + 1..)?)?;
                data.push((name.to_owned(), key.to_owned(), value));
                rest = after;
            }
            rest = rest.strip_prefix(b"]")?;
        }
    }
    Some((data, rest.strip_prefix(b" ").unwrap_or(rest)))
}

fn quoted(bytes: &[u8]) -> Option<(String, &[u8])> {
    let mut value = Vec::new();
    let mut rest = bytes.strip_prefix(b"\"")?;
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'"' => return Some((String::from_utf8(value).ok()?, rest)),
            b'\\' if matches!(rest.first(), Some(b'"' | b'\\' | b']')) => {
                value.push(rest[0]);
                rest = &rest[1..];
            }
            byte => value.push(byte),
        }
    }
}

/// A text without the escapes of a NUL, of a newline, and of a CR at its end. No line of the tests has these letters of its own.
pub fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let escape = [(b"#000", 0), (b"#012", b'\n'), (b"#015", b'\r')];
        let found = escape.into_iter().find(|(letters, _)| rest.starts_with(*letters));
        bytes.push(found.map_or(first, |(_, byte)| byte));
        rest = if found.is_some() { &rest[4..] } else { after };
    }
    bytes
}

/// Messages as the judge sees them. Panics at the first that is no RFC 5424.
pub fn seen(messages: &[Vec<u8>]) -> Seen {
    let mut seen = Seen::default();
    let mut pieces = Vec::new();
    for bytes in messages {
        let message = Message::parse(bytes).unwrap_or_else(|error| panic!("{error}"));
        let own = |parameter: &str| message.get("lastword@32473", parameter);
        let Some(seq) = own("seq") else {
            let lost = own("lost").unwrap_or_else(|| panic!("no seq: {}", String::from_utf8_lossy(bytes)));
            seen.announced += lost.parse::<u64>().expect("lost is a number");
            seen.gaps.push(String::from_utf8_lossy(bytes).into_owned());
            continue;
        };
        let part = own("part").map(|number| (number.parse().expect("a part has a number"), own("last") == Some("1")));
        seen.runs.extend(own("run").map(str::to_owned));
        let mut text = message.text.to_vec();
        if let Some(piece) = own("piece") {
            // What was sent again begins with the first piece, too.
            if piece == "1" {
                pieces.clear();
            }
            pieces.push((seq.to_owned(), piece.parse::<usize>().expect("a piece has a number"), text));
            if own("pieces") != Some(piece) {
                continue;
            }
            let whole = (1..).zip(&pieces).all(|(number, piece)| piece.0 == seq && piece.1 == number);
            assert!(whole, "pieces are missing of {seq}");
            text = pieces.drain(..).flat_map(|piece| piece.2).collect();
        }
        let units = if message.id == "lastword" { &mut seen.own } else { &mut seen.units };
        units.push(Unit {
            seq: Some(seq.parse().expect("seq is a number")),
            stream: match message.id {
                "stdout" => Some('o'),
                "stderr" => Some('e'),
                _ => None,
            },
            text: unescaped(&text),
            part,
        });
    }
    seen
}

mod tests {
    use super::*;

    const SAMPLE: &[u8] = br#"<134>1 2026-01-02T03:04:05.678901Z web-7 shop 4121 stdout [meta sequenceId="42"][lastword@32473 run="b\"7\\\]" seq="9"] GET  /cart 200"#;

    #[test]
    fn a_message_is_read_whole() {
        let message = Message::parse(SAMPLE).expect("a good message");
        assert_eq!(message.id, "stdout");
        assert_eq!(message.get("meta", "sequenceId"), Some("42"));
        assert_eq!(message.get("lastword@32473", "run"), Some(r#"b"7\]"#));
        assert_eq!(message.text, b"GET  /cart 200");
        assert_eq!(Message::parse(b"<13>1 2026-01-02T03:04:05.678901Z - - - - -").map(|m| m.text.len()), Ok(0));
    }

    #[test]
    fn bad_messages_are_refused() {
        for bad in [
            &b"hello"[..],
            b"<192>1 2026-01-02T03:04:05.678901Z - - - - - x",
            b"<13>1 2026-01-02T03:04:05.678901234Z - - - - - x",
            b"<13>1 2026-01-02t03:04:05.678901Z - - - - - x",
            b"<13>1 2026-01-02T03:04:05.678901Z - - - - [a b=\"c] x",
        ] {
            assert!(Message::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let stream = b"5 hello<13>1 lf\n3 a\nb0 <14>1 x\n";
        for cut in 1..stream.len() {
            let mut frames = Frames::default();
            let mut messages = Vec::new();
            for bytes in stream.chunks(cut) {
                frames.push(bytes);
                messages.extend(std::iter::from_fn(|| frames.next()));
            }
            assert_eq!(messages, [&b"hello"[..], b"<13>1 lf", b"a\nb", b"", b"<14>1 x"]);
            assert_eq!(frames.pending(), 0);
        }
    }
}
