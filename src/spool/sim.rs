//! A disk for tests: it logs each operation, fails when told, and shows every state that a crash could leave.
//!
//! Its model of a crash of the machine: what was not synced may be there or not, each write for itself and in any
//! combination; the last one may be torn at any sector; a name that was made, changed or removed since the last sync of
//! the directory may be as it was. A SIGKILL keeps all that was done, and may tear the last write at any byte.

use super::disk::Disk;
use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard},
};

const SECTOR: usize = 512;

/// Names and contents.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// One operation that changed something, or made something safe. Files are meant by their inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Create(String, usize),
    Write(usize, u64, Vec<u8>),
    Truncate(usize, u64),
    Sync(usize),
    SyncDir,
    Rename(String, String),
    Remove(String),
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// The call with this number (from 0) fails with this error; a write has written its first half then.
    pub(crate) fail_at: Option<(usize, i32)>,
    /// Every call from `fail_at` on fails.
    pub(crate) for_good: bool,
    /// Bytes that there is room for.
    pub(crate) room: Option<usize>,
    /// What was written can't be made safe.
    pub(crate) syncs_fail: bool,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, usize>,
    inodes: Vec<Vec<u8>>,
    ops: Vec<Op>,
    calls: usize,
    faults: Faults,
    failed: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SimDisk(Mutex<State>);

impl SimDisk {
    /// A disk that holds these files, safely.
    pub(crate) fn with(files: &Files) -> Self {
        let mut state = State::default();
        for (name, bytes) in files {
            state.names.insert(name.clone(), state.inodes.len());
            state.inodes.push(bytes.clone());
        }
        Self(Mutex::new(state))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        let mut state = self.state();
        state.faults = faults;
        state.calls = 0;
    }

    /// Calls since the faults were set.
    pub(crate) fn calls(&self) -> usize {
        self.state().calls
    }

    /// Calls that failed by order.
    pub(crate) fn failed(&self) -> usize {
        self.state().failed
    }

    pub(crate) fn ops(&self) -> Vec<Op> {
        self.state().ops.clone()
    }

    pub(crate) fn files(&self) -> Files {
        let state = self.state();
        state.names.iter().map(|(name, &inode)| (name.clone(), state.inodes[inode].clone())).collect()
    }

    /// Changes a bit of a byte.
    pub(crate) fn flip(&self, name: &str, at: usize) {
        self.edit(name, |bytes| bytes[at] ^= 4);
    }

    pub(crate) fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = state.names[name];
        change(&mut state.inodes[inode]);
    }
}

