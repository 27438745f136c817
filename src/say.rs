//! What lastword itself says on stderr: rare, one line each, prefixed, never in the app's way.
//!
//! Stderr is shared with the app's pass-through and with whoever inherited it. It may be closed, full or stopped
//! (Ctrl-S): a message waits at most [`PATIENCE_MS`] for room and is dropped then, as are the next ones, without a wait, until there is room: a stop
//! has no time for each of them. So does one for its turn, while another message hangs. No panic, no SIGPIPE (blocked in all
//! threads), no O_NONBLOCK on a description that others share: `poll` promises room for [`MAX_LEN`] bytes in a pipe.

use crate::config::one_line;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::write,
};
use std::{
    fmt,
    io::stderr,
    os::fd::AsFd,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long a message waits for room, in milliseconds.
const PATIENCE_MS: u16 = 200;

/// A message is cut here: PIPE_BUF, what a writable pipe takes without blocking.
pub(crate) const MAX_LEN: usize = 4096;

/// Messages come from several threads; one at a time keeps lines whole.
static TURN: Turn = Turn::new();

/// The last message found no room.
static STUCK: AtomicBool = AtomicBool::new(false);

/// Writes `lastword: {message}` as one line.
pub fn say(message: fmt::Arguments<'_>) {
    #[cfg(test)]
    if crate::clock::simulated::begun().is_some() {
        return crate::sim::said(message);
    }
    say_raw(line(&message.to_string()).as_bytes());
}

/// Names and answers in a message come from anywhere.
fn line(message: &str) -> String {
    format!("lastword: {}\n", one_line(message))
}

/// Writes text that is already whole lines. False if stderr did not take all of it.
pub fn say_raw(text: &[u8]) -> bool {
    let Some(_turn) = TURN.take(Duration::from_millis(PATIENCE_MS.into())) else { return false };
    let stderr = stderr();
    for piece in text.chunks(MAX_LEN) {
        let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        let patience = if STUCK.load(Ordering::Relaxed) { 0 } else { PATIENCE_MS };
        let writable = matches!(poll(&mut ready, PollTimeout::from(patience)), Ok(count) if count > 0);
        STUCK.store(!writable, Ordering::Relaxed);
        if !writable || write(stderr.as_fd(), piece).is_err() {
            return false;
        }
    }
    true
}

/// Who has it may hang in a write: stderr may be a file on a disk that does.
struct Turn {
    holder: Mutex<Holder>,
    free: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    Somebody,
    /// Somebody who was waited for in vain: nobody waits again.
    Hanging,
}

impl Turn {
    const fn new() -> Self {
        Self { holder: Mutex::new(Holder::Nobody), free: Condvar::new() }
    }

    /// None if another has it for longer than `patience`.
    fn take(&self, patience: Duration) -> Option<Taken<'_>> {
        let holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.free.wait_timeout_while(holder, patience, |holder| *holder == Holder::Somebody);
        let mut holder = waited.unwrap_or_else(PoisonError::into_inner).0;
        let is_free = *holder == Holder::Nobody;
        *holder = if is_free { Holder::Somebody } else { Holder::Hanging };
        is_free.then(|| Taken(self))
    }
}

/// A turn, until it is dropped.
struct Taken<'a>(&'a Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.holder.lock().unwrap_or_else(PoisonError::into_inner) = Holder::Nobody;
        self.0.free.notify_one();
    }
}

/// `say!("drain {name}: {reason}")`: [`say()`] with formatting.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::say::say(format_args!($($arg)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of a spool's directory, and what a RELP receiver answered, were obeyed by the terminal.
    #[test]
    fn a_message_is_one_line_whatever_a_name_in_it_holds() {
        assert_eq!(line("spool a\nb\x1b[31m: full"), "lastword: spool a\\nb\\u{1b}[31m: full\n");
    }

    #[test]
    fn whoever_hangs_in_his_turn_keeps_nobody_for_longer_than_their_patience() {
        let turn = Turn::new();
        let hangs = turn.take(Duration::ZERO);
        assert!(hangs.is_some() && turn.take(Duration::from_millis(10)).is_none());
        // Were this one waited for, the test would not end.
        assert!(turn.take(Duration::MAX).is_none());
        drop(hangs);
        assert!(turn.take(Duration::ZERO).is_some());
    }
}
