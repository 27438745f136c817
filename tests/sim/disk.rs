//! A disk that lives through all lives of a schedule: it fails, fills, slows, tears, forgets, and dies with the machine.
//!
//! A SIGKILL keeps all that was written; the write that was under way may be torn at any byte. A crash of the machine keeps
//! what was synced, and of the rest any subset, the last one torn at a sector; a name that was made, changed or removed
//! since the last sync of the directory may be as it was. A sync that fails forgets: what it should have made safe never
//! is, though the next one says that all is well.

mod calls;

use super::seen::Seen;
use nix::libc;
use rand::{RngExt, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

const SECTOR: usize = 512;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Full,
    Write,
    Short,
    Sync,
    Slow,
    Hang,
    ReadOnly,
    Read,
}

impl Fault {
    pub(super) const ALL: [Self; 8] =
        [Self::Full, Self::Write, Self::Short, Self::Sync, Self::Slow, Self::Hang, Self::ReadOnly, Self::Read];

    const fn name(self) -> &'static str {
        match self {
            Self::Full => "disk: full",
            Self::Write => "disk: EIO on write",
            Self::Short => "disk: short write",
            Self::Sync => "disk: sync fails and forgets",
            Self::Slow => "disk: slow",
            Self::Hang => "disk: hangs",
            Self::ReadOnly => "disk: read-only",
            Self::Read => "disk: EIO on read",
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    safe: Vec<u8>,
    /// Since the last sync.
    pending: Vec<Change>,
    /// Some of `pending` will never be safe.
    forgot: bool,
    /// The last sync was refused. The next would do it, but lastword can't tell that from the above and makes none.
    refused: bool,
}

#[derive(Clone, Debug)]
enum Naming {
    Make(String, usize),
    Move(String, String),
    Remove(String),
}

#[derive(Debug)]
struct State {
    names: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    namings: Vec<Naming>,
    inodes: Vec<Inode>,
    rng: StdRng,
    seen: Seen,
    enabled: Vec<Fault>,
    /// In a thousand calls, so many begin a fault.
    rate: u32,
    /// What goes wrong now, for so many more calls.
    episode: Option<(Fault, u32)>,
    /// Calls until the process dies.
    dies_in: Option<u32>,
    dead: bool,
    /// Calls that failed, or that came too late, in this life.
    failed: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct WeakDisk(Mutex<State>);

impl WeakDisk {
    pub(super) fn new(rng: StdRng, enabled: Vec<Fault>, rate: u32) -> Self {
        Self(Mutex::new(State {
            names: BTreeMap::new(),
            safe_names: BTreeMap::new(),
            namings: Vec::new(),
            inodes: Vec::new(),
            rng,
            seen: Seen::default(),
            enabled,
            rate,
            episode: None,
            dies_in: None,
            dead: false,
            failed: 0,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A life begins; after so many calls it ends, if so.
    pub(super) fn begin_life(&self, dies_in: Option<u32>) {
        let mut state = self.state();
        (state.dies_in, state.dead, state.failed, state.episode) = (dies_in, false, 0, None);
    }

    /// The calls to the death are counted from here on.
    pub(super) fn begin_calls(&self, dies_in: Option<u32>) {
        let mut state = self.state();
        state.dies_in = state.dies_in.or(dies_in);
    }

    /// What is there.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        state.names.iter().map(|(name, &inode)| (name.clone(), state.inodes[inode].bytes.clone())).collect()
    }

    /// No more faults.
    pub(super) fn quiet(&self) {
        let mut state = self.state();
        (state.enabled, state.episode, state.dies_in) = (Vec::new(), None, None);
    }

    /// A pause in the faults: what is to be looked at is looked at on a disk that works. Returns what [`Self::resume`] takes.
    pub(super) fn pause(&self) -> Vec<Fault> {
        std::mem::take(&mut self.state().enabled)
    }

    pub(super) fn resume(&self, enabled: Vec<Fault>) {
        self.state().enabled = enabled;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state().dead
    }

    pub(super) fn failed(&self) -> u64 {
        self.state().failed
    }

    pub(super) fn take_seen(&self) -> Seen {
        std::mem::take(&mut self.state().seen)
    }

    /// How long the next calls take together.
    pub(super) fn latency(&self) -> Duration {
        let mut state = self.state();
        state.step(false);
        match state.episode {
            Some((Fault::Slow, _)) => Duration::from_millis(state.rng.random_range(5..400)),
            Some((Fault::Hang, _)) => {
                state.episode = None;
                Duration::from_millis(state.rng.random_range(200..15_000))
            }
            _ => Duration::ZERO,
        }
    }

    /// Bytes in segments.
    pub(super) fn used(&self) -> u64 {
        let state = self.state();
        let segments = state.names.iter().filter(|(name, _)| name.ends_with(".seg"));
        segments.map(|(_, &inode)| state.inodes[inode].bytes.len() as u64).sum()
    }

    /// Files whose last sync failed: what it should have made safe is not, and no other is made.
    pub(super) fn unsynced(&self) -> BTreeSet<String> {
        let state = self.state();
        let failed = |inode: &Inode| inode.forgot || inode.refused;
        let failed = state.names.iter().filter(|&(_, &inode)| failed(&state.inodes[inode]));
        failed.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.state().names.contains_key(name)
    }

    /// Whether a file with all that is in it would survive a crash of the machine.
    pub(super) fn is_safe(&self, name: &str) -> bool {
        let state = self.state();
        let Ok(at) = state.inode(name) else { return false };
        let inode = &state.inodes[at];
        state.safe_names.get(name) == Some(&at) && inode.safe == inode.bytes && inode.pending.is_empty()
    }

    /// The machine crashes.
    pub(super) fn crash(&self) {
        let mut state = self.state();
        state.lose();
        for inode in &mut state.inodes {
            inode.safe.clone_from(&inode.bytes);
            inode.pending.clear();
            (inode.forgot, inode.refused) = (false, false);
        }
        let names = state.names.clone();
        state.safe_names = names;
        state.namings.clear();
    }
}

impl State {
    /// A call is made: does it fail? With `acts`, it counts towards the death.
    fn step(&mut self, acts: bool) {
        if acts && let Some(left) = &mut self.dies_in {
            *left = left.saturating_sub(1);
            self.dead |= *left == 0;
        }
        self.episode = self.episode.and_then(|(fault, left)| Some((fault, left.checked_sub(1)?)));
        if self.episode.is_none() && !self.enabled.is_empty() && self.rng.random_ratio(self.rate, 1000) {
            let fault = self.enabled[self.rng.random_range(0..self.enabled.len())];
            let most = if fault == Fault::Read { 2 } else { 40 };
            self.episode = Some((fault, self.rng.random_range(0..most)));
            self.seen.hit(fault.name());
        }
    }

    /// For a call that changes something.
    fn act(&mut self) -> io::Result<()> {
        self.check_dead()?;
        self.step(true);
        self.check_dead()?;
        match self.episode {
            Some((Fault::ReadOnly, _)) => self.fail(libc::EROFS),
            _ => Ok(()),
        }
    }

    fn look(&mut self) -> io::Result<()> {
        self.check_dead()?;
        self.step(false);
        match self.episode {
            Some((Fault::Read, _)) => self.fail(libc::EIO),
            _ => Ok(()),
        }
    }

    fn check_dead(&mut self) -> io::Result<()> {
        if self.dead { self.fail(libc::EIO) } else { Ok(()) }
    }

    fn fail(&mut self, errno: i32) -> io::Result<()> {
        self.failed += 1;
        Err(io::Error::from_raw_os_error(errno))
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, inode: usize, change: Change) {
        let inode = &mut self.inodes[inode];
        apply(&mut inode.bytes, &change);
        inode.pending.push(change);
    }

    fn rename(&mut self, naming: Naming) {
        apply_name(&mut self.names, &naming);
        self.namings.push(naming);
    }

    /// The machine crashes.
    fn lose(&mut self) {
        let Self { names, safe_names, namings, inodes, rng, .. } = self;
        let keep_all = rng.random_bool(0.2);
        names.clone_from(safe_names);
        for naming in namings.iter().filter(|_| keep_all || rng.random_bool(0.5)) {
            apply_name(names, naming);
        }
        for inode in inodes {
            if inode.pending.is_empty() {
                continue;
            }
            let kept: Vec<&Change> = inode.pending.iter().filter(|_| keep_all || rng.random_bool(0.6)).collect();
            let mut bytes = inode.safe.clone();
            for (at, change) in kept.iter().enumerate() {
                match change {
                    Change::Write(offset, data) if at + 1 == kept.len() && rng.random_bool(0.5) => {
                        let cut = rng.random_range(0..=data.len() / SECTOR) * SECTOR;
                        apply(&mut bytes, &Change::Write(*offset, data[..cut.min(data.len())].to_vec()));
                    }
                    change => apply(&mut bytes, change),
                }
            }
            inode.bytes = bytes;
        }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, data) => {
            bytes.resize(bytes.len().max(offset + data.len()), 0);
            bytes[*offset..offset + data.len()].copy_from_slice(data);
        }
        Change::Truncate(len) => bytes.truncate(*len),
    }
}

fn apply_name(names: &mut BTreeMap<String, usize>, naming: &Naming) {
    match naming {
        Naming::Make(name, inode) => drop(names.insert(name.clone(), *inode)),
        Naming::Move(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Naming::Remove(name) => drop(names.remove(name)),
    }
}
