//! Opening: from settings to a running spool, and what each drain is owed by earlier runs.

use super::{
    codec::{Header, Owed, cut},
    disk::{Disk, LOCK, Lock, RealDisk, lock, probe},
    index::Index,
    load::Loader,
    log::{Log, SEGMENT_BYTES},
    recovery::{Found, recover, segment_name},
    thread::{Member, Opened, Settings, Spool},
};
use crate::{
    config::{Config, DrainSpec, SpoolSpec},
    drain::inbox::Inbox,
    errand::PATIENCE,
    format::{Origin, thousands},
    report::Unreadable,
    say::say,
};
use crc32c::crc32c;
use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How long the app's start waits for the disk where there is none without it: longer than [`PATIENCE`], for a disk that is slow is one.
const REQUIRED_PATIENCE: Duration = Duration::from_secs(10);

/// Directories of runs that found the lock taken: `second-1` to this.
const SECONDS: u32 = 64;

/// What a spool is to be, from the settings: opened as often as it takes.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    spec: SpoolSpec,
    drains: Vec<Owed>,
    origin: Origin,
    capacity: usize,
}

impl Plan {
    pub(crate) fn new(spec: &SpoolSpec, specs: &[DrainSpec], config: &Config) -> Self {
        // Whoever sends another drain's lines stands in its place.
        let name = |spec: &DrainSpec| config.backlog_of.clone().unwrap_or_else(|| identity(spec));
        let owed = |spec: &DrainSpec| Owed { identity: name(spec), stream: spec.stream };
        let capacity = (config.memory / 4).clamp(256 << 10, 4 << 20);
        Self { spec: spec.clone(), drains: specs.iter().map(owed).collect(), origin: config.origin.clone(), capacity }
    }

    /// Takes the directory's lock (or that of a directory in it), recovers it, says what is odd, and attaches the drains,
    /// which are in the order of the settings. `after` one that vanished: see [`super::thread::Open`].
    ///
    /// # Errors
    /// If there is no way to write there.
    pub(crate) fn open(&self, inboxes: &[Arc<Inbox>], after: Option<u64>) -> io::Result<Opened> {
        let (dir, lock) = match (self.spec.existing, after) {
            (false, _) => lock_one(&self.spec.dir, after.is_some())?,
            (true, None) => lock_it(&self.spec.dir)?,
            (true, Some(_)) => return Err(io::Error::new(io::ErrorKind::NotFound, "what was to be sent is gone")),
        };
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::watched(dir.clone(), &lock)?);
        // A full disk is no reason not to send what is on it.
        match probe(&*disk, false) {
            Err(error) if self.spec.required || !is_full(&error) => return Err(error),
            _ => {}
        }
        let mut found = recover(&*disk);
        if !found.listed {
            return Err(io::Error::other("its files can't be listed"));
        }
        say_notes(&dir, &found);
        if let Some(number) = after {
            found.next_number = found.next_number.max(number);
        } else if dir == self.spec.dir && adopt_seconds(&dir, found.next_number, &mut found.unreadable) {
            let unreadable = found.unreadable;
            found = Found { unreadable, ..recover(&*disk) };
        }
        Ok(self.over(disk, dir, found, Box::new(lock), inboxes))
    }

    /// Attaches the drains to what was found on a disk. `keep` lives as long as the log.
    fn over(
        &self,
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        found: Found,
        keep: Box<dyn Send>,
        inboxes: &[Arc<Inbox>],
    ) -> Opened {
        self.name_strangers(&dir, &*disk, &found);
        let index = Arc::new(Index::new(found.segments.iter().map(|segment| segment.number)));
        for (drain, inbox) in self.drains.iter().zip(inboxes) {
            let loader = Loader::new(Arc::clone(&disk), Arc::clone(&index), self.origin.run.clone());
            // Beside its memory a queue may hold what the spool has in hand, and a batch that comes just then.
            inbox.attach(&index, 2 * self.capacity, found.owed(&*disk, &drain.identity), loader);
        }
        let unreadable = found.unreadable;
        let max_bytes = self.spec.max_bytes;
        let segment_bytes = SEGMENT_BYTES.min(max_bytes / 4);
        let header = header(&self.origin, self.drains.clone());
        let log = Log::new(disk, header, segment_bytes, max_bytes, found);
        Opened { dir, log, index, unreadable, keep }
    }

    /// Backlogs of drains that are not configured any more.
    fn name_strangers(&self, dir: &Path, disk: &dyn Disk, found: &Found) {
        let segments = found.segments.iter().flat_map(|segment| segment.drains.iter());
        let all: BTreeSet<&str> = segments.map(|owed| owed.identity.as_str()).collect();
        let known = |identity: &str| self.drains.iter().any(|drain| drain.identity == identity);
        for stranger in all.into_iter().filter(|identity| !known(identity)) {
            let units: u64 = found.owed(disk, stranger).iter().map(|range| range.units).sum();
            if units > 0 {
                let (dir, units) = (dir.display(), thousands(units));
                say(format_args!("spool {dir}: {units} lines for {stranger}, which is no drain now, are kept"));
            }
        }
    }

    /// Starts the thread, which opens the spool. What can't be opened, or not in time, is tried again there, unless it is required.
    ///
    /// # Errors
    /// If the system has no thread left, or there is no spool and the settings require one.
    pub(crate) fn start(self, inboxes: Vec<Arc<Inbox>>) -> io::Result<Spool> {
        let (members, settings) = (self.members(&inboxes), self.settings());
        let SpoolSpec { required, dir, .. } = self.spec.clone();
        let patience = if required { REQUIRED_PATIENCE } else { PATIENCE };
        let open = Box::new(move |after| self.open(&inboxes, after));
        let (spool, first) = Spool::start(open, members, settings, patience)?;
        match first {
            Err(error) if required => {
                return Err(io::Error::new(error.kind(), format!("--spool {}: {error}", dir.display())));
            }
            Err(error) => spool.begin_without(&error),
            Ok(()) => {}
        }
        Ok(spool)
    }

    fn members(&self, inboxes: &[Arc<Inbox>]) -> Vec<Member> {
        let member = |(drain, inbox): (&Owed, &Arc<Inbox>)| Member {
            identity: drain.identity.clone(),
            inbox: Arc::clone(inbox),
        };
        self.drains.iter().zip(inboxes).map(member).collect()
    }

    fn settings(&self) -> Settings {
        Settings {
            dir: self.spec.dir.clone(),
            capacity: self.capacity,
            sync: self.spec.sync,
            instance: self.origin.instance.clone(),
        }
    }
}

