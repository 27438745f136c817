//! The far end of a connection: its kernel, and its application.

use super::{AGE, FITS, Shared, State, USER_TIMEOUT};
use crate::sim::{trace, weather::Fault};
use rand::RngExt;
use std::{io::ErrorKind, rc::Rc, time::Duration};
use tokio::time::Instant;

impl State {
    pub(super) fn is_over(&self) -> bool {
        self.gone || self.broken.is_some() || self.their_end.is_some()
    }

    fn idle(&self) -> bool {
        self.ours.is_empty() && !self.our_end && (self.theirs.is_empty() || self.host_gone)
    }

    /// Our kernel's bytes go over, as far as there is room.
    pub(super) fn carry(&mut self, most: usize) {
        let count = self.ours.len().min(self.theirs_size.saturating_sub(self.theirs.len())).min(most);
        if count > 0 {
            let (front, back) = self.ours.as_slices();
            let first = count.min(front.len());
            self.theirs.extend_from_slice(&front[..first]);
            self.theirs.extend_from_slice(&back[..count - first]);
            self.ours.drain(..count);
            self.acked += count as u64;
            self.ages.push_back((count, Instant::now()));
        }
        if count > 0 || self.ours.is_empty() {
            self.moved = Instant::now();
        }
    }

    /// The application reads.
    pub(super) fn read(&mut self, most: usize) {
        let count = self.theirs.len().min(most);
        self.torn.extend_from_slice(&self.theirs[..count]);
        self.theirs.drain(..count);
        let mut left = count;
        while let Some((bytes, _)) = self.ages.front_mut().filter(|_| left > 0) {
            let part = left.min(*bytes);
            (*bytes, left) = (*bytes - part, left - part);
            if *bytes == 0 {
                self.ages.pop_front();
            }
        }
        let read = self.receiver.borrow_mut().read(&self.torn);
        self.torn.drain(..read);
    }

    /// The application dies with what it has not read. What of it is too old for the replay window is the documented gap.
    fn dies(&mut self) {
        let now = Instant::now();
        let old: usize =
            self.ages.iter().filter(|(_, at)| now.duration_since(*at) + AGE / 50 >= AGE).map(|it| it.0).sum();
        if old > 0 {
            let lost = [&self.torn[..], &self.theirs[..old]].concat();
            self.receiver.borrow_mut().forgive(&lost);
            self.weather.borrow().seen.borrow_mut().hit("the documented gap of plain TCP");
        }
        self.theirs.clear();
        self.ages.clear();
        self.torn.clear();
        self.receiver.borrow_mut().may_repeat();
    }

    /// One step of the far end, which has something to do.
    fn step(&mut self) {
        let fault = self.weather.borrow_mut().look(FITS);
        if let Some(fault) = fault {
            trace(|| format!("{}: {fault:?}", self.receiver.borrow().name));
        }
        let random = |state: &Self, most: usize| state.weather.borrow_mut().rng.random_range(0..=most);
        if self.host_gone && self.weather.borrow().is_quiet() {
            // It is there again, and knows nothing of the connection.
            self.broken = Some(ErrorKind::ConnectionReset);
            return;
        }
        if self.host_gone {
            return self.give_up();
        }
        match fault {
            Some(Fault::ResetBefore) => {
                self.dies();
                self.broken = Some(ErrorKind::ConnectionReset);
            }
            Some(Fault::ResetAfter) => {
                let some = random(self, self.ours.len());
                self.carry(some);
                let some = random(self, self.theirs.len());
                self.read(some);
                self.dies();
                self.broken = Some(ErrorKind::ConnectionReset);
            }
            Some(Fault::Cut) => {
                self.carry(usize::MAX);
                let some = random(self, self.theirs.len());
                self.read(some);
                if self.tls && self.our_end {
                    // All is acknowledged, and nothing more will come: that is what *accepted* means at an exit.
                    self.ages.iter_mut().for_each(|(_, at)| *at -= AGE);
                }
                self.dies();
                if self.tls {
                    self.their_end = Some(false);
                } else {
                    self.broken = Some(ErrorKind::ConnectionReset);
                }
            }
            Some(Fault::HalfOpen) => {
                let some = random(self, self.ours.len());
                self.carry(some);
                // A machine that stops: what its kernel has, its application never reads, and nobody says so.
                self.ages.iter_mut().for_each(|(_, at)| *at -= AGE);
                self.dies();
                self.host_gone = true;
            }
            Some(Fault::Close) => {
                self.read(usize::MAX);
                self.receiver.borrow_mut().may_repeat();
                self.torn.clear();
                self.their_end = Some(true);
            }
            Some(Fault::BlackHole) => self.give_up(),
            Some(Fault::Stall) => {
                self.carry(usize::MAX);
                self.give_up();
            }
            Some(Fault::Slow) => {
                self.carry(usize::MAX);
                self.read(1);
                self.give_up();
            }
            _ => {
                self.carry(usize::MAX);
                let most = self.theirs.len();
                let count = if random(self, 3) == 0 { random(self, most) } else { most };
                self.read(count);
                if self.our_end && self.ours.is_empty() && self.theirs.is_empty() {
                    self.their_end = Some(true);
                }
            }
        }
    }

    /// Nothing came of it for a while: does our kernel's patience end?
    fn give_up(&mut self) {
        if self.ours.is_empty() && !self.our_end {
            self.moved = Instant::now();
        }
        if self.moved.elapsed() >= USER_TIMEOUT {
            self.dies();
            self.broken = Some(ErrorKind::TimedOut);
        }
    }
}

/// The far end.
pub(super) async fn peer(shared: Rc<Shared>) {
    loop {
        if shared.state.borrow().is_over() {
            return;
        }
        if shared.state.borrow().idle() {
            shared.peer.notified().await;
            continue;
        }
        let slow = {
            let state = shared.state.borrow();
            let weather = state.weather.borrow();
            !weather.is_quiet() && (state.host_gone || state.moved.elapsed() > Duration::from_millis(100))
        };
        let most = if slow { 1000 } else { 6 };
        let pause = shared.state.borrow().weather.borrow_mut().rng.random_range(most / 2..=most);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if shared.state.borrow().is_over() {
            return;
        }
        shared.state.borrow_mut().step();
        shared.client.notify_waiters();
    }
}