impl State {
    /// Counts a call, and fails it if it is its turn.
    fn call(&mut self) -> io::Result<()> {
        let index = self.calls;
        self.calls += 1;
        match self.faults.fail_at {
            Some((at, errno)) if at == index || self.faults.for_good && index > at => {
                self.failed += 1;
                Err(io::Error::from_raw_os_error(errno))
            }
            _ => Ok(()),
        }
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn log(&mut self, op: Op) {
        apply(&mut self.names, &mut self.inodes, &op);
        self.ops.push(op);
    }

    fn used(&self) -> usize {
        self.names.values().map(|&inode| self.inodes[inode].len()).sum()
    }
}

fn apply(names: &mut BTreeMap<String, usize>, inodes: &mut Vec<Vec<u8>>, op: &Op) {
    match op {
        Op::Create(name, inode) => {
            inodes.resize(inodes.len().max(inode + 1), Vec::new());
            names.insert(name.clone(), *inode);
        }
        Op::Write(inode, offset, bytes) => {
            inodes.resize(inodes.len().max(inode + 1), Vec::new());
            let (file, start) = (&mut inodes[*inode], *offset as usize);
            file.resize(file.len().max(start + bytes.len()), 0);
            file[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Op::Truncate(inode, len) => inodes[*inode].truncate(*len as usize),
        Op::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        Op::Remove(name) => drop(names.remove(name)),
        Op::Sync(_) | Op::SyncDir => {}
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut state = self.state();
        state.call()?;
        Ok(state.names.iter().map(|(name, &inode)| (name.clone(), state.inodes[inode].len() as u64)).collect())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        let mut state = self.state();
        state.call()?;
        let inode = state.inode(name)?;
        Ok(state.inodes[inode].len() as u64)
    }

    fn read(&self, name: &str, offset: u64, max: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let file = &state.inodes[state.inode(name)?];
        let start = (offset as usize).min(file.len());
        out.extend_from_slice(&file[start..(start + max).min(file.len())]);
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.log(Op::Create(name.to_owned(), inode));
        Ok(())
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let called = state.call();
        let inode = state.inode(name)?;
        if let Err(error) = called {
            state.log(Op::Write(inode, offset, bytes[..bytes.len() / 2].to_vec()));
            return Err(error);
        }
        let grows = (offset as usize + bytes.len()).saturating_sub(state.inodes[inode].len());
        if let Some(room) = state.faults.room.filter(|&room| state.used() + grows > room) {
            let fits = bytes.len() - (state.used() + grows - room).min(bytes.len());
            state.failed += 1;
            state.log(Op::Write(inode, offset, bytes[..fits].to_vec()));
            return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
        }
        state.log(Op::Write(inode, offset, bytes.to_vec()));
        Ok(())
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let inode = state.inode(name)?;
        state.log(Op::Truncate(inode, len));
        Ok(())
    }

    /// A sync that fails forgets: what it should have made safe never is.
    fn sync(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let inode = state.inode(name)?;
        if state.faults.syncs_fail {
            state.failed += 1;
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        state.log(Op::Sync(inode));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        state.log(Op::SyncDir);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        state.inode(from)?;
        state.log(Op::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        state.inode(name)?;
        state.log(Op::Remove(name.to_owned()));
        Ok(())
    }
}

/// Every state that a crash of the machine right after these operations could leave, starting from an empty disk.
/// More than ten unsafe operations are not combined in every way, but each may still be the only one missing or there.
pub(crate) fn crash_states(ops: &[Op]) -> Vec<Files> {
    let (safe, open) = split(ops);
    let full = (1_u64 << open.len()) - 1;
    let masks: Vec<u64> = if open.len() <= 10 {
        (0..=full).collect()
    } else {
        (0..open.len()).flat_map(|bit| [1 << bit, full & !(1 << bit), (1 << bit) - 1]).chain([full]).collect()
    };
    let mut states = Vec::new();
    for mask in masks {
        let kept: Vec<usize> = (0..open.len()).filter(|bit| mask & (1 << bit) != 0).map(|bit| open[bit]).collect();
        let last_write = kept.iter().copied().rfind(|&at| matches!(ops[at], Op::Write(..)));
        let torn = last_write.map_or(0, |at| if let Op::Write(_, _, bytes) = &ops[at] { bytes.len() } else { 0 });
        let cuts = (0..torn).step_by(SECTOR).chain([torn]).skip(usize::from(torn > 0));
        for cut in cuts {
            states.push(state(ops, |at| safe.contains(&at) || kept.contains(&at), last_write.map(|at| (at, cut))));
        }
    }
    states.sort();
    states.dedup();
    states
}

/// Every state that a SIGKILL during the last of these operations could leave.
pub(crate) fn kill_states(ops: &[Op], step: usize) -> Vec<Files> {
    let last = ops.len().saturating_sub(1);
    let len = if let Some(Op::Write(_, _, bytes)) = ops.last() { bytes.len() } else { 0 };
    (0..=len).step_by(step).chain([len]).map(|cut| state(ops, |_| true, Some((last, cut)))).collect()
}

/// Which operations are safe (made so by a later sync), and which changes are not.
fn split(ops: &[Op]) -> (Vec<usize>, Vec<usize>) {
    let (mut safe, mut open) = (Vec::new(), Vec::new());
    for (at, op) in ops.iter().enumerate() {
        let later = &ops[at + 1..];
        match op {
            Op::Write(inode, ..) | Op::Truncate(inode, _) => {
                if later.contains(&Op::Sync(*inode)) {
                    safe.push(at);
                } else {
                    open.push(at);
                }
            }
            Op::Create(..) | Op::Rename(..) | Op::Remove(_) => {
                if later.contains(&Op::SyncDir) {
                    safe.push(at);
                } else {
                    open.push(at);
                }
            }
            Op::Sync(_) | Op::SyncDir => {}
        }
    }
    (safe, open)
}

fn state(ops: &[Op], keep: impl Fn(usize) -> bool, torn: Option<(usize, usize)>) -> Files {
    let (mut names, mut inodes) = (BTreeMap::new(), Vec::new());
    let most = ops.iter().filter_map(|op| if let Op::Create(_, inode) = op { Some(*inode) } else { None }).max();
    inodes.resize(most.map_or(0, |most| most + 1), Vec::new());
    for (at, op) in ops.iter().enumerate().filter(|&(at, _)| keep(at)) {
        match (op, torn) {
            (Op::Write(inode, offset, bytes), Some((torn, cut))) if torn == at => {
                apply(&mut names, &mut inodes, &Op::Write(*inode, *offset, bytes[..cut].to_vec()));
            }
            _ => apply(&mut names, &mut inodes, op),
        }
    }
    names.into_iter().map(|(name, inode): (String, usize)| (name, inodes[inode].clone())).collect()
}
