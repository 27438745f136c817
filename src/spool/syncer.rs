//! Syncs, and removes files, on a thread of its own: a disk that takes a second to make a second's lines safe, or to free a
//! second's segments, keeps no append waiting, so an app that writes faster than that is not slowed down to it.
//!
//! A file that could not be synced is never synced again: the kernel may have dropped what it could not write, and would say
//! that all is well the second time.

use super::{disk::Disk, log::Unsafe, recovery::segment_name};
use crate::clock;
use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// See the module.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    runs: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What is to be synced, or is being synced.
    work: Option<Unsafe>,
    done: Option<Synced>,
    end: bool,
}

impl Syncer {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { shared: Arc::default(), disk, runs: false }
    }

    /// Whether it has work, or an outcome that was not taken.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.shared.lock();
        state.work.is_some() || state.done.is_some()
    }

    /// Gives it work; only when it is not busy.
    pub(super) fn give(&mut self, work: Unsafe) {
        // A simulation has one thread.
        if !self.runs && !clock::is_simulated() {
            let (shared, disk) = (Arc::clone(&self.shared), Arc::clone(&self.disk));
            let started = thread::Builder::new().name("spool-sync".into()).spawn(move || shared.work_off(&*disk));
            self.runs = started.is_ok();
        }
        if self.runs {
            self.shared.lock().work = Some(work);
            self.shared.changed.notify_all();
        } else {
            // The system has no thread left, which is no reason to leave lines unsafe.
            let synced = sync(&*self.disk, &work);
            self.shared.lock().done = Some(synced);
        }
    }

    /// What became of the work, once.
    pub(super) fn outcome(&self) -> Option<Synced> {
        self.shared.lock().done.take()
    }

    /// Waits until it has nothing to do.
    pub(super) fn wait(&self) {
        let busy = |state: &mut State| state.work.is_some();
        drop(self.shared.changed.wait_while(self.shared.lock(), busy));
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().end = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's life.
    fn work_off(&self, disk: &dyn Disk) {
        loop {
            let idle = |state: &mut State| state.work.is_none() && !state.end;
            let state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            let Some(work) = state.work.clone() else { return };
            drop(state);
            let synced = sync(disk, &work);
            let mut state = self.lock();
            state.work = None;
            state.done = Some(synced);
            drop(state);
            self.changed.notify_all();
        }
    }
}

/// What became of a sync.
#[derive(Debug)]
pub(super) struct Synced {
    /// What could not be made safe.
    pub(super) left: Unsafe,
    /// The first error.
    pub(super) result: io::Result<()>,
}

/// Makes all of it safe, as far as it can be.
pub(super) fn sync(disk: &dyn Disk, work: &Unsafe) -> Synced {
    for &segment in &work.remove {
        // One that can't be removed is removed by the next run.
        let _ = disk.remove(&segment_name(segment));
    }
    let (mut left, mut result) = (Unsafe::default(), Ok(()));
    for &segment in &work.segments {
        match disk.sync(&segment_name(segment)) {
            Ok(()) => {}
            // Nobody was owed it any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                left.segments.push(segment);
                result = result.and(Err(error));
            }
        }
    }
    if work.dir {
        let synced = disk.sync_dir();
        left.dir = synced.is_err();
        result = result.and(synced);
    }
    Synced { left, result }
}
