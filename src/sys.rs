//! The only file with `unsafe`: kernel interfaces that the crates we use do not wrap. Each function is small, checked,
//! and safe to call with any argument.
#![expect(unsafe_code, reason = "the one place that may")]

use nix::libc;
use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// What `TCP_INFO` says of a connection, as far as this kernel fills it in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// `tcpi_bytes_acked` (Linux 4.1): bytes that the peer's kernel acknowledged. Our SYN counts as one, and so does
    /// our FIN.
    pub bytes_acked: Option<u64>,
    /// `tcpi_snd_wnd` (Linux 5.4): the window that the peer advertises, in bytes.
    pub send_window: Option<u32>,
}

/// Offsets in `struct tcp_info` (linux/tcp.h); the structure only ever grows at its end.
const BYTES_ACKED_AT: usize = 120;
const SEND_WINDOW_AT: usize = 228;

/// Reads [`TcpInfo`]. Also works on a connection that was reset, until it is closed.
///
/// # Errors
/// If the descriptor is no TCP socket, or the kernel has no `TCP_INFO`.
pub fn tcp_info(socket: impl AsFd) -> io::Result<TcpInfo> {
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
pub fn tcp_unacknowledged(socket: impl AsFd) -> io::Result<u64> {
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
pub fn set_tcp_unsent_limit(socket: impl AsFd, bytes: u32) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
    };

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
