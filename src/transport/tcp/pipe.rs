//! The bytes of one connection: a socket, or TLS over it, with what is known of their arrival.
//!
//! Both speak in plaintext bytes, counted from the first. Under TLS the kernel counts ciphertext: what that says of the
//! plaintext, [`Marks`] know. rustls is driven by hand, over buffers of ours, so that it is known which ciphertext the kernel has.
//!
//! TLS is always being read: TLS 1.3 brings tickets, and a refused client certificate shows only as an alert after our
//! side of the handshake is complete. So nothing counts as acknowledged before the peer has sent a record after the
//! handshake (a ticket), or [`PROOF_TIME`] has passed without an alert. A connection ends cleanly with the peer's
//! close_notify *and* its end of file: a reset may follow the first.

use super::{
    super::tls,
    marks::{Marks, RECORD},
};
use crate::sys;
use nix::sys::socket::{MsgFlags, recv};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, pki_types::ServerName};
use std::{
    io::{self, ErrorKind, Read, Write},
    os::fd::AsRawFd,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, timeout_at},
};

/// Most input that is taken in one go, so that a peer that talks without end cannot hold us.
const INPUT_ROUNDS: usize = 16;
/// How long a peer may take to refuse our certificate.
const PROOF_TIME: Duration = Duration::from_secs(1);
/// How long a peer that said goodbye may take to close.
const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The peer's end of file, without a reset (so far); under TLS, after its goodbye.
    Closed,
    /// TLS ended without a goodbye: anybody on the way can do that.
    Truncated,
    /// A reset, a time-out, or another error.
    Broken(io::Error),
    /// An alert, or something that is no TLS.
    Refused(rustls::Error),
}

/// See the module's documentation.
#[derive(Debug)]
pub(in crate::transport) struct Pipe {
    socket: TcpStream,
    /// Bytes on the wire that our kernel took.
    sent: u64,
    /// The kernel counts acknowledgements (gVisor does not).
    counted: bool,
    tls: Option<Box<Tls>>,
}

#[derive(Debug)]
struct Tls {
    session: ClientConnection,
    /// Ciphertext that the kernel has not taken: what lies behind `out_at`.
    out: Vec<u8>,
    out_at: usize,
    /// Ciphertext ever made, and plaintext ever taken.
    made: u64,
    taken: u64,
    marks: Marks,
    /// Ciphertext of our side of the handshake, when it was acknowledged, and whether the peer is known to have taken it.
    handshake: u64,
    delivered: Option<Instant>,
    proven: bool,
    /// The peer said goodbye.
    goodbye: bool,
}

/// The kernel's counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counters {
    /// Plaintext bytes that the peer's kernel acknowledged.
    pub(crate) acked: u64,
    /// The window that it advertises, if known.
    pub(crate) window: Option<u32>,
}

impl Pipe {
    /// Over a fresh connection.
    pub(in crate::transport) fn new(socket: TcpStream) -> Self {
        // Linux counts the SYN, so a fresh connection has exactly one byte acknowledged.
        let counted = sys::tcp_info(&socket).is_ok_and(|info| info.bytes_acked == Some(1))
            && sys::tcp_unacknowledged(&socket).is_ok();
        Self { socket, sent: 0, counted, tls: None }
    }

