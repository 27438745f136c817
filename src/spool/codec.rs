//! The bytes of a segment: header, frame, footer. Pure; the layout stands in the module above.

use crate::line::{Batch, Lines, Part, Stamp, Stream};
use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};

const MAGIC: &[u8; 8] = b"LASTWORD";
/// In 1, which no release wrote, frames did not say what is before them.
pub(crate) const VERSION: u16 = 2;
/// What stands before the header's body.
pub(crate) const HEADER_FIXED: usize = 20;
/// A header longer than this is not ours.
pub(super) const HEADER_MAX: usize = 1 << 20;
pub(crate) const FRAME_MAGIC: &[u8; 4] = b"LWfr";
/// What stands before a frame's payload.
pub(crate) const FRAME_FIXED: usize = 52;
pub(super) const FOOTER_MAGIC: &[u8; 4] = b"LWft";
/// Length of a footer.
pub(crate) const FOOTER_LEN: usize = 64;
const LAST: u32 = 1 << 31;

/// A drain that is owed the lines of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owed {
    /// Names the drain over runs.
    pub(crate) identity: String,
    /// `#stream=`.
    pub(crate) stream: Option<Stream>,
}

/// Who wrote a segment, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) run: String,
    pub(crate) host: String,
    pub(crate) app: String,
    pub(crate) instance: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) drains: Vec<Owed>,
}

/// Why a header could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHeader {
    /// The file ends within it.
    #[error("torn-header")]
    Torn,
    /// Its checksum or its contents are wrong.
    #[error("bad-header")]
    Bad,
    /// Not a segment.
    #[error("foreign")]
    Foreign,
    /// A segment of another version.
    #[error("version-{0}")]
    Version(u16),
}

/// What a sealed segment holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) first_seq: u64,
    pub(crate) end_seq: u64,
    /// Units of stdout and of stderr.
    pub(crate) units: [u64; 3],
    /// Where the footer begins.
    pub(crate) offset: u64,
}

/// A frame without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    /// Length of the payload.
    pub(crate) len: usize,
    pub(crate) crc: u32,
    pub(crate) units: u32,
    pub(crate) first_seq: u64,
    pub(crate) time: Stamp,
    pub(crate) stream: Stream,
    pub(crate) before: [u64; 3],
    pub(crate) parts: u32,
}

/// A header's bytes, and the checksum that frames start from.
pub(crate) fn encode_header(header: &Header) -> (Vec<u8>, u32) {
    let mut body = Vec::new();
    for text in [&header.run, &header.host, &header.app, &header.instance] {
        put_text(&mut body, text);
    }
    put_count(&mut body, header.labels.len());
    for (name, value) in header.labels.iter().take(usize::from(u16::MAX)) {
        put_text(&mut body, name);
        put_text(&mut body, value);
    }
    put_count(&mut body, header.drains.len());
    for owed in header.drains.iter().take(usize::from(u16::MAX)) {
        body.push(streams(owed.stream));
        put_text(&mut body, &owed.identity);
    }
    let mut out = Vec::with_capacity(HEADER_FIXED + body.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    let crc = crc32c_append(crc32c(&out), &body);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&body);
    (out, crc)
}

/// Reads a header from the front of a file: what it says, its length, and the checksum that frames start from.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<(Header, usize, u32), BadHeader> {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        // Zeroes are what a file system leaves of data that never reached the disk: of all of it, or of the first block.
        let is_zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
        return Err(match is_zero(&bytes[..known]) {
            true if is_zero(bytes) => BadHeader::Torn,
            true => BadHeader::Bad,
            false => BadHeader::Foreign,
        });
    }
    let mut fixed = Reader(bytes.get(8..).ok_or(BadHeader::Torn)?);
    let version = fixed.u16().ok_or(BadHeader::Torn)?;
    if version != VERSION {
        return Err(BadHeader::Version(version));
    }
    let (_, len, crc) = (fixed.u16(), fixed.u32().ok_or(BadHeader::Torn)?, fixed.u32().ok_or(BadHeader::Torn)?);
    let len = len as usize;
    if len > HEADER_MAX {
        return Err(BadHeader::Bad);
    }
    let body = fixed.0.get(..len).ok_or(BadHeader::Torn)?;
    if crc32c_append(crc32c(&bytes[..16]), body) != crc {
        return Err(BadHeader::Bad);
    }
    let header = header_body(Reader(body)).ok_or(BadHeader::Bad)?;
    Ok((header, HEADER_FIXED + len, crc))
}

