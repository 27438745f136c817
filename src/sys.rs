//! The only unsafe: calls that no crate offers safely, each behind a function that is.
//!
//! `nix` knows signals 1 to 31 alone, but the real-time ones are relayed and end apps too: hence numbers here.

#![expect(unsafe_code, reason = "the one file that may")]

use nix::{
    errno::Errno,
    libc,
    sys::signal::{SigSet, SigmaskHow},
};
use std::{
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

/// What `waitpid` has to tell of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It exited with this code.
    Exited(i32, u8),
    /// This signal ended it.
    Signaled(i32, i32),
    /// This signal stopped it; it lives.
    Stopped(i32, i32),
    /// Children live, none has news.
    Nothing,
    /// There are no children.
    NoChildren,
}

/// Asks for news of any child, without waiting. Reaps the child if it ended.
pub(crate) fn wait_any() -> Wait {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the status; the call keeps no pointer.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
        return match pid {
            0 => Wait::Nothing,
            -1 if Errno::last() == Errno::EINTR => continue,
            -1 => Wait::NoChildren,
            pid if libc::WIFEXITED(status) => {
                Wait::Exited(pid, u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
            }
            pid if libc::WIFSIGNALED(status) => Wait::Signaled(pid, libc::WTERMSIG(status)),
            pid if libc::WIFSTOPPED(status) => Wait::Stopped(pid, libc::WSTOPSIG(status)),
            // Continued is not asked for; whatever else comes is no end.
            _ => continue,
        };
    }
}

/// Whether there are children at all, dead or alive. Reaps none.
pub(crate) fn has_children() -> bool {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is a valid place for the answer, which nobody reads; the call keeps no pointer.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) };
    Errno::result(result) != Err(Errno::ECHILD)
}

/// Sends a signal by number, real-time ones included.
///
/// # Errors
/// ESRCH, EPERM, EINVAL as kill(2) has them.
pub(crate) fn kill(pid: i32, signal: i32) -> nix::Result<()> {
    // SAFETY: plain values in, nothing shared.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// A descriptor that names a process for ever, though its number be reused.
///
/// # Errors
/// ESRCH if there is no such process, ENOSYS before Linux 5.3, EPERM under some sandboxes.
pub(crate) fn pidfd_open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: plain values in; the kernel returns a fresh descriptor (close-on-exec) or -1.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the descriptor is fresh, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the very process that `pidfd` names.
///
/// # Errors
/// ESRCH once it was reaped, EPERM, EINVAL.
pub(crate) fn pidfd_send_signal(pidfd: &OwnedFd, signal: i32) -> nix::Result<()> {
    let no_info: *const libc::siginfo_t = ptr::null();
    // SAFETY: the descriptor is open for the call; a null siginfo means that of kill(2).
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    Errno::result(result).map(drop)
}

/// Whether a signal's disposition is "ignore". False for signals that the C library keeps to itself.
pub(crate) fn is_ignored(signal: i32) -> bool {
    let mut old = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null `act` only asks; `old` is a valid place for the answer, and zeroes are a valid value of it.
    let (result, old) = unsafe { (libc::sigaction(signal, ptr::null(), old.as_mut_ptr()), old.assume_init()) };
    result == 0 && old.sa_sigaction == libc::SIG_IGN
}

/// Sets a signal's disposition to "ignore" or the default. Errors (KILL, STOP) change nothing. Async-signal-safe.
pub(crate) fn set_ignored(signal: i32, ignored: bool) {
    // SAFETY: no handler is installed, only the two constants; the structure is fully set by zeroes and one field.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
        libc::sigaction(signal, &raw const action, ptr::null_mut());
    }
}

/// Whether SIGPIPE was ignored when we were started. Rust's runtime ignores it before `main`, hence the look before that.
pub(crate) fn pipe_was_ignored() -> bool {
    PIPE_WAS_IGNORED.load(Ordering::Relaxed)
}

static PIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

// SAFETY: the section holds functions that the C library calls once, on the only thread, before `main`. This one makes
// a system call and a store, and relies on nothing that the Rust runtime sets up later.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK_BEFORE_MAIN: extern "C" fn() = look_before_main;

extern "C" fn look_before_main() {
    PIPE_WAS_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
}

/// The first real-time signal that the C library leaves to programs.
pub(crate) fn first_realtime() -> i32 {
    libc::SIGRTMIN()
}

/// Gives the child the signal mask and the ignored signals that we were started with.
pub(crate) fn restore_signals(command: &mut Command, mask: SigSet, ignored: Vec<i32>) {
    let restore = move || {
        for &signal in &ignored {
            set_ignored(signal, true);
        }
        nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; sigaction and sigprocmask are, and
    // nothing is allocated or locked. `Command` resets SIGPIPE and empties the mask before this, so it has the last word.
    unsafe { command.pre_exec(restore) };
}

mod ioctl {
    nix::ioctl_read_bad!(fionread, nix::libc::FIONREAD, nix::libc::c_int);
}

/// Bytes that a read would find now (FIONREAD); 0 where the kernel will not say.
pub(crate) fn bytes_readable(fd: BorrowedFd<'_>) -> usize {
    let mut count = 0;
    // SAFETY: FIONREAD writes one int, and `count` is one.
    match unsafe { ioctl::fionread(fd.as_raw_fd(), &raw mut count) } {
        Ok(_) => usize::try_from(count).unwrap_or(0),
        Err(_) => 0,
    }
}

/// Lets this thread's short sleeps be short: the kernel's default slack would double a nap of 50 µs.
pub(crate) fn set_fine_timers() {
    let _ = nix::sys::prctl::set_timerslack(1000);
}