    /// Shakes hands.
    pub(in crate::transport) async fn secure(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<(), Ending> {
        let session = ClientConnection::new(config, name).map_err(Ending::Refused)?;
        self.tls = Some(Box::new(Tls {
            session,
            out: Vec::new(),
            out_at: 0,
            made: 0,
            taken: 0,
            marks: Marks::default(),
            handshake: 0,
            delivered: None,
            proven: false,
            goodbye: false,
        }));
        loop {
            if let Some(tls) = &mut self.tls {
                tls.encrypt().map_err(Ending::Broken)?;
            }
            while !self.try_flush().map_err(Ending::Broken)? {
                self.socket.writable().await.map_err(Ending::Broken)?;
            }
            let Some(tls) = &mut self.tls else { return Ok(()) };
            if !tls.session.is_handshaking() {
                tls.handshake = tls.made;
                // TLS 1.2 servers have checked our certificate by now; in TLS 1.3 they may not have seen it.
                tls.proven = tls.session.protocol_version() == Some(ProtocolVersion::TLSv1_2);
                return Ok(());
            }
            self.socket.readable().await.map_err(Ending::Broken)?;
            self.input(&mut |_| {})?;
        }
    }

    #[cfg(test)]
    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether acknowledgements are counted at all.
    pub(in crate::transport) fn is_counted(&self) -> bool {
        self.counted
    }

    /// Whether the peer may yet refuse us, so that nothing it acknowledged counts.
    pub(in crate::transport) fn may_be_refused(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| !tls.is_proven())
    }

    /// Under TLS: the peer will not read on, though its end of file may not be here.
    pub(in crate::transport) fn said_goodbye(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.goodbye)
    }

    /// Whether it speaks TLS.
    pub(in crate::transport) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Takes a part of `bytes`, without waiting. What TLS takes may not be with the kernel before [`Pipe::try_flush`]
    /// says so.
    pub(in crate::transport) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.tls.is_none() {
            let length = self.socket.try_write(bytes)?;
            self.sent += length as u64;
            return Ok(length);
        }
        if !self.try_flush()? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let Some(tls) = &mut self.tls else { return Ok(0) };
        let length = tls.session.writer().write(&bytes[..bytes.len().min(RECORD)])?;
        tls.encrypt()?;
        tls.taken += length as u64;
        tls.marks.push(tls.made, tls.taken);
        // An error shows again at the next call, when what was taken is on the books.
        let _ = self.try_flush();
        Ok(length)
    }

    /// Gives the kernel what it takes; whether that is all.
    pub(in crate::transport) fn try_flush(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.out_at < tls.out.len() {
            match self.socket.try_write(&tls.out[tls.out_at..]) {
                Ok(length) => {
                    tls.out_at += length;
                    self.sent += length as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        tls.out.clear();
        tls.out_at = 0;
        Ok(true)
    }

    /// Queues our goodbye, which [`Pipe::try_flush`] sends.
    pub(in crate::transport) fn say_goodbye(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        tls.session.send_close_notify();
        tls.encrypt()
    }

    /// Ends our side of the connection.
    pub(in crate::transport) fn half_close(&self) -> io::Result<()> {
        // tokio's own shutdown is the same call, in a future.
        Ok(nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Write)?)
    }

    /// Reads the two counters and takes the more careful of their answers. None where there are none.
    pub(in crate::transport) fn counters(&mut self) -> Option<Counters> {
        let info = sys::tcp_info(&self.socket).ok()?;
        let unacknowledged = sys::tcp_unacknowledged(&self.socket).ok()?;
        let by_queue = self.sent.saturating_sub(unacknowledged);
        let by_count = info.bytes_acked?.saturating_sub(1);
        let wire = by_queue.min(by_count);
        let acked = self.tls.as_mut().map_or(wire, |tls| tls.acked(wire));
        Some(Counters { acked, window: info.send_window })
    }

    /// Whether the peer's kernel has everything, of TLS's own records too.
    pub(in crate::transport) fn all_acked(&self) -> bool {
        let queued = self.tls.as_ref().is_some_and(|tls| tls.out_at < tls.out.len());
        !queued && sys::tcp_unacknowledged(&self.socket).is_ok_and(|bytes| bytes == 0)
    }

    /// Takes input, without waiting and past the runtime's notion of readiness.
    pub(in crate::transport) fn glance(&mut self, take: &mut impl FnMut(&[u8])) -> Result<(), Ending> {
        let fd = self.socket.as_raw_fd();
        self.rounds(take, |_, scrap| Ok(recv(fd, scrap, MsgFlags::MSG_DONTWAIT)?))
    }

    /// Takes the input that the runtime says is there.
    pub(in crate::transport) fn input(&mut self, take: &mut impl FnMut(&[u8])) -> Result<(), Ending> {
        self.rounds(take, |socket, scrap| socket.try_read(scrap))
    }

    fn rounds(
        &mut self,
        take: &mut impl FnMut(&[u8]),
        read: impl Fn(&TcpStream, &mut [u8]) -> io::Result<usize>,
    ) -> Result<(), Ending> {
        let mut scrap = [0; 4096];
        for _ in 0..INPUT_ROUNDS {
            match read(&self.socket, &mut scrap) {
                Ok(0) => {
                    let clean = self.tls.as_ref().is_none_or(|tls| tls.goodbye);
                    return Err(if clean { Ending::Closed } else { Ending::Truncated });
                }
                Ok(length) => self.decrypt(&scrap[..length], take)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Ending::Broken(error)),
            }
        }
        Ok(())
    }

    fn decrypt(&mut self, bytes: &[u8], take: &mut impl FnMut(&[u8])) -> Result<(), Ending> {
        let Some(tls) = &mut self.tls else {
            take(bytes);
            return Ok(());
        };
        let result = tls.feed(bytes, take);
        // An alert of ours, or an answer to theirs.
        let _ = self.try_flush();
        result
    }

    /// Waits for input.
    pub(in crate::transport) async fn readable(&self) -> Result<(), Ending> {
        self.socket.readable().await.map_err(Ending::Broken)
    }

    /// Waits for room to write, or input; whether there is input.
    pub(in crate::transport) async fn ready(&self) -> Result<bool, Ending> {
        let ready = self.socket.ready(Interest::READABLE | Interest::WRITABLE).await.map_err(Ending::Broken)?;
        Ok(ready.is_readable())
    }

    /// After the peer's goodbye: how does the connection end?
    pub(in crate::transport) async fn see_end(&mut self) -> Ending {
        let until = Instant::now() + GOODBYE_TIME;
        loop {
            match timeout_at(until, self.socket.readable()).await {
                Ok(Ok(())) => {
                    if let Err(ending) = self.input(&mut |_| {}) {
                        return ending;
                    }
                }
                Ok(Err(error)) => return Ending::Broken(error),
                Err(_) => return Ending::Truncated,
            }
        }
    }
}