/// How long the header is that begins like this, if it can be told.
pub(crate) fn header_len(bytes: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?) as usize;
    (len <= HEADER_MAX).then_some(HEADER_FIXED + len)
}

fn header_body(mut body: Reader<'_>) -> Option<Header> {
    let (run, host, app, instance) = (body.text()?, body.text()?, body.text()?, body.text()?);
    let labels = (0..body.u16()?).map(|_| Some((body.text()?, body.text()?))).collect::<Option<_>>()?;
    let drains = (0..body.u16()?)
        .map(|_| {
            let stream = match body.u8()? {
                1 => Some(Stream::Stdout),
                2 => Some(Stream::Stderr),
                4 => Some(Stream::Own),
                7 => None,
                _ => return None,
            };
            Some(Owed { identity: body.text()?, stream })
        })
        .collect::<Option<_>>()?;
    Some(Header { run, host, app, instance, labels, drains })
}

/// Appends a batch as one frame. `before`: units of each stream that are before it in the segment, so that a frame that can't be
/// read is missed by the drains it was for, and no others.
pub(crate) fn encode_frame(batch: &Batch, before: [u64; 3], salt: u32, out: &mut Vec<u8>) {
    let lines = batch.lines();
    let start = out.len();
    let len = 4 * lines.ends.len() + 8 * lines.parts.len() + lines.data.len();
    out.extend_from_slice(FRAME_MAGIC);
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(lines.ends.len() as u32).to_le_bytes());
    out.extend_from_slice(&batch.first_seq().to_le_bytes());
    out.extend_from_slice(&batch.time().0.to_le_bytes());
    out.extend_from_slice(&[streams(Some(batch.stream())), 0, 0, 0]);
    out.extend_from_slice(&(lines.parts.len() as u32).to_le_bytes());
    for units in before {
        out.extend_from_slice(&(units as u32).to_le_bytes());
    }
    for end in &lines.ends {
        out.extend_from_slice(&end.to_le_bytes());
    }
    for (index, part) in &lines.parts {
        out.extend_from_slice(&index.to_le_bytes());
        out.extend_from_slice(&((part.number & !LAST) | if part.last { LAST } else { 0 }).to_le_bytes());
    }
    out.extend_from_slice(&lines.data);
    seal_frame(&mut out[start..], salt);
}

