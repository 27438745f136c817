//! The only unsafe: calls that no crate offers safely, each behind a function that is.
//!
//! `nix` knows signals 1 to 31 alone, but the real-time ones are relayed and end apps too: hence numbers here.

#![expect(unsafe_code, reason = "the one file that may")]

use crate::signals::Sender;
use nix::{
    errno::Errno,
    libc,
    sys::signal::{SigSet, SigmaskHow},
};
use std::{
    ffi::OsString,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStringExt, process::CommandExt},
    },
    process::Command,
    ptr,
    sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering},
    time::Duration,
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

/// What a child that ended has used, with the children that it waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// User and system time.
    pub(crate) cpu: Duration,
    /// Largest resident set of any of them, in KiB.
    pub(crate) max_rss_kib: u64,
    /// The kernel wrote a core file.
    pub(crate) core: bool,
}

impl Spent {
    fn new(usage: &libc::rusage, status: i32) -> Self {
        let time = |time: libc::timeval| {
            let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
            seconds + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
        };
        Self {
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
            core: libc::WIFSIGNALED(status) && libc::WCOREDUMP(status),
        }
    }
}

/// Asks for news of any child, without waiting. Reaps the child if it ended, and says what it used.
pub(crate) fn wait_any() -> (Wait, Spent) {
    loop {
        let mut status = 0;
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: `status` and `usage` are valid places for the answers; the call keeps no pointer. Zeroes are a valid
        // value of `usage`, should the kernel leave it alone.
        let (pid, usage) = unsafe {
            let options = libc::WNOHANG | libc::WUNTRACED;
            (libc::wait4(-1, &raw mut status, options, usage.as_mut_ptr()), usage.assume_init())
        };
        let wait = match pid {
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
        return (wait, Spent::new(&usage, status));
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
static LOOK_BEFORE_MAIN: extern "C" fn(libc::c_int, *mut *mut libc::c_char) = look_before_main;

static ARGUMENT_COUNT: AtomicI32 = AtomicI32::new(0);
static ARGUMENTS: AtomicPtr<*mut libc::c_char> = AtomicPtr::new(ptr::null_mut());

extern "C" fn look_before_main(count: libc::c_int, arguments: *mut *mut libc::c_char) {
    // glibc passes these to such functions, static or not; the standard library relies on it too.
    ARGUMENT_COUNT.store(count, Ordering::Relaxed);
    ARGUMENTS.store(arguments, Ordering::Relaxed);
    PIPE_WAS_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
}

/// The first real-time signal that the C library leaves to programs.
pub(crate) fn first_realtime() -> i32 {
    libc::SIGRTMIN()
}

/// Forks a child whose end sends no signal and that `waitpid` overlooks, unless it is asked with `__WALL`. In the child,
/// runs `child`, and exits with 0 when it returns. Returns the child's number.
///
/// To be called while there is one thread: the child gets a copy of that one alone, and with more, a lock that another
/// thread held would stay locked in it.
///
/// # Errors
/// EAGAIN, ENOMEM as fork(2) has them.
pub(crate) fn fork_unseen(child: impl FnOnce()) -> nix::Result<i32> {
    // SAFETY: with all arguments zero this is fork(2) with exit signal 0, on every architecture whatever its order of
    // arguments: no stack, no shared memory. The caller has one thread, so that the child may go on as any program.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) })?;
    if pid == 0 {
        child();
        // SAFETY: ends the process at once; nothing of the parent's is flushed or run a second time.
        unsafe { libc::_exit(0) };
    }
    i32::try_from(pid).map_err(|_| Errno::ERANGE)
}

/// Reaps a child of [`fork_unseen`] that is about to end, and waits for that.
pub(crate) fn reap_unseen(pid: i32) {
    // SAFETY: a null status is not written to; the call keeps no pointer.
    unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) };
}

/// Whether a descriptor is open and stays so over an exec.
pub(crate) fn is_handed_on(fd: i32) -> bool {
    // SAFETY: plain values in and out; a number that is no descriptor is an error.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Closes every descriptor of this process but `kept`, also those that Rust values own: for a child that has its own
/// copy of the table and uses none of these values again.
pub(crate) fn close_all_but(kept: BorrowedFd<'_>) {
    let kept = kept.as_raw_fd().unsigned_abs();
    let close = |first: u32, last: u32| {
        // SAFETY: closing is safe for memory; the caller promises that nobody uses the values that own these.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } != 0 {
            // Before Linux 5.9.
            for fd in first..=last.min(65_535) {
                // SAFETY: as above.
                unsafe { libc::close(fd.cast_signed()) };
            }
        }
    };
    if let Some(below) = kept.checked_sub(1) {
        close(0, below);
    }
    close(kept + 1, u32::MAX >> 1);
}

/// Gives this process another name, for people who look at lists of processes.
pub(crate) fn rename(name: &std::ffi::CStr) {
    let _ = nix::sys::prctl::set_name(name);
    let (count, arguments) = (ARGUMENT_COUNT.load(Ordering::Relaxed), ARGUMENTS.load(Ordering::Relaxed));
    let Ok(count) = usize::try_from(count) else { return };
    if arguments.is_null() || count == 0 {
        return;
    }
    // SAFETY: the kernel put `count` strings behind `arguments` and one behind the other into memory that is ours to
    // write. Written is from the first to the end of the last that lies where the one before ends. Nobody reads them
    // meanwhile: the caller has one thread and has taken its arguments.
    unsafe {
        let start = (*arguments).cast::<u8>();
        let mut length = 0;
        for at in 0..count {
            let argument = (*arguments.add(at)).cast::<u8>();
            if argument != start.add(length) {
                break;
            }
            length += libc::strlen(argument.cast()) + 1;
        }
        ptr::write_bytes(start, 0, length);
        let name = name.to_bytes();
        ptr::copy_nonoverlapping(name.as_ptr(), start, name.len().min(length.saturating_sub(1)));
    }
}

/// The signals that wait for this process.
pub(crate) fn pending() -> SigSet {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is a valid place for the answer, and zeroes are a valid value of it.
    unsafe {
        libc::sigpending(set.as_mut_ptr());
        SigSet::from_sigset_t_unchecked(set.assume_init())
    }
}

/// Takes a signal from those that wait for this process, and tells whether the kernel itself had sent it.
pub(crate) fn take_signal(signal: i32) -> Option<Sender> {
    let set = signal_set(&[signal]);
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: all three are valid places, and zeroes are a valid value of the second; the call keeps no pointer.
    let (number, info) =
        unsafe { (libc::sigtimedwait(set.as_ref(), info.as_mut_ptr(), &raw const at_once), info.assume_init()) };
    // A positive code is the kernel's (sigaction(2)).
    (number == signal).then_some(if info.si_code > 0 { Sender::Kernel } else { Sender::Process(0) })
}

/// A set of signals by number, real-time ones included.
pub(crate) fn signal_set(signals: &[i32]) -> SigSet {
    // SAFETY: `sigemptyset` makes any bytes a set; `sigaddset` refuses numbers that are none.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed().assume_init();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        SigSet::from_sigset_t_unchecked(set)
    }
}

