//! Bodies made smaller: gzip or zstd, each at its fastest level, which most of the gain comes with.
//!
//! The same body gives the same bytes: a retry is identical.

use crate::format::http::Compress;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

/// Below this, framing and the receiver's work cost more than they spare.
const LEAST: usize = 1024;

/// `body` in this encoding; `None` where it travels as it is.
pub(super) fn compressed(encoding: Compress, body: &[u8]) -> Option<Bytes> {
    if body.len() < LEAST {
        return None;
    }
    match encoding {
        Compress::Off => None,
        Compress::Gzip => {
            let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
            encoder.write_all(body).ok()?;
            encoder.finish().ok().map(Bytes::from)
        }
        Compress::Zstd => zstd::bulk::compress(body, 1).ok().map(Bytes::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn bodies_come_back_as_they_were_and_retries_are_identical() {
        let body = b"GET /cart 200 \xff\0\n".repeat(500);
        let gzip = compressed(Compress::Gzip, &body).unwrap();
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, body);
        let zstd = compressed(Compress::Zstd, &body).unwrap();
        assert_eq!(zstd::bulk::decompress(&zstd, body.len()).unwrap(), body);
        assert!(gzip.len() < body.len() / 4 && zstd.len() < body.len() / 4);
        assert_eq!(compressed(Compress::Gzip, &body), Some(gzip));
        assert_eq!(compressed(Compress::Zstd, &body), Some(zstd));
    }

    #[test]
    fn small_bodies_travel_as_they_are() {
        assert_eq!(compressed(Compress::Gzip, &[b'x'; LEAST - 1]), None);
        assert_eq!(compressed(Compress::Off, &[b'x'; 9999]), None);
    }
}
