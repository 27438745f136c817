//! What becomes of a connection at a receiver with faults: the same in every protocol, but for what each has of its own.

use nix::sys::socket::{setsockopt, sockopt};
use rand::{RngExt, rngs::StdRng};
use std::os::fd::AsFd;

/// What a connection's peer does. `Own` is what only its protocol knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate<Own> {
    /// Reads and answers to the end.
    Healthy,
    /// Ends it at once.
    Refuse,
    /// Reads nothing, for so many milliseconds, and dies with all of it unread.
    BlackHole(u64),
    /// Reads so many bytes, then the connection is reset.
    ResetAfter(usize),
    /// Reads so many bytes, then closes (without TLS's goodbye).
    CloseAfter(usize),
    /// Reads a few bytes at a time, with pauses, so many times; then as healthy.
    Slow(usize),
    /// TLS: shows a certificate of somebody else.
    WrongCertificate,
    /// The protocol's own.
    Own(Own),
}

/// What counts faults by their kind.
pub trait Kind {
    /// The kind alone.
    fn kind(&self) -> &'static str;
}

impl<Own: Kind> Kind for Fate<Own> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Refuse => "refuse",
            Self::BlackHole(_) => "black hole",
            Self::ResetAfter(_) => "reset",
            Self::CloseAfter(_) => "close",
            Self::Slow(_) => "slow",
            Self::WrongCertificate => "wrong certificate",
            Self::Own(own) => own.kind(),
        }
    }
}

impl<Own> Fate<Own> {
    /// One that any connection can have, within so many bytes: in the midst of a handshake, too.
    pub fn random(rng: &mut StdRng, within: usize) -> Self {
        let bytes = rng.random_range(1..within);
        match rng.random_range(0..6) {
            0 => Self::Refuse,
            1 => Self::BlackHole(rng.random_range(1..60)),
            2 => Self::ResetAfter(bytes),
            3 => Self::CloseAfter(bytes),
            4 => Self::Slow(rng.random_range(1..80)),
            _ => Self::ResetAfter(bytes / 10),
        }
    }
}

/// The connection ends by a reset when it is closed.
pub fn reset(stream: &impl AsFd) {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = setsockopt(stream, sockopt::Linger, &linger);
}