/// Whether a set has a signal, by number.
pub(crate) fn has_signal(set: &SigSet, signal: i32) -> bool {
    // SAFETY: the set is a valid one and is not kept.
    unsafe { libc::sigismember(set.as_ref(), signal) == 1 }
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

unsafe extern "C" {
    /// environ(7): where `execvp` takes the new program's variables and the search path from.
    static mut environ: *const *mut libc::c_char;
}

/// Gives the child these variables and no others. One without a value gets the child's own number for it.
///
/// `Command` has its own way for this, but fixes the values before there is a child; it must not be used beside this.
pub(crate) fn set_environment(command: &mut Command, variables: Vec<(OsString, Option<OsString>)>) {
    let mut own_number = Vec::new();
    let mut entries: Vec<Vec<u8>> = Vec::new();
    for (name, value) in variables {
        let mut entry = name.into_vec();
        entry.push(b'=');
        match value {
            Some(value) => entry.extend(value.into_vec()),
            None => {
                own_number.push((entries.len(), entry.len()));
                entry.extend([0; 10]);
            }
        }
        entry.push(0);
        entries.push(entry);
    }
    // Room for the list, and the zero at its end.
    let mut list = vec![0_usize; entries.len() + 1];
    let set = move || {
        let digits = digits_of(std::process::id());
        for &(entry, at) in &own_number {
            let digits = digits.iter().skip_while(|&&digit| digit == b'0');
            entries[entry][at..].iter_mut().zip(digits).for_each(|(place, &digit)| *place = digit);
        }
        list.iter_mut().zip(&mut entries).for_each(|(place, entry)| *place = entry.as_mut_ptr().expose_provenance());
        // SAFETY: between fork and exec the child has this thread alone. The list ends in a null pointer and each entry
        // in a zero; all live as long as the closure, which is until the exec or the end of the child.
        unsafe { environ = list.as_ptr().cast() };
        Ok(())
    };
    // SAFETY: nothing in there allocates or locks: all room was made before the fork. `Command` looks for the program
    // after this, in the new PATH.
    unsafe { command.pre_exec(set) };
}

fn digits_of(mut number: u32) -> [u8; 10] {
    let mut digits = [b'0'; 10];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    digits
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

/// A write that takes what fits and never waits, whatever the flags of the description that others share: EAGAIN where
/// nothing fits, EOPNOTSUPP where the kernel cannot promise it (terminals, some file systems, pipes before Linux 6.4).
///
/// # Errors
/// As pwritev2(2) has them with RWF_NOWAIT.
pub(crate) fn write_now(fd: BorrowedFd<'_>, bytes: &[u8]) -> nix::Result<usize> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // An offset of -1 means the current one, as write(2) has it.
    // SAFETY: one iovec over bytes that live through the call; the kernel only reads them.
    let result = unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const part, 1, -1, libc::RWF_NOWAIT) };
    Errno::result(result).map(|count| usize::try_from(count).unwrap_or(0))
}

