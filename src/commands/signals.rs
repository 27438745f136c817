//! Signals of the small commands: blocked, and read as values by a thread of their own.
//!
//! The main command has `supervisor` for this; these commands wait for channels, so their signals come as messages, too.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use std::process::{Child, Command};

/// What a person or a platform sends to end a command.
pub(crate) const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Blocks `signals` in this thread and in those that it starts from now on.
pub(crate) fn block(signals: impl IntoIterator<Item = Signal>) -> nix::Result<SigSet> {
    let set = signals.into_iter().collect::<SigSet>();
    set.thread_block()?;
    Ok(set)
}

/// Blocks the ending signals and hands each one to `receive`, on a thread that lives until the process ends. Call it
/// before any thread is started, so that no thread has them open.
pub(crate) fn forward(receive: impl Fn(Signal) + Send + 'static) -> std::io::Result<()> {
    let set = block(ENDING)?;
    let wait = move || {
        while let Ok(signal) = set.wait() {
            receive(signal);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}

/// Spawns with no signal blocked in the child: a child inherits the mask of the thread that spawns it, and a shell that
/// has SIGTERM blocked could not be stopped. For that moment this thread has them open, too: a SIGCHLD may pass unseen.
pub(crate) fn spawn_unblocked(command: &mut Command) -> std::io::Result<Child> {
    let before = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let child = command.spawn();
    before.thread_set_mask()?;
    child
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_child_can_be_stopped_though_its_parent_blocks_the_signal() {
        block([Signal::SIGTERM]).unwrap();
        let mut child = spawn_unblocked(Command::new("sh").args(["-c", "kill -TERM $$; exit 3"])).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(15));
        let mut child = Command::new("sh").args(["-c", "kill -TERM $$; exit 3"]).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3), "without it, the mask is inherited");
    }
}
