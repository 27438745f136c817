//! Opening: from settings to a running spool, and what each drain is owed by earlier runs.

use super::{
    codec::Owed,
    disk::{Disk, Lock, RealDisk, lock},
    index::Index,
    load::Loader,
    log::{Log, SEGMENT_BYTES},
    recovery::{Range, recover},
    thread::{Member, Settings, Spool, header},
};
use crate::{
    config::{Config, DrainSpec, SpoolSpec, SpoolSync},
    format::thousands,
    say::say,
};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Directories of runs that found the lock taken: `second-1` to this.
const SECONDS: u32 = 64;

/// A spool that is open and does not run yet.
#[derive(Debug)]
pub(crate) struct Opened {
    dir: PathBuf,
    /// None where nobody else can come.
    lock: Option<Lock>,
    disk: Arc<dyn Disk>,
    index: Arc<Index>,
    log: Log,
    owed: BTreeMap<String, Vec<Range>>,
    run: String,
    capacity: usize,
    sync: SpoolSync,
    instance: crate::format::Instance,
}

impl Opened {
    /// Takes the directory's lock (or that of a directory in it), recovers it, and says what is odd.
    ///
    /// # Errors
    /// If there is no way to write there.
    pub(crate) fn open(spec: &SpoolSpec, specs: &[DrainSpec], config: &Config) -> io::Result<Self> {
        let (dir, lock) = lock_one(&spec.dir)?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.clone()));
        probe(&*disk)?;
        if dir == spec.dir {
            adopt_seconds(&dir);
        }
        Ok(Self::over(disk, dir, Some(lock), spec, specs, config))
    }

    /// Recovers what is on a disk, and says what is odd.
    pub(crate) fn over(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        lock: Option<Lock>,
        spec: &SpoolSpec,
        specs: &[DrainSpec],
        config: &Config,
    ) -> Self {
        let found = recover(&*disk);
        for note in &found.notes {
            say(format_args!("spool {}: {note}", dir.display()));
        }
        let drains: Vec<_> = specs.iter().map(|spec| Owed { identity: identity(spec), stream: spec.stream }).collect();
        let owed: BTreeMap<_, _> =
            drains.iter().map(|drain| (drain.identity.clone(), found.owed(&*disk, &drain.identity))).collect();
        let known = |identity: &str| drains.iter().any(|drain| drain.identity == identity);
        let mut strangers: Vec<&str> = found
            .segments
            .iter()
            .flat_map(|segment| segment.drains.iter())
            .map(|owed| owed.identity.as_str())
            .collect();
        strangers.sort_unstable();
        strangers.dedup();
        for stranger in strangers.into_iter().filter(|identity| !known(identity)) {
            let units: u64 = found.owed(&*disk, stranger).iter().map(|range| range.units).sum();
            if units > 0 {
                let (dir, units) = (dir.display(), thousands(units));
                say(format_args!("spool {dir}: {units} lines for {stranger}, which is no drain now, are kept"));
            }
        }
        let index = Arc::new(Index::new(found.segments.iter().map(|segment| segment.number)));
        let segment_bytes = SEGMENT_BYTES.min(spec.max_bytes / 4);
        let header = header(&config.origin, drains);
        let mut log = Log::new(Arc::clone(&disk), header, segment_bytes, spec.max_bytes, found);
        if spec.sync == SpoolSync::Never {
            log.never_sync();
        }
        let capacity = (config.memory / 4).clamp(256 << 10, 4 << 20);
        let (run, instance) = (config.origin.run.clone(), config.origin.instance.clone());
        Self { dir, lock, disk, index, log, owed, run, capacity, sync: spec.sync, instance }
    }

    /// What a drain is owed by earlier runs.
    pub(crate) fn owed(&self, spec: &DrainSpec) -> Vec<Range> {
        self.owed.get(&identity(spec)).cloned().unwrap_or_default()
    }

    /// What a queue's memory may be passed by: batches that the spool has in hand, and one that comes just then.
    pub(crate) fn grace(&self) -> usize {
        2 * self.capacity
    }

    /// Which units are on the disk.
    pub(crate) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index)
    }

    /// A reader for one drain.
    pub(crate) fn loader(&self) -> Loader {
        Loader::new(Arc::clone(&self.disk), self.index(), self.run.clone())
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn start(self, members: Vec<Member>) -> io::Result<Spool> {
        let Self { dir, lock, index, log, capacity, sync, instance, .. } = self;
        Spool::start(log, index, members, Settings { dir, capacity, sync, instance }, lock)
    }
}