#[cfg(test)]
impl Plan {
    /// With an inbox of another size than settings give.
    pub(crate) fn with_capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }

    /// Opens what is on a disk. The caller is the spool's thread.
    pub(crate) fn start_idle(&self, disk: Arc<dyn Disk>, inboxes: &[Arc<Inbox>]) -> (Spool, super::keeper::Keeper) {
        let found = recover(&*disk);
        let dir = self.spec.dir.clone();
        say_notes(&dir, &found);
        let opened = self.over(disk, dir, found, Box::new(()), inboxes);
        Spool::idle(opened, self.members(inboxes), self.settings())
    }
}

/// What the segments of a run say of it.
fn header(origin: &Origin, drains: Vec<Owed>) -> Header {
    Header {
        run: origin.run.clone(),
        host: origin.host.clone(),
        app: origin.app.clone(),
        instance: String::new(),
        labels: origin.labels.clone(),
        drains,
    }
}

/// Whether a disk has no room, which is no reason not to read it.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Longest name of a drain over runs, in bytes: a cursor's slot has room for no more than four times that.
const IDENTITY_MAX: usize = 1000;

/// Names a drain over runs: its `#name=`, else scheme, host, port and path, so that a new token or query keeps the backlog. What
/// is too long for that is told apart by a checksum.
pub(crate) fn identity(spec: &DrainSpec) -> String {
    let url = spec.url.replace("://***@", "://");
    let url = url.strip_suffix("?***").unwrap_or(&url);
    // The name that a drain without one gets is the front of its URL; a second one of the same front has a number, too.
    let (name, number) = match spec.name.rsplit_once(" (") {
        Some((name, number)) if number.ends_with(')') => (name, &spec.name[name.len()..]),
        _ => (spec.name.as_str(), ""),
    };
    let whole = if name.contains(':') && url.starts_with(name) { format!("{url}{number}") } else { spec.name.clone() };
    if whole.len() <= IDENTITY_MAX {
        return whole;
    }
    format!("{}…{:08x}", cut(&whole, IDENTITY_MAX), crc32c(whole.as_bytes()))
}

/// What is in the directory is to be sent, so another one will not do.
fn lock_it(dir: &Path) -> io::Result<(PathBuf, Lock)> {
    if !std::fs::metadata(dir)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if !is_spool(&RealDisk::new(dir.to_owned()))? {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is no spool in it"));
    }
    match lock(dir) {
        Ok(held) => Ok((dir.to_owned(), held)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::new(error.kind(), "a lastword that runs has it, and sends what is in it"))
        }
        Err(error) => Err(error),
    }
}