/// Gives the pages of freed memory back to the kernel, those between live blocks too, where the allocator can. Some hundred
/// microseconds.
pub(crate) fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets this thread's short sleeps be short: the kernel's default slack would double a nap of 50 µs.
pub(crate) fn set_fine_timers() {
    let _ = nix::sys::prctl::set_timerslack(1000);
}

/// For opening a file that the user named when nobody may be waited for: a FIFO without a reader is an error, and no terminal
/// becomes ours.
pub(crate) const OPEN_AT_ONCE: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// Lets this thread wait its turn: who is woken under `SCHED_BATCH` does not push whoever runs off the processor (sched(7)), so
/// the app's own writes, each of which wakes a thread of ours, return at once. Threads that this one starts inherit it; programs
/// must not, so it is nothing for the thread that spawns the app. Another policy than the usual one was chosen, and stays.
pub(crate) fn wait_our_turn() {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: neither call keeps a pointer, `none` lives over the second one, and 0 is the calling thread alone (the system
    // calls, unlike POSIX, mean threads). It may be refused, which changes nothing.
    unsafe {
        if libc::syscall(libc::SYS_sched_getscheduler, 0) == libc::c_long::from(libc::SCHED_OTHER) {
            libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_BATCH, &raw const none);
        }
    }
}

/// What `TCP_INFO` says of a connection, as far as this kernel fills it in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TcpInfo {
    /// `tcpi_bytes_acked` (Linux 4.1): bytes that the peer's kernel acknowledged. Our SYN counts as one, and so does
    /// our FIN.
    pub(crate) bytes_acked: Option<u64>,
    /// `tcpi_snd_wnd` (Linux 5.4): the window that the peer advertises, in bytes.
    pub(crate) send_window: Option<u32>,
}

/// Offsets in `struct tcp_info` (linux/tcp.h); the structure only ever grows at its end.
const BYTES_ACKED_AT: usize = 120;
const SEND_WINDOW_AT: usize = 228;

