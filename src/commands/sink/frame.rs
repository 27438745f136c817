//! Frames of a syslog stream, told apart one by one: a digit begins a counted frame (RFC 6587 §3.4.1), anything else
//! a line that ends with LF (§3.4.2). rsyslog's imtcp decides the same way.

use bytes::{Buf, BytesMut};

/// Longest frame that is taken. A sender of more is not speaking syslog, and memory is bounded by this.
pub(crate) const FRAME_MAX: usize = 8 << 20;

/// Longest count, without leading zeros, that can be within [`FRAME_MAX`].
const DIGITS_MAX: usize = 7;

/// Takes the next whole frame out of `buf`, without its count or LF. `None`: more bytes are needed. Empty lines between
/// frames are skipped, because some senders end counted frames with one.
///
/// # Errors
/// In words, if the stream cannot be followed any longer.
pub(crate) fn next(buf: &mut BytesMut) -> Result<Option<BytesMut>, String> {
    while buf.first() == Some(&b'\n') {
        buf.advance(1);
    }
    match buf.first() {
        None => Ok(None),
        Some(byte) if byte.is_ascii_digit() => counted(buf),
        Some(_) => terminated(buf),
    }
}

/// What is left in `buf` at the end of the stream, if it can be a line that lacks just its LF.
pub(crate) fn rest(buf: BytesMut) -> Result<Option<BytesMut>, String> {
    match buf.first() {
        None => Ok(None),
        Some(byte) if byte.is_ascii_digit() => Err(format!("the stream ended inside a frame, {} bytes in", buf.len())),
        Some(_) => Ok(Some(buf)),
    }
}

fn counted(buf: &mut BytesMut) -> Result<Option<BytesMut>, String> {
    let digits = buf.iter().take(DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
    match buf.get(digits) {
        _ if digits > DIGITS_MAX => return Err("a frame's count has too many digits".into()),
        None => return Ok(None),
        Some(b' ') => {}
        Some(_) => return Err("a frame's count is not followed by a space".into()),
    }
    let len = buf[..digits].iter().fold(0, |len, digit| len * 10 + usize::from(digit - b'0'));
    if len > FRAME_MAX {
        return Err(format!("a frame of {len} bytes is longer than {FRAME_MAX}"));
    }
    if buf.len() < digits + 1 + len {
        return Ok(None);
    }
    buf.advance(digits + 1);
    Ok(Some(buf.split_to(len)))
}

fn terminated(buf: &mut BytesMut) -> Result<Option<BytesMut>, String> {
    match memchr::memchr(b'\n', buf) {
        Some(end) => {
            let frame = buf.split_to(end);
            buf.advance(1);
            Ok(Some(frame))
        }
        None if buf.len() > FRAME_MAX => Err(format!("a line is longer than {FRAME_MAX} bytes")),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(stream: &[u8], step: usize) -> Result<(Vec<Vec<u8>>, BytesMut), String> {
        let (mut buf, mut frames) = (BytesMut::new(), Vec::new());
        for piece in stream.chunks(step) {
            buf.extend_from_slice(piece);
            while let Some(frame) = next(&mut buf)? {
                frames.push(frame.to_vec());
            }
        }
        Ok((frames, buf))
    }

    #[test]
    fn framings_may_change_from_frame_to_frame_and_arrive_in_pieces() {
        let stream = b"5 <1>ab<2>line\n9 <3>in\nner\n\nplain text\n0 4 <4>x<5>cut";
        for step in 1..stream.len() {
            let (frames, buf) = all(stream, step).unwrap();
            let expected: [&[u8]; 6] = [b"<1>ab", b"<2>line", b"<3>in\nner", b"plain text", b"", b"<4>x"];
            assert_eq!(frames, expected, "step {step}");
            assert_eq!(rest(buf).unwrap().unwrap(), &b"<5>cut"[..]);
        }
    }

    #[test]
    fn a_stream_that_cannot_be_followed_is_refused() {
        assert!(all(b"12345678 x", 3).unwrap_err().contains("digits"));
        assert!(all(b"12monkeys", 3).unwrap_err().contains("space"));
        assert!(all(b"9999999 x", 3).unwrap_err().contains("longer"));
        assert!(all(&vec![b'x'; FRAME_MAX + 2], 1 << 16).unwrap_err().contains("longer"));
        assert!(rest(BytesMut::from(&b"9 <1>ab"[..])).unwrap_err().contains("inside a frame"));
    }
}
