//! Events: what the threads tell the supervisor, and the bell that wakes it.
//!
//! The supervisor sleeps in `poll` on its signalfd and on this bell's eventfd. Events are few (a handful in a run, never
//! one a line), so an unbounded list under a mutex is bounded by construction: one `ReaderDone` a stream, one
//! `DrainDone` a drain.

use crate::line::Stream;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Mutex, PoisonError},
};

/// What a thread has to tell the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A reader published its last bytes: end of file, or all that was in the pipe when it was told to finish.
    ReaderDone(Stream),
    /// Our own stdout or stderr took all that it will ever take.
    PassthroughDone(Stream),
    /// The drain with this index has closed its books by itself: nothing is pending, or it died.
    DrainDone(usize),
}

/// Carries [`Event`]s to the supervisor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bell {
    fd: Arc<EventFd>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Bell {
    /// # Errors
    /// If the kernel has no descriptor left.
    pub fn new() -> nix::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self { fd: Arc::new(EventFd::from_flags(flags)?), events: Arc::default() })
    }

    /// Leaves an event and wakes the supervisor.
    pub fn ring(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        // The counter cannot overflow with a handful of events; a full one would still leave the fd readable.
        let _ = self.fd.write(1);
    }

    /// Takes what was left since the last call, and silences the bell.
    pub fn take(&self) -> Vec<Event> {
        let _ = self.fd.read();
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Readable while an event waits.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