/// Reads [`TcpInfo`]. Also works on a connection that was reset, until it is closed.
///
/// # Errors
/// If the descriptor is no TCP socket, or the kernel has no `TCP_INFO`.
pub(crate) fn tcp_info(socket: impl AsFd) -> io::Result<TcpInfo> {
    let mut raw = [0_u8; 256];
    let mut len = raw.len() as libc::socklen_t;
    // SAFETY: `raw` and `len` are ours and live over the call; the kernel writes at most `len` bytes into `raw`, and
    // then how many into `len`. Any bytes are a valid array.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            raw.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let filled = raw.get(..len as usize).unwrap_or(&raw);
    Ok(TcpInfo {
        bytes_acked: field(filled, BYTES_ACKED_AT).map(u64::from_ne_bytes),
        send_window: field(filled, SEND_WINDOW_AT).map(u32::from_ne_bytes),
    })
}

/// `SIOCOUTQ` (tcp(7)): bytes written to the socket that the peer has not acknowledged; a queued FIN counts as one.
/// Also works on a connection that was reset, until it is closed.
///
/// # Errors
/// If the descriptor is no connected TCP socket.
pub(crate) fn tcp_unacknowledged(socket: impl AsFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ) writes one int through the pointer, which is ours over the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// `TCP_NOTSENT_LOWAT` (tcp(7), Linux 3.12): the socket takes no more bytes while this many wait unsent.
///
/// # Errors
/// If the descriptor is no TCP socket, or the kernel does not know the option.
pub(crate) fn set_tcp_unsent_limit(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    // SAFETY: the kernel reads four bytes from `bytes`, which lives over the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The `N` bytes at `at`, if the kernel filled them in.
fn field<const N: usize>(filled: &[u8], at: usize) -> Option<[u8; N]> {
    filled.get(at..at + N)?.try_into().ok()
}

/// Device (its two numbers) and inode of a regular file, as the kernel knows them: a disk that hangs is not asked (statx(2),
/// `AT_STATX_DONT_SYNC`).
pub(crate) fn file_id(fd: BorrowedFd<'_>) -> Option<(u32, u32, u64)> {
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    let (flags, mask) = (libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC, libc::STATX_TYPE | libc::STATX_INO);
    // SAFETY: the path is a string with its NUL, `found` has room for what the call writes, and all zeros are a value of it.
    let (result, found) = unsafe {
        let result = libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, mask, found.as_mut_ptr());
        (result, found.assume_init())
    };
    let is_file = result == 0 && u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFREG;
    is_file.then_some((found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
    };

    #[test]
    fn a_thread_that_waits_its_turn_is_alone_in_that() {
        // SAFETY: 0 is the calling thread.
        let policy = || unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
        let before = policy();
        let inside = std::thread::spawn(move || {
            wait_our_turn();
            policy()
        });
        let usual = before == libc::c_long::from(libc::SCHED_OTHER);
        assert_eq!(inside.join().unwrap(), if usual { libc::SCHED_BATCH.into() } else { before });
        assert_eq!(policy(), before);
    }

    #[test]
    fn a_fresh_connection_has_acknowledged_its_syn_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let info = tcp_info(&stream).unwrap();
        assert_eq!(info.bytes_acked, Some(1));
        assert!(info.send_window.unwrap() > 0);
        assert_eq!(tcp_unacknowledged(&stream).unwrap(), 0);
    }

    #[test]
    fn acknowledged_and_unacknowledged_add_up_to_what_was_written_also_after_a_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut written = 0;
        while let Ok(bytes) = stream.write(&[7; 16 * 1024]) {
            written += bytes as u64;
        }
        drop(peer);
        // The reset has arrived when writing says so (loopback delivers it before close returns, or nearly).
        while stream.write(&[7]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            std::thread::yield_now();
        }
        let acked = tcp_info(&stream).unwrap().bytes_acked.unwrap();
        assert!(acked > 1, "the peer's kernel took something");
        let outq = tcp_unacknowledged(&stream).unwrap();
        assert!(outq > 0, "the peer's window was full");
        assert_eq!(acked + outq, written + 1);
    }

    #[test]
    fn a_file_is_no_tcp_socket() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(tcp_info(&file).is_err());
        assert!(tcp_unacknowledged(&file).is_err());
    }
}