/// Puts its checksum into a frame; what is too short for one stays as it is.
pub(crate) fn seal_frame(frame: &mut [u8], salt: u32) {
    if let Some((fixed, payload)) = frame.split_at_mut_checked(FRAME_FIXED) {
        let crc = frame_crc(salt, fixed, payload);
        fixed[8..12].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Reads what stands before a frame's payload. Only [`decode_frame`] can tell whether it is true.
pub(crate) fn frame_head(bytes: &[u8]) -> Option<FrameHead> {
    let mut reader = Reader(bytes.get(..FRAME_FIXED)?.strip_prefix(FRAME_MAGIC)?);
    let (len, crc, units) = (reader.u32()? as usize, reader.u32()?, reader.u32()?);
    let (first_seq, time) = (reader.u64()?, Stamp(reader.u64()? as i64));
    let stream = match reader.take(4)? {
        [1, 0, 0, 0] => Stream::Stdout,
        [2, 0, 0, 0] => Stream::Stderr,
        [4, 0, 0, 0] => Stream::Own,
        _ => return None,
    };
    let parts = reader.u32()?;
    let before = [reader.u32()?.into(), reader.u32()?.into(), reader.u32()?.into()];
    let tables = 4 * u64::from(units) + 8 * u64::from(parts);
    let plausible =
        units > 0 && parts <= units && tables <= len as u64 && first_seq.checked_add(units.into()).is_some();
    plausible.then_some(FrameHead { len, crc, units, first_seq, time, stream, before, parts })
}

/// The batch of a whole frame, and the units of each stream before it; None if anything about it is wrong.
pub(crate) fn decode_frame(frame: &[u8], salt: u32) -> Option<(Batch, [u64; 3])> {
    let head = frame_head(frame)?;
    let payload = frame.get(FRAME_FIXED..FRAME_FIXED + head.len)?;
    if frame_crc(salt, &frame[..FRAME_FIXED], payload) != head.crc {
        return None;
    }
    let mut reader = Reader(payload);
    let ends: Vec<u32> = (0..head.units).map(|_| reader.u32()).collect::<Option<_>>()?;
    let parts: Vec<(u32, Part)> = (0..head.parts)
        .map(|_| {
            let (index, number) = (reader.u32()?, reader.u32()?);
            Some((index, Part { number: number & !LAST, last: number & LAST != 0 }))
        })
        .collect::<Option<_>>()?;
    let data = reader.0;
    let ascending = ends.first().is_some_and(|&end| end > 0) && ends.is_sorted_by(|one, two| one < two);
    let in_range = parts.iter().all(|&(index, _)| index < head.units) && parts.is_sorted_by(|one, two| one.0 < two.0);
    if !ascending || !in_range || ends.last().map(|&end| end as usize) != Some(data.len()) {
        return None;
    }
    let lines = Lines { data: Bytes::copy_from_slice(data), ends, parts };
    Some((Batch::new(head.stream, head.first_seq, head.time, lines), head.before))
}

fn frame_crc(salt: u32, fixed: &[u8], payload: &[u8]) -> u32 {
    crc32c_append(crc32c_append(crc32c_append(salt, &fixed[..8]), &fixed[12..]), payload)
}

/// A footer's bytes.
pub(crate) fn encode_footer(footer: &Footer) -> [u8; FOOTER_LEN] {
    let mut out = [0; FOOTER_LEN];
    out[..4].copy_from_slice(FOOTER_MAGIC);
    let [out_units, err_units, own_units] = footer.units;
    let fields = [footer.first_seq, footer.end_seq, out_units, err_units, own_units, footer.offset];
    for (index, field) in fields.into_iter().enumerate() {
        out[8 + 8 * index..16 + 8 * index].copy_from_slice(&field.to_le_bytes());
    }
    let crc = crc32c(&out[8..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Reads the footer that begins at `offset` of its file.
pub(crate) fn decode_footer(bytes: &[u8], offset: u64) -> Option<Footer> {
    let bytes = bytes.get(..FOOTER_LEN)?;
    let mut reader = Reader(bytes.strip_prefix(FOOTER_MAGIC)?);
    if reader.u32()? != crc32c(&bytes[8..]) {
        return None;
    }
    let (first_seq, end_seq) = (reader.u64()?, reader.u64()?);
    let footer =
        Footer { first_seq, end_seq, units: [reader.u64()?, reader.u64()?, reader.u64()?], offset: reader.u64()? };
    (footer.offset == offset && first_seq <= end_seq).then_some(footer)
}

const fn streams(stream: Option<Stream>) -> u8 {
    match stream {
        Some(Stream::Stdout) => 1,
        Some(Stream::Stderr) => 2,
        Some(Stream::Own) => 4,
        None => 7,
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
}

/// A text of more than 65,535 bytes is cut on a character's border.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = cut(text, usize::from(u16::MAX));
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// At most `len` bytes of a text, whole characters.
pub(crate) fn cut(text: &str, len: usize) -> &str {
    let end = (0..=len.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

/// Takes little-endian values from the front.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        let len = self.u16()?;
        String::from_utf8(self.take(usize::from(len))?.to_vec()).ok()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the tests of the spool share.

    use super::*;

    pub(crate) fn header() -> Header {
        Header {
            run: "run-1".into(),
            host: "web-7".into(),
            app: "shop".into(),
            instance: "4121".into(),
            labels: vec![("zone".into(), "b".into())],
            drains: vec![
                Owed { identity: "all".into(), stream: None },
                Owed { identity: "err".into(), stream: Some(Stream::Stderr) },
            ],
        }
    }
}
