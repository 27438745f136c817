//! What lastword itself says on stderr: rare, one line each, prefixed, never in the app's way.
//!
//! Stderr is shared with the app's pass-through and with whoever inherited it. It may be closed, full or stopped
//! (Ctrl-S): a message waits at most [`PATIENCE_MS`] for room and is dropped then, as are the next ones, without a wait, until there is room: a stop
//! has no time for each of them. No panic, no SIGPIPE (blocked in all
//! threads), no O_NONBLOCK on a description that others share: `poll` promises room for [`MAX_LEN`] bytes in a pipe.

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::write,
};
use std::{
    fmt,
    io::stderr,
    os::fd::AsFd,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// How long a message waits for room, in milliseconds.
const PATIENCE_MS: u16 = 200;

/// A message is cut here: PIPE_BUF, what a writable pipe takes without blocking.
const MAX_LEN: usize = 4096;

/// Messages come from several threads; one at a time keeps lines whole.
static TURN: Mutex<()> = Mutex::new(());

/// The last message found no room.
static STUCK: AtomicBool = AtomicBool::new(false);

/// Writes `lastword: {message}` as one line.
pub fn say(message: fmt::Arguments<'_>) {
    #[cfg(test)]
    if crate::clock::simulated::begun().is_some() {
        return crate::sim::said(message);
    }
    say_raw(format!("lastword: {message}\n").as_bytes());
}

/// Writes text that is already whole lines. False if stderr did not take all of it.
pub fn say_raw(text: &[u8]) -> bool {
    let _turn = TURN.lock();
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

/// `say!("drain {name}: {reason}")`: [`say()`] with formatting.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::say::say(format_args!($($arg)*)) };
}
