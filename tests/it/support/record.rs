//! The app's own record: what it really wrote, known to the line even when it was killed.

use super::lines::{Shape, line};
use std::{collections::BTreeMap, fs, io, path::Path};

/// One writer's stream: the pair that numbers its lines.
pub type Source = (String, char);

/// How many lines of a source were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The write of these returned.
    pub done: u64,
    /// The write of these may have begun; at least `done`.
    pub begun: u64,
}

/// What a test's writers say they wrote.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Lines by source.
    pub sources: BTreeMap<Source, Extent>,
    /// Writers that have set up their signal handlers and begun.
    pub ready: Vec<String>,
    /// Writers that ended as they wished, their last line written.
    pub goodbyes: Vec<String>,
    /// Writers that found nobody reading.
    pub broken: Vec<String>,
}

impl Record {
    /// Reads the record from its directory.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let mut record = Self::default();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().into_string().expect("record names are text");
            let size = entry.metadata()?.len();
            let parts: Vec<&str> = name.split('.').collect();
            match parts[..] {
                [source, "goodbye"] => record.goodbyes.push(source.into()),
                [source, "broken"] => record.broken.push(source.into()),
                [source, "ready"] => record.ready.push(source.into()),
                [source, stream, "begun"] => record.extent(source, stream).begun = size,
                [source, stream, "done"] => record.extent(source, stream).done = size,
                _ => return Err(io::Error::other(format!("{name} does not belong into a record"))),
            }
        }
        Ok(record)
    }

    fn extent(&mut self, source: &str, stream: &str) -> &mut Extent {
        let stream = stream.chars().next().expect("a record's name has a stream");
        self.sources.entry((source.into(), stream)).or_default()
    }

    /// Lines surely written, over all sources.
    pub fn done(&self) -> u64 {
        self.sources.values().map(|extent| extent.done).sum()
    }

    /// Those sources only that write to `stream`: the record of a drain with `#stream=`.
    pub fn only(&self, stream: char) -> Self {
        let mut record = self.clone();
        record.sources.retain(|(_, s), _| *s == stream);
        record
    }
}

/// A line, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who says to have written it, and where.
    pub source: Source,
    /// From 1.
    pub number: u64,
}

/// Whose line `text` is, if each byte of it is what that line must be.
pub fn identify(text: &[u8]) -> Option<Claim> {
    let (claim, shape) = claim(text)?;
    (line(&claim.source.0, claim.source.1, shape, claim.number) == text).then_some(claim)
}

fn claim(text: &[u8]) -> Option<(Claim, Shape)> {
    let head = &text.strip_prefix(b"@")?[..text.len().min(121) - 1];
    let mut words = head.splitn(5, |&byte| byte == b' ').map(std::str::from_utf8);
    let mut word = || words.next()?.ok();
    let source = word()?.to_owned();
    let stream = word()?.chars().next()?;
    let shape = Shape::parse(word()?)?;
    let number = word()?.parse().ok()?;
    Some((Claim { source: (source, stream), number }, shape))
}
