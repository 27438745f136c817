//! Back into memory: a drain's own reader of the log. It reads on the drain's thread, so a slow disk delays that drain alone.

use super::{
    disk::Disk,
    index::Index,
    recovery::{Range, read_header, segment_name},
    scan::{Item, Scanner},
};
use crate::{
    format::{Instance, Origin},
    ledger::Loss,
    line::{Batch, Source},
};
use std::{io, sync::Arc};

/// What was read of a range.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) batches: Vec<Batch>,
    /// All that there is before this sequence number is in `batches`.
    pub(crate) upto: u64,
    /// Why units are missing, if any are.
    pub(crate) reason: Loss,
    /// Units that are missing before `upto`, though there is more behind them.
    pub(crate) holes: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Loader {
    disk: Arc<dyn Disk>,
    index: Arc<Index>,
    run: String,
    open: Option<Open>,
}

/// The segment that was read last, and how far.
#[derive(Debug)]
struct Open {
    segment: u64,
    /// None for a segment of this run.
    source: Option<Arc<Source>>,
    scanner: Scanner,
    /// Everything before this was passed.
    passed: u64,
    /// Units of each stream that are before that.
    units: [u64; 3],
}

impl Loader {
    /// `run` names the present run: its lines need no source.
    pub(crate) fn new(disk: Arc<dyn Disk>, index: Arc<Index>, run: String) -> Self {
        Self { disk, index, run, open: None }
    }

    /// Reads about `bytes` bytes from the front of a range; at least one batch, or to its end.
    pub(crate) fn load(&mut self, range: &Range, bytes: usize) -> Loaded {
        let mut loaded = Loaded { batches: Vec::new(), upto: range.from, reason: Loss::Corrupt, holes: 0 };
        if let Err(error) = self.try_load(range, bytes, &mut loaded) {
            self.open = None;
            loaded.upto = range.to;
            let evicted = error.kind() == io::ErrorKind::NotFound && !self.index.is_alive(range.segment);
            loaded.reason = if evicted { Loss::Overflow } else { Loss::SpoolError };
        }
        loaded
    }

    fn try_load(&mut self, range: &Range, bytes: usize, loaded: &mut Loaded) -> io::Result<()> {
        let disk = Arc::clone(&self.disk);
        let open = self.open(range)?;
        let mut size = 0;
        while size < bytes && loaded.upto < range.to {
            match open.scanner.next(&*disk)? {
                Some(Item::Frame { batch, before, .. }) => {
                    let passed = open.pass(&batch, before);
                    if batch.end_seq() <= range.from {
                        continue;
                    }
                    let hole = batch.first_seq().min(range.to).saturating_sub(loaded.upto);
                    loaded.holes += range.stream.map_or(hole, |stream| {
                        hole.min(before[stream as usize].saturating_sub(passed[stream as usize]))
                    });
                    loaded.upto = batch.end_seq().min(range.to);
                    let wanted = range.stream.is_none_or(|stream| stream == batch.stream());
                    if wanted && batch.first_seq() < range.to {
                        size += batch.lines().data.len() + Batch::OVERHEAD_BYTES;
                        loaded.batches.push(match &open.source {
                            Some(source) => batch.from_source(Arc::clone(source)),
                            None => batch,
                        });
                    }
                }
                Some(Item::Damage { .. }) => {}
                Some(Item::Footer(_)) | None => {
                    loaded.upto = range.to;
                    open.passed = u64::MAX;
                }
            }
        }
        Ok(())
    }

    /// The segment of a range, at or before its first unit.
    fn open(&mut self, range: &Range) -> io::Result<&mut Open> {
        let name = segment_name(range.segment);
        let len = self.disk.len(&name)?;
        let open = match self.open.take().filter(|open| open.segment == range.segment && open.passed <= range.from) {
            Some(mut open) => {
                open.scanner.grow(len);
                open
            }
            None => {
                let (header, body, salt) = read_header(&*self.disk, &name)?.map_err(io::Error::other)?;
                let origin = Origin {
                    host: header.host,
                    app: header.app,
                    instance: Instance::known(header.instance),
                    run: header.run,
                    labels: header.labels,
                };
                let foreign = origin.run != self.run;
                let source = foreign.then(|| Arc::new(Source { origin, segment: range.segment }));
                let scanner = Scanner::new(name, salt, body, len);
                Open { segment: range.segment, source, scanner, passed: 0, units: [0; 3] }
            }
        };
        Ok(self.open.insert(open))
    }
}

impl Open {
    /// Goes behind a frame; returns how many units of each stream were passed so far.
    fn pass(&mut self, batch: &Batch, before: [u64; 3]) -> [u64; 3] {
        self.passed = batch.end_seq();
        let passed = std::mem::replace(&mut self.units, before);
        self.units[batch.stream() as usize] += batch.len() as u64;
        passed
    }
}
