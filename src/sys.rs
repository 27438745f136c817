//! The only unsafe code: system calls that no well-kept crate wraps safely.
#![expect(unsafe_code, reason = "each block says why it is sound")]

use std::os::fd::{AsRawFd, BorrowedFd};

mod ioctl {
    nix::ioctl_read_bad!(fionread, nix::libc::FIONREAD, nix::libc::c_int);
}

/// Bytes that a read would find now (FIONREAD); 0 where the kernel will not say.
pub fn bytes_readable(fd: BorrowedFd<'_>) -> usize {
    let mut count = 0;
    // SAFETY: FIONREAD writes one int, and `count` is one.
    match unsafe { ioctl::fionread(fd.as_raw_fd(), &raw mut count) } {
        Ok(_) => usize::try_from(count).unwrap_or(0),
        Err(_) => 0,
    }
}

/// Lets this thread's short sleeps be short: the kernel's default slack would double a nap of 50 µs.
pub fn set_fine_timers() {
    let _ = nix::sys::prctl::set_timerslack(1000);
}