/// Where runs work that find the directory's lock taken.
pub(crate) fn seconds(dir: &Path) -> impl Iterator<Item = PathBuf> {
    (1..=SECONDS).map(move |number| dir.join(format!("second-{number}")))
}

/// `empty`: only one without lines will do.
fn lock_one(dir: &Path, empty: bool) -> io::Result<(PathBuf, Lock)> {
    let will_do = |dir: &Path| !empty || !has_segments(dir);
    match lock(dir) {
        Ok(held) if will_do(dir) => return Ok((dir.to_owned(), held)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    for second in seconds(dir) {
        match lock(&second) {
            Ok(held) if will_do(&second) => return Ok((second, held)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let taken = format!("another lastword has it, and others the {SECONDS} directories in it");
    Err(io::Error::new(io::ErrorKind::WouldBlock, taken))
}

/// Whether a directory is, or was, a spool: misspelt names are mostly of others.
///
/// # Errors
/// If it can't be listed.
pub(crate) fn is_spool(disk: &dyn Disk) -> io::Result<bool> {
    let is_ours = |name: &str| name == LOCK || name.ends_with(".cur") || name.contains(".seg");
    Ok(disk.list()?.iter().any(|(name, _)| is_ours(name)))
}

/// Whether there is anything in it that is or was a segment, or nobody can tell.
fn has_segments(dir: &Path) -> bool {
    let files = RealDisk::new(dir.to_owned()).list();
    files.map_or(true, |files| files.iter().any(|(name, _)| name.contains(".seg")))
}

fn say_notes(dir: &Path, found: &Found) {
    for note in &found.notes {
        say(format_args!("spool {}: {note}", dir.display()));
    }
}

/// Takes over what dead runs left in directories of their own: their segments come behind ours, from the number `next` on. A
/// run that had partly sent a segment sends the rest of it again whole: duplicates, no loss. True if there was any.
fn adopt_seconds(dir: &Path, mut next: u64, unreadable: &mut Unreadable) -> bool {
    let mut adopted = false;
    for second in seconds(dir) {
        if !second.is_dir() {
            continue;
        }
        let Ok(_held) = lock(&second) else { continue };
        let disk = RealDisk::new(second.clone());
        let found = recover(&disk);
        say_notes(&second, &found);
        unreadable.merge(&found.unreadable);
        let identities: Vec<_> = found.segments.iter().flat_map(|it| it.drains.iter()).map(|it| &it.identity).collect();
        let owed: Vec<_> = identities.iter().flat_map(|it| found.owed(&disk, it)).map(|range| range.segment).collect();
        let mut moved = true;
        for segment in &found.segments {
            let from = second.join(segment_name(segment.number));
            if owed.contains(&segment.number) {
                moved &= std::fs::rename(from, dir.join(segment_name(next))).is_ok();
                (next, adopted) = (next + 1, true);
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
    adopted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{FileTarget, Target},
        format::Format,
        spool::{cursor::Cursor, cursor::Place, sim::SimDisk},
    };

    fn drain(name: &str, url: &str) -> DrainSpec {
        let target = Target::File(FileTarget::new("x".into()));
        DrainSpec { name: name.into(), url: url.into(), format: Format::Raw, target, stream: None }
    }

    #[test]
    fn a_drain_without_a_name_is_known_by_its_url_without_what_changes() {
        let of = |name, url| identity(&drain(name, url));
        assert_eq!(of("https://h", "https://***@h/in?***"), "https://h/in");
        assert_eq!(of("https://h (2)", "https://h/in"), "https://h/in (2)");
        assert_eq!(of("logs", "https://h/in"), "logs");
    }

    /// A cursor has no room for a long one: it was stored under its front, was nobody's, and each run sent all again.
    #[test]
    fn long_names_are_told_apart_and_fit_a_cursor() {
        let long = |end: &str| identity(&drain("https://h", &format!("https://h/{}{end}", "ä".repeat(30_000))));
        assert_ne!(long("a"), long("b"));
        let disk = SimDisk::default();
        let place = Place { segment: 3, seq: 7 };
        Cursor::new(&long("a")).store(&disk, place).unwrap();
        let found = recover(&disk);
        assert_eq!(found.cursors.get(&long("a")).map(|cursor| cursor.place), Some(place));
    }
}