#[cfg(test)]
impl Opened {
    /// With an inbox of another size than settings give.
    pub(crate) fn with_capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }

    /// As [`Self::start`], but the caller is the thread.
    pub(crate) fn start_idle(self, members: Vec<Member>) -> (Spool, super::keeper::Keeper) {
        let Self { dir, index, log, capacity, sync, instance, .. } = self;
        Spool::idle(log, index, members, Settings { dir, capacity, sync, instance })
    }
}

/// Names a drain over runs: its `#name=`, else scheme, host, port and path, so that a new token or query keeps the backlog.
pub(crate) fn identity(spec: &DrainSpec) -> String {
    let url = spec.url.replace("://***@", "://");
    let url = url.strip_suffix("?***").unwrap_or(&url);
    // The name that a drain without one gets is the front of its URL; a second one of the same front has a number, too.
    let (name, number) = match spec.name.rsplit_once(" (") {
        Some((name, number)) if number.ends_with(')') => (name, &spec.name[name.len()..]),
        _ => (spec.name.as_str(), ""),
    };
    if name.contains(':') && url.starts_with(name) { format!("{url}{number}") } else { spec.name.clone() }
}

fn lock_one(dir: &Path) -> io::Result<(PathBuf, Lock)> {
    let taken = match lock(dir) {
        Ok(held) => return Ok((dir.to_owned(), held)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => error,
        Err(error) => return Err(error),
    };
    for number in 1..=SECONDS {
        let second = dir.join(format!("second-{number}"));
        match lock(&second) {
            Ok(held) => return Ok((second, held)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

/// A disk that can't be written to is better known before the app starts.
fn probe(disk: &dyn Disk) -> io::Result<()> {
    const NAME: &str = "probe";
    let _ = disk.remove(NAME);
    disk.create(NAME)?;
    disk.remove(NAME)
}

/// Takes over what dead runs left in directories of their own: their segments come behind ours. A run that had partly sent
/// a segment sends the rest of it again whole: duplicates, no loss.
fn adopt_seconds(dir: &Path) {
    for number in 1..=SECONDS {
        let second = dir.join(format!("second-{number}"));
        if !second.is_dir() {
            continue;
        }
        let Ok(_held) = lock(&second) else { continue };
        let disk = RealDisk::new(second.clone());
        let found = recover(&disk);
        let mut next = recover(&RealDisk::new(dir.to_owned())).next_number;
        let identities: Vec<_> = found.segments.iter().flat_map(|it| it.drains.iter()).map(|it| &it.identity).collect();
        let owed: Vec<_> = identities.iter().flat_map(|it| found.owed(&disk, it)).map(|range| range.segment).collect();
        let mut moved = true;
        for segment in &found.segments {
            let from = second.join(super::recovery::segment_name(segment.number));
            if owed.contains(&segment.number) {
                let to = dir.join(super::recovery::segment_name(next));
                next += 1;
                moved &= std::fs::rename(from, to).is_ok();
            } else {
                moved &= std::fs::remove_file(from).is_ok();
            }
        }
        // Cursors that outlived their segments mean nothing; anything else in there is kept.
        if moved {
            let cursors = disk.list().unwrap_or_default().into_iter().map(|(name, _)| name);
            for name in cursors.filter(|name| name.ends_with(".cur")) {
                let _ = disk.remove(&name);
            }
        }
    }
}
