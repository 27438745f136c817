//! RELP frames (librelp `doc/relp.md`): `TXNR SP COMMAND SP DATALEN [SP DATA] LF`. Pure.

use std::fmt::Write;

/// Transaction numbers go from 1 to this, and start over; the receiver wants them without a gap.
const TXNR_MAX: u32 = 999_999_999;
/// Longest answer that is taken; the longest known one lists offers in a few hundred bytes.
pub(crate) const DATA_MAX: usize = 128 << 10;

/// The number behind `txnr`.
pub(crate) fn next_txnr(txnr: u32) -> u32 {
    if txnr >= TXNR_MAX { 1 } else { txnr + 1 }
}

/// Appends a frame.
pub(crate) fn encode(txnr: u32, command: &str, data: &[u8], out: &mut Vec<u8>) {
    let mut head = String::with_capacity(32);
    let _ = write!(head, "{txnr} {command} {}", data.len());
    out.reserve(head.len() + data.len() + 2);
    out.extend_from_slice(head.as_bytes());
    if !data.is_empty() {
        out.push(b' ');
        out.extend_from_slice(data);
    }
    out.push(b'\n');
}

/// What the receiver says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An answer to transaction `txnr`. The one to `close` has no code, which is 0 here.
    Response { txnr: u32, code: u16, text: Vec<u8> },
    /// It ends the session (a hint, transaction 0).
    ServerClose,
}

/// Not RELP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not speak RELP")]
pub(crate) struct NotRelp;

/// Cuts answers out of what was read.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    bytes: Vec<u8>,
}

impl Parser {
    /// Takes what was read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that no answer was made of yet.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn kept(&self) -> usize {
        self.bytes.len()
    }

    /// The next whole answer.
    pub(crate) fn next(&mut self) -> Result<Option<Answer>, NotRelp> {
        let Some((answer, length)) = parse(&self.bytes)? else { return Ok(None) };
        self.bytes.drain(..length);
        Ok(Some(answer))
    }
}

/// The frame at the start of `bytes`, and its length. None if it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>, NotRelp> {
    let mut at = 0;
    let Some(txnr) = word(bytes, &mut at, 9)? else { return Ok(None) };
    let Some(command) = word(bytes, &mut at, 32)? else { return Ok(None) };
    let digits = bytes[at..].iter().take(10).take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 10 {
        return Err(NotRelp);
    }
    let Some(&end) = bytes.get(at + digits) else { return Ok(None) };
    let length: usize = number(&bytes[at..at + digits])?;
    at += digits;
    // `0` may stand before the LF with a space or without one.
    at += usize::from(end == b' ');
    if length > DATA_MAX || !matches!(end, b' ' | b'\n') || (end == b'\n' && length > 0) {
        return Err(NotRelp);
    }
    match bytes.get(at + length) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(NotRelp),
    }
    let data = &bytes[at..at + length];
    let txnr: u32 = number(txnr)?;
    let answer = match command {
        b"rsp" => {
            let digits = data.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let code = if data.is_empty() { 0 } else { number(&data[..digits])? };
            let text = data[digits..].strip_prefix(b" ").unwrap_or(&data[digits..]).to_vec();
            Answer::Response { txnr, code, text }
        }
        b"serverclose" => Answer::ServerClose,
        _ => return Err(NotRelp),
    };
    Ok(Some((answer, at + length + 1)))
}

/// The word at `at`, which moves behind the space that ends it. None if the space is not there yet.
fn word<'a>(bytes: &'a [u8], at: &mut usize, most: usize) -> Result<Option<&'a [u8]>, NotRelp> {
    let rest = &bytes[*at..];
    let length = rest.iter().take(most + 1).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    match rest.get(length) {
        Some(b' ') if (1..=most).contains(&length) => {
            *at += length + 1;
            Ok(Some(&rest[..length]))
        }
        None if length <= most => Ok(None),
        _ => Err(NotRelp),
    }
}

fn number<N: std::str::FromStr>(digits: &[u8]) -> Result<N, NotRelp> {
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(NotRelp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(txnr: u32, code: u16, text: &str) -> Answer {
        Answer::Response { txnr, code, text: text.into() }
    }

    #[test]
    fn frames_look_as_librelp_writes_them() {
        let mut out = Vec::new();
        encode(2, "syslog", b"<134>1 hi\nthere", &mut out);
        encode(999_999_999, "close", b"", &mut out);
        assert_eq!(out, b"2 syslog 15 <134>1 hi\nthere\n999999999 close 0\n");
        assert_eq!((next_txnr(1), next_txnr(999_999_999)), (2, 1));
    }

    #[test]
    fn answers_come_out_whole_however_the_stream_is_cut() {
        let stream = b"1 rsp 21 200 OK\nrelp_version=0\n2 rsp 6 200 OK\n3 rsp 9 500 no\nno\n3 rsp 0\n0 serverclose 0\n4 rsp 3 200\n";
        let expected = [
            response(1, 200, "OK\nrelp_version=0"),
            response(2, 200, "OK"),
            response(3, 500, "no\nno"),
            response(3, 0, ""),
            Answer::ServerClose,
            response(4, 200, ""),
        ];
        for cut in 1..stream.len() {
            let mut parser = Parser::default();
            let mut answers = Vec::new();
            for bytes in stream.chunks(cut) {
                parser.push(bytes);
                while let Some(answer) = parser.next().unwrap() {
                    answers.push(answer);
                }
            }
            assert_eq!(answers, expected, "in pieces of {cut}");
        }
    }

    #[test]
    fn what_is_no_relp_is_refused() {
        for bad in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"x rsp 0\n",
            b"1 rsp 5 200 OK\n",
            b"1 rsp 999999 x",
            b"1 rsp 12345678901",
            b"1 rsp 0000000003",
            b"1 rsp 0000000003 200\n",
            b"1 rsp 3\n",
            b"1 rsp 3 abc\n",
            b"1234567890 rsp 0\n",
            b"1 hello 0\n",
            b"\n",
        ] {
            let mut parser = Parser::default();
            parser.push(bad);
            assert_eq!(parser.next(), Err(NotRelp), "{}", String::from_utf8_lossy(bad));
        }
    }
}
