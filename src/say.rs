//! What lastword itself says on stderr: rare, one line each, prefixed, in nobody's way.
//!
//! Stderr is shared with the app's pass-through and with whoever inherited it. It may be closed, full, stopped (Ctrl-S), or a
//! file on a disk that hangs, and who says something never waits for it: what a pipe takes without waiting is written at once
//! (RWF_NOWAIT: a promise of the kernel). For the rest there is a thread, for which words wait, at most [`ROOM`] bytes of them.
//! What is too much, the oldest first, or can't be written, is counted, and the count stands in its place once stderr takes
//! something again. At the exit [`flush`] waits for a bounded time. No panic, no SIGPIPE (blocked or ignored in all threads), no
//! O_NONBLOCK on a description that others share.
//!
//! The thread begins with the first words that need it: none may be said before the canary is forked.

use crate::{config::one_line, sys};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SigSet, SigmaskHow},
    unistd::write,
};
use std::{
    collections::VecDeque,
    fmt,
    io::{self, stderr},
    os::fd::AsFd,
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

/// A piece of text is at most this long: PIPE_BUF, what a writable pipe takes without blocking.
pub(crate) const MAX_LEN: usize = 4096;

/// Bytes of words that wait for a stderr that takes nothing.
const ROOM: usize = 64 << 10;

/// How long [`say_here`] waits for room, in milliseconds.
const PATIENCE_MS: u16 = 200;

static WORDS: Words = Words::new();

/// Whoever writes has it, so that lines stay whole. It may hang then, and so does who waits for it.
static TURN: Mutex<()> = Mutex::new(());

/// Says `lastword: {message}` as one line.
pub fn say(message: fmt::Arguments<'_>) {
    #[cfg(test)]
    if heard::by_a_test(message) {
        return;
    }
    #[cfg(test)]
    if crate::clock::simulated::begun().is_some() {
        return crate::sim::said(message);
    }
    hand_over(line(&message.to_string()).into_bytes());
}

/// Names and answers in a message come from anywhere.
fn line(message: &str) -> String {
    format!("lastword: {}\n", one_line(message))
}

/// Waits until all that was said is written, but not beyond `limit`. False if it is not.
pub fn flush(limit: Duration) -> bool {
    WORDS.flush(limit)
}

/// Writes text that is already whole lines, here and now: for errands, which may hang. False if stderr did not take all of it.
pub(crate) fn say_here(text: &[u8]) -> bool {
    write_all(text, PollTimeout::from(PATIENCE_MS))
}

/// Takes whole lines, each with one `write`, and says them as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines;

impl io::Write for Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        hand_over(text.to_vec());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hand_over(text: Vec<u8>) {
    static RUNS: OnceLock<bool> = OnceLock::new();
    let is_written = WORDS.hand(text, write_now);
    if !is_written && !*RUNS.get_or_init(|| start().is_ok()) {
        // A system that has no thread left is worth a word.
        while let Some(words) = WORDS.pop() {
            say_here(&words);
        }
    }
}

/// How many bytes were written; none if somebody else is writing.
fn write_now(text: &[u8]) -> usize {
    match TURN.try_lock() {
        Ok(_turn) => sys::write_now(stderr().as_fd(), text).unwrap_or(0),
        Err(_) => 0,
    }
}

fn start() -> io::Result<()> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let started =
        thread::Builder::new().name("words".into()).spawn(|| WORDS.work_off(|text| write_all(text, PollTimeout::NONE)));
    before.thread_set_mask()?;
    started.map(drop)
}

/// False if there was no room for some of it within `patience`, or it can't be written.
fn write_all(mut text: &[u8], patience: PollTimeout) -> bool {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let stderr = stderr();
    while !text.is_empty() {
        match poll(&mut [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)], patience) {
            Ok(1..) => {}
            Err(Errno::EINTR) => continue,
            _ => return false,
        }
        match write(stderr.as_fd(), &text[..text.len().min(MAX_LEN)]) {
            Ok(count) => text = &text[count..],
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => return false,
        }
    }
    true
}

/// What was said and is not written yet.
struct Words {
    state: Mutex<State>,
    /// Wakes the thread.
    handed: Condvar,
    /// Wakes who waits for the thread.
    idle: Condvar,
}

struct State {
    waiting: VecDeque<Vec<u8>>,
    /// Their length.
    bytes: usize,
    /// The thread has some in hand.
    is_writing: bool,
    /// Messages that are missing before the first that waits.
    lost: u64,
}

