//! A request's body that tells how far it is: a receiver that takes a minute for it is slow, not stalled.

use crate::transport::Pulse;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

/// What is handed over at a time. The HTTP library asks for more than the kernel has taken, by some hundred KiB at most.
const PIECE: usize = 16 << 10;

/// The bytes of a body, of a length that is known from the start.
pub(super) struct Told {
    rest: Bytes,
    length: usize,
    /// Where the payload begins and how long it is: not the same as `length`, if the body is compressed.
    position: u64,
    wire: usize,
    pulse: Pulse,
}

impl Told {
    /// `body` stands for the `wire` bytes from `position` on.
    pub(super) fn new(body: Bytes, position: u64, wire: usize, pulse: Pulse) -> Self {
        Self { length: body.len(), rest: body, position, wire, pulse }
    }
}

impl Body for Told {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        // What was handed over before is on its way when more is asked for.
        let gone = (this.length - this.rest.len()) as u64;
        this.pulse.reach(this.position + gone * this.wire as u64 / this.length.max(1) as u64);
        if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_body_is_what_it_was_and_tells_how_far_it_is() {
        let bytes = Bytes::from(vec![7; 3 * PIECE + 1]);
        let pulse = Pulse::default();
        let mut body = Told::new(bytes.clone(), 1000, 2 * bytes.len(), pulse.clone());
        assert_eq!(body.size_hint().exact(), Some(bytes.len() as u64));
        let mut got = Vec::new();
        let mut reached = Vec::new();
        while let Some(frame) = body.frame().await {
            got.extend_from_slice(&frame.unwrap().into_data().unwrap());
            reached.push(pulse.furthest() - 1000);
        }
        assert!(got == bytes && body.is_end_stream());
        assert_eq!(reached, [0, 2, 4, 6].map(|pieces| pieces * PIECE as u64));
    }
}
