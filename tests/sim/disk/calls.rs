//! The calls: each is counted, may fail, and may be the last.

use super::{Change, Fault, Inode, Naming, WeakDisk};
use crate::spool::disk::Disk;
use nix::libc;
use rand::RngExt;
use std::io;

impl Disk for WeakDisk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut state = self.state();
        state.check_dead()?;
        Ok(state.names.iter().map(|(name, &inode)| (name.clone(), state.inodes[inode].bytes.len() as u64)).collect())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        let state = self.state();
        Ok(state.inodes[state.inode(name)?].bytes.len() as u64)
    }

    fn read(&self, name: &str, offset: u64, max: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let mut state = self.state();
        state.look()?;
        let bytes = &state.inodes[state.inode(name)?].bytes;
        let start = (offset as usize).min(bytes.len());
        out.extend_from_slice(&bytes[start..start.saturating_add(max).min(bytes.len())]);
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.act()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.rename(Naming::Make(name.to_owned(), inode));
        Ok(())
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.inode(name)?;
        let was_dead = state.dead;
        if let Err(error) = state.act() {
            // The process died in the midst of it.
            if state.dead && !was_dead {
                let cut = state.rng.random_range(0..=bytes.len());
                state.change(inode, Change::Write(offset as usize, bytes[..cut].to_vec()));
            }
            return Err(error);
        }
        let part = match state.episode {
            Some((Fault::Full, _)) => Some((0, libc::ENOSPC)),
            Some((Fault::Write, _)) => Some((bytes.len() / 2, libc::EIO)),
            Some((Fault::Short, _)) => Some((state.rng.random_range(0..=bytes.len()), libc::ENOSPC)),
            _ => None,
        };
        let Some((len, errno)) = part else {
            state.change(inode, Change::Write(offset as usize, bytes.to_vec()));
            return Ok(());
        };
        state.change(inode, Change::Write(offset as usize, bytes[..len].to_vec()));
        state.fail(errno)
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.act()?;
        let inode = state.inode(name)?;
        state.change(inode, Change::Truncate(len as usize));
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let acted = state.act();
        let at = state.inode(name)?;
        state.inodes[at].refused = acted.is_err() && !state.dead;
        acted?;
        if matches!(state.episode, Some((Fault::Sync, _))) {
            state.inodes[at].forgot = true;
            return state.fail(libc::EIO);
        }
        let inode = &mut state.inodes[at];
        if !inode.forgot {
            inode.safe.clone_from(&inode.bytes);
            inode.pending.clear();
        }
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.act()?;
        if matches!(state.episode, Some((Fault::Sync, _))) {
            return state.fail(libc::EIO);
        }
        let names = state.names.clone();
        state.safe_names = names;
        state.namings.clear();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.act()?;
        state.inode(from)?;
        state.rename(Naming::Move(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.act()?;
        state.inode(name)?;
        state.rename(Naming::Remove(name.to_owned()));
        Ok(())
    }
}