impl Words {
    const fn new() -> Self {
        let state = State { waiting: VecDeque::new(), bytes: 0, is_writing: false, lost: 0 };
        Self { state: Mutex::new(state), handed: Condvar::new(), idle: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives `write_now` what it takes, if nothing waits before it, and the thread the rest. True if there is none.
    fn hand(&self, mut words: Vec<u8>, write_now: impl FnOnce(&[u8]) -> usize) -> bool {
        let mut state = self.lock();
        if state.is_idle() && state.lost == 0 {
            words.drain(..write_now(&words));
            if words.is_empty() {
                return true;
            }
        }
        state.bytes += words.len();
        state.waiting.push_back(words);
        // The newest matter most: the last one is the account.
        while state.bytes > ROOM && state.pop().is_some() {
            state.lost += 1;
        }
        self.handed.notify_one();
        false
    }

    fn pop(&self) -> Option<Vec<u8>> {
        self.lock().pop()
    }

    /// The thread: hands each message to `write`, which says whether it was taken.
    fn work_off(&self, mut write: impl FnMut(&[u8]) -> bool) {
        loop {
            let (words, lost) = self.take();
            let is_said = lost == 0 || write(missing(lost).as_bytes());
            let is_written = write(&words);
            let mut state = self.lock();
            state.is_writing = false;
            state.lost += if is_said { 0 } else { lost } + u64::from(!is_written);
            self.idle.notify_all();
        }
    }

    /// The next message, and how many are missing before it.
    fn take(&self) -> (Vec<u8>, u64) {
        let mut state = self.lock();
        loop {
            if let Some(words) = state.pop() {
                state.is_writing = true;
                return (words, std::mem::take(&mut state.lost));
            }
            state = self.handed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn flush(&self, limit: Duration) -> bool {
        let waited = self.idle.wait_timeout_while(self.lock(), limit, |state| !state.is_idle());
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl State {
    fn is_idle(&self) -> bool {
        !self.is_writing && self.waiting.is_empty()
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let words = self.waiting.pop_front()?;
        self.bytes -= words.len();
        Some(words)
    }
}

fn missing(messages: u64) -> String {
    format!("lastword: messages missing here, for stderr did not take them: {messages}\n")
}

/// `say!("drain {name}: {reason}")`: [`say()`] with formatting.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::say::say(format_args!($($arg)*)) };
}

#[cfg(test)]
pub(crate) mod heard {
    //! A test that wants to know what its own thread says.

    use std::{cell::RefCell, fmt};

    thread_local! {
        static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
    }

    /// What this thread says meanwhile, which goes nowhere else.
    pub(crate) fn during(act: impl FnOnce()) -> Vec<String> {
        HEARD.set(Some(Vec::new()));
        act();
        HEARD.take().unwrap_or_default()
    }

    pub(super) fn by_a_test(message: fmt::Arguments<'_>) -> bool {
        HEARD.with_borrow_mut(|heard| heard.as_mut().map(|heard| heard.push(message.to_string()))).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const LONG: Duration = Duration::from_secs(30);

    /// A stderr that hangs in each write until it is told whether to take it.
    struct Stderr {
        words: &'static Words,
        begun: Receiver<String>,
        tell: Sender<bool>,
    }

    impl Stderr {
        fn new() -> Self {
            let words: &'static Words = Box::leak(Box::new(Words::new()));
            let (begin, begun) = channel();
            let (tell, told) = channel();
            thread::spawn(move || {
                words.work_off(|text| {
                    // Whoever listened may be gone: the test is over.
                    let _ = begin.send(String::from_utf8_lossy(text).into_owned());
                    told.recv().unwrap_or(false)
                });
            });
            Self { words, begun, tell }
        }

        fn say(&self, text: &str) {
            assert!(!self.words.hand(text.as_bytes().to_vec(), |_| 0));
        }

        fn hangs_in(&self, text: &str) {
            assert_eq!(self.begun.recv_timeout(LONG).unwrap(), text);
        }

        fn writes(&self, text: &str, takes: bool) {
            self.hangs_in(text);
            self.tell.send(takes).unwrap();
        }
    }

    /// The name of a spool's directory, and what a RELP receiver answered, were obeyed by the terminal.
    #[test]
    fn a_message_is_one_line_whatever_a_name_in_it_holds() {
        assert_eq!(line("spool a\nb\x1b[31m: full"), "lastword: spool a\\nb\\u{1b}[31m: full\n");
    }

    #[test]
    fn who_says_something_waits_for_no_stderr_that_hangs_and_the_exit_for_a_bounded_time() {
        let stderr = Stderr::new();
        stderr.say("one");
        stderr.hangs_in("one");
        // Were any of it waited for, the test would not end.
        stderr.say("two");
        assert!(!stderr.words.flush(Duration::from_millis(10)));
        stderr.tell.send(true).unwrap();
        stderr.writes("two", true);
        assert!(stderr.words.flush(LONG));
    }

    #[test]
    fn the_newest_words_wait_and_how_many_are_missing_is_said_in_their_place() {
        let stderr = Stderr::new();
        stderr.say("first");
        stderr.hangs_in("first");
        let quarter = |digit: &str| digit.repeat(ROOM / 4);
        "123456".matches(char::is_numeric).for_each(|digit| stderr.say(&quarter(digit)));
        stderr.tell.send(true).unwrap();
        stderr.writes(&missing(2), true);
        "3456".matches(char::is_numeric).for_each(|digit| stderr.writes(&quarter(digit), true));
        assert!(stderr.words.flush(LONG));
        stderr.say(&"x".repeat(ROOM + 1));
        stderr.say("fits");
        stderr.writes(&missing(1), true);
        stderr.writes("fits", true);
    }

    #[test]
    fn what_is_written_at_once_comes_behind_all_that_waits_and_what_is_missing_is_said_first() {
        let stderr = Stderr::new();
        let takes = |text: &str, count| stderr.words.hand(text.as_bytes().to_vec(), |_| count);
        assert!(takes("one", 3));
        assert!(!takes("two", 1));
        stderr.hangs_in("wo");
        assert!(!takes("three", 5), "it would stand within the second");
        stderr.tell.send(true).unwrap();
        stderr.writes("three", false);
        assert!(stderr.words.flush(LONG));
        assert!(!takes("four", 4));
        stderr.writes(&missing(1), true);
        stderr.writes("four", true);
        assert!(stderr.words.flush(LONG));
        assert!(takes("five", 4));
    }

    #[test]
    fn what_a_full_disk_did_not_take_is_counted_until_it_takes_something() {
        let stderr = Stderr::new();
        stderr.say("one");
        stderr.writes("one", false);
        stderr.say("two");
        stderr.writes(&missing(1), false);
        stderr.writes("two", false);
        stderr.say("three");
        stderr.writes(&missing(2), true);
        stderr.writes("three", true);
        stderr.say("four");
        stderr.writes("four", true);
    }
}
