//! Formats: how units become bytes. One file each; encoders are pure.

pub mod ndjson;
pub mod raw;
pub mod syslog;

use crate::{
    ledger::Losses,
    line::{Stamp, Unit},
};

/// Who is talking: what formats say about the origin of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Host name.
    pub host: String,
    /// App name.
    pub app: String,
    /// Process id or instance name of the app.
    pub instance: String,
    /// Names the run: a UUIDv7.
    pub run: String,
}

/// Lines that a drain had to give up, announced in its own stream at the place of the gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// How many, and why.
    pub lost: Losses,
    /// Time of the first lost unit.
    pub first: Stamp,
    /// Time of the last lost unit.
    pub last: Stamp,
}

/// A format with its settings. Closed: one variant a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// The line as the app wrote it, with its newline.
    Raw,
    /// RFC 5424.
    Syslog(syslog::Framing),
}