impl Tls {
    fn is_proven(&self) -> bool {
        self.proven || self.delivered.is_some_and(|at| at.elapsed() >= PROOF_TIME)
    }

    /// Moves what the session has to say into `out`.
    fn encrypt(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.made += self.session.write_tls(&mut self.out)? as u64;
        }
        Ok(())
    }

    /// The plaintext of whole records before byte `wire` of the ciphertext.
    fn acked(&mut self, wire: u64) -> u64 {
        if wire >= self.handshake {
            self.delivered.get_or_insert_with(Instant::now);
        }
        if !self.is_proven() {
            return 0;
        }
        self.marks.acked(wire)
    }

    fn feed(&mut self, mut bytes: &[u8], take: &mut impl FnMut(&[u8])) -> Result<(), Ending> {
        let shaking = self.session.is_handshaking();
        while !bytes.is_empty() {
            self.session.read_tls(&mut bytes).map_err(Ending::Broken)?;
            let state = self.session.process_new_packets();
            let _ = self.encrypt();
            let state = state.map_err(|error| {
                tracing::debug!(%error, "{}", tls::why(&error));
                Ending::Refused(error)
            })?;
            let mut scrap = [0; 4096];
            while let Ok(length) = self.session.reader().read(&mut scrap)
                && length > 0
            {
                take(&scrap[..length]);
            }
            self.goodbye |= state.peer_has_closed();
        }
        self.proven |= !shaking;
        Ok(())
    }
}
