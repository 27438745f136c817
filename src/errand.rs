//! Errands: what may hang for ever (a write to a network disk), done on a thread of its own and waited for a bounded time.
//!
//! A thread that hangs in the kernel does not keep the process from exiting, unless the kernel itself does not let it go
//! (D state), which a SIGKILL does not change either.

use std::{
    io,
    sync::mpsc::{Receiver, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long an errand is waited for without a sign of life, at the start and at the exit.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Something that is being done.
pub(crate) struct Errand<T> {
    answer: Receiver<T>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> Errand<T> {
    /// Begins `task`. `name` is the thread's, at most 15 bytes.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn start(name: &str, task: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        let (tell, answer) = sync_channel(1);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Nobody may be waiting any more.
            let _ = tell.send(task());
        })?;
        Ok(Self { answer, thread })
    }

    /// What came of it; None if it is not done within `limit`. It can be waited for again.
    pub(crate) fn wait(&self, limit: Duration) -> Option<T> {
        self.answer.recv_timeout(limit).ok()
    }
}

/// What comes of a question that may hang; None if it does not come within `limit`. When it has come, the thread that asked is gone,
/// too: before the app is started there must be one thread alone, or others that do nothing.
pub(crate) fn ask<T: Send + 'static>(limit: Duration, question: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let errand = Errand::start("ask", question).ok()?;
    let found = errand.wait(limit)?;
    let _ = errand.thread.join();
    Some(found)
}

/// Why a file is not known that was waited for.
pub(crate) fn hangs() -> String {
    format!("its disk does not answer within {} s", PATIENCE.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_hangs_is_not_waited_for_beyond_its_limit() {
        let (_release, released) = sync_channel::<u8>(0);
        assert_eq!(ask(Duration::from_millis(10), move || released.recv().ok()), None);
        assert_eq!(ask(Duration::from_secs(30), || 7), Some(7));
    }

    #[test]
    fn an_errand_that_hangs_is_left_alone_and_one_that_is_done_says_what_came_of_it() {
        let (release, released) = sync_channel::<u8>(0);
        let errand = Errand::start("test", move || released.recv().unwrap()).unwrap();
        assert_eq!(errand.wait(Duration::from_millis(10)), None);
        release.send(7).unwrap();
        assert_eq!(errand.wait(Duration::from_secs(30)), Some(7));
        assert_eq!(errand.wait(Duration::from_secs(30)), None, "there is nothing more to wait for");
    }
}
