//! The gate between those who publish and the one who sends: what they share, under one lock, and who wakes whom.
//!
//! Invariants, whatever the order of the steps (`tests/loom` tries them all):
//! - the sender arms the gate under the lock under which it found nothing to do, so a push or an order that it did not
//!   see rings its bell, and the bell keeps a ring until it is heard;
//! - a publisher that waits is counted under the lock under which it found no room, so whoever makes room sees that it
//!   has to wake it.
//!
//! Nothing here knows what is shared, or an async runtime.

use crate::sync::{Condvar, Mutex, MutexGuard};
use std::{
    ops::{Deref, DerefMut},
    sync::PoisonError,
    time::Duration,
};

/// The sender is not to be woken by pushes at all.
pub(crate) const NEVER: usize = usize::MAX;

/// Wakes the sender. A ring that nobody waits for is kept for the next wait; several count as one.
pub(crate) trait Bell {
    /// Never blocks.
    fn ring(&self);
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate<S, B> {
    gated: Mutex<Gated<S>>,
    bell: B,
    room: Condvar,
}

/// What the lock protects: what is shared, and who waits for what.
#[derive(Debug)]
pub(crate) struct Gated<S> {
    shared: S,
    /// How much must be ready for a push to ring.
    wake_at: usize,
    publishers_waiting: usize,
}

impl<S> Gated<S> {
    /// Sets how much must be ready for a push to ring. Called with the lock, before the wait for the bell.
    pub(crate) fn arm(&mut self, wake_at: usize) {
        self.wake_at = wake_at;
    }

    /// Publishers that wait for room.
    #[cfg(test)]
    pub(crate) fn publishers_waiting(&self) -> usize {
        self.publishers_waiting
    }
}

impl<S> Deref for Gated<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.shared
    }
}

impl<S> DerefMut for Gated<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.shared
    }
}

impl<S, B: Bell> Gate<S, B> {
    pub(crate) fn new(shared: S, bell: B) -> Self {
        let gated = Gated { shared, wake_at: NEVER, publishers_waiting: 0 };
        Self { gated: Mutex::new(gated), bell, room: Condvar::new() }
    }

    /// What is shared. A thread that panicked with the lock has died as a drain; the books stay readable.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Gated<S>> {
        self.gated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bell(&self) -> &B {
        &self.bell
    }

    /// Publishes: `change` says how much is ready now.
    pub(crate) fn push(&self, change: impl FnOnce(&mut S) -> usize) {
        let mut gated = self.lock();
        if change(&mut gated.shared) >= gated.wake_at {
            gated.wake_at = NEVER;
            drop(gated);
            self.bell.ring();
        }
    }

    /// Gives an order, and wakes whoever waits for one.
    pub(crate) fn order(&self, change: impl FnOnce(&mut S)) {
        change(&mut self.lock().shared);
        self.bell.ring();
        self.room.notify_all();
    }

    /// Lets publishers that wait look again, after a change that may have made room.
    pub(crate) fn let_in(&self, gated: MutexGuard<'_, Gated<S>>) {
        let waiting = gated.publishers_waiting > 0;
        drop(gated);
        if waiting {
            self.room.notify_all();
        }
    }

    /// Waits until `admits`, or, once it waited, until no time is `left` (None: as long as it takes).
    pub(crate) fn wait(&self, mut admits: impl FnMut(&mut S) -> bool, left: impl Fn(&S) -> Option<Duration>) {
        let mut gated = self.lock();
        while !admits(&mut gated.shared) {
            gated.publishers_waiting += 1;
            gated = match left(&gated.shared) {
                None => self.room.wait(gated).unwrap_or_else(PoisonError::into_inner),
                Some(left) => self.room.wait_timeout(gated, left).unwrap_or_else(PoisonError::into_inner).0,
            };
            gated.publishers_waiting -= 1;
            if left(&gated.shared).is_some_and(|left| left.is_zero()) {
                return;
            }
        }
    }
}
