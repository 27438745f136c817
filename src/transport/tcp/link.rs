//! One TCP connection: the socket beside its [`Window`].
//!
//! Rules: nothing is written into a connection that the peer has closed; whatever the peer sends is read and thrown
//! away (closing with unread input would send a reset and could destroy our own bytes at the peer); after an error the
//! connection is never used again, but its counters are read once more before it is closed. Per send: one `recv`, one
//! or more `send`s; the counters (two system calls) are read every [`POLL_BYTES`] or [`POLL_TIME`], never per line.

use super::window::{Policy, Seen, Window};
use crate::{ledger::Grade, sys};
use nix::sys::socket::{MsgFlags, recv};
use std::{
    io::{self, ErrorKind},
    os::fd::AsRawFd,
    time::Duration,
};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, sleep_until},
};

/// After this many bytes the counters are read again.
const POLL_BYTES: u64 = 64 * 1024;
/// After this time the counters are read again.
const POLL_TIME: Duration = Duration::from_millis(5);
/// While the counters alone tell what happens: the first interval between looks, which doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LAST_WAIT: Duration = Duration::from_millis(50);
/// Most input that is thrown away in one go, so that a peer that talks without end cannot hold us.
const INPUT_ROUNDS: usize = 16;
/// How long a peer may take for its end of file after ours.
const EOF_TIME: Duration = Duration::from_secs(1);
/// The same where no counter said that the bytes have arrived at all.
const BLIND_EOF_TIME: Duration = Duration::from_secs(5);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The peer's end of file, without a reset (so far).
    Closed,
    /// A reset, a time-out, or another error.
    Broken(io::Error),
}

/// What came of a [`Link::finish`] in which the connection did not break.
#[derive(Debug)]
pub(super) enum Finish {
    /// A clean end of file after our own: the peer's application has read everything.
    Confirmed,
    /// Everything is acknowledged, but the peer did not close in time.
    Unanswered,
    /// The deadline came before the last acknowledgement.
    Unacknowledged,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    window: Window,
    base: u64,
    /// The kernel does not count acknowledgements (gVisor): what is written is evidence of nothing, graded as sent.
    blind: bool,
    /// Our end of file is queued: the counters count it too, so they are not read any more.
    half_closed: bool,
    polled: Instant,
    polled_written: u64,
}

impl Link {
    /// Takes over a fresh connection whose first byte will have position `base`.
    pub(super) fn new(stream: TcpStream, policy: Policy, base: u64, now: Instant) -> Self {
        // Linux counts the SYN, so a fresh connection has exactly one byte acknowledged.
        let counted = sys::tcp_info(&stream).is_ok_and(|info| info.bytes_acked == Some(1));
        let blind = !counted || sys::tcp_unacknowledged(&stream).is_err();
        let window = Window::new(policy, base, now);
        Self { stream, window, base, blind, half_closed: false, polled: now, polled_written: base }
    }

    /// Position behind the last byte that our kernel took.
    pub(super) fn written(&self) -> u64 {
        self.window.written()
    }

    /// All bytes before this position are at least [`Link::grade`]; a replay starts here.
    pub(super) fn safe(&self) -> u64 {
        self.window.accepted()
    }

    /// What is known of the bytes before [`Link::safe`].
    pub(super) fn grade(&self) -> Grade {
        if self.blind { Grade::Sent } else { Grade::Accepted }
    }

    /// Bytes without an acknowledgement, as of the last look.
    pub(super) fn unacked(&self) -> u64 {
        self.window.unacked()
    }

    /// Some bytes of this connection have arrived at the peer's kernel.
    pub(super) fn carried(&self) -> bool {
        !self.blind && self.window.acked() > self.base
    }

    /// Writes all of `body`, waiting for room in the socket's buffer for as long as it takes. If dropped half-way, what
    /// was written is on the books.
    pub(super) async fn write(&mut self, body: &[u8]) -> Result<(), Ending> {
        self.glance()?;
        let mut rest = body;
        while !rest.is_empty() {
            match self.stream.try_write(rest) {
                Ok(bytes) => {
                    let now = Instant::now();
                    self.window.wrote(bytes as u64, now);
                    self.poll_if_due(now);
                    rest = &rest[bytes..];
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_for_room().await?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Ending::Broken(error)),
            }
        }
        Ok(())
    }

    /// Reads the counters if enough has happened since the last time.
    pub(super) fn poll_if_due(&mut self, now: Instant) {
        let bytes = self.window.written() - self.polled_written;
        if bytes >= POLL_BYTES || now.saturating_duration_since(self.polled) >= POLL_TIME {
            self.poll(now);
        }
    }

    /// Reads the counters of a connection that has just ended.
    pub(super) fn poll_at_end(&mut self, now: Instant) {
        if let Some(seen) = self.look() {
            self.window.observe_end(seen, now);
        }
    }

    /// Reads the counters.
    fn poll(&mut self, now: Instant) {
        self.polled = now;
        self.polled_written = self.window.written();
        if let Some(seen) = self.look() {
            self.window.observe(seen, now);
        }
    }

    /// Waits until [`Link::safe`] moves or the connection ends. Cancel-safe.
    pub(super) async fn watch(&mut self) -> Result<(), Ending> {
        let safe = self.window.accepted();
        let mut wait = FIRST_WAIT;
        loop {
            // No timer while nothing is outstanding: an idle drain costs no wake-ups.
            let look = self.window.next_look(wait).map(|wait| Instant::now() + wait.max(FIRST_WAIT));
            self.input_until(look).await?;
            self.poll(Instant::now());
            if self.window.accepted() > safe {
                return Ok(());
            }
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    /// Everything acknowledged is accepted, because no replay will follow.
    pub(super) fn release(&mut self) {
        self.window.release();
    }

    /// Waits for the last acknowledgement, half-closes, waits for the peer's end of file.
    pub(super) async fn finish(&mut self, deadline: Instant) -> Result<Finish, Ending> {
        let mut wait = FIRST_WAIT;
        loop {
            self.glance()?;
            self.poll(Instant::now());
            if self.window.unacked() == 0 {
                break;
            }
            if Instant::now() >= deadline {
                return Ok(Finish::Unacknowledged);
            }
            self.input_until(Some(deadline.min(Instant::now() + wait))).await?;
            wait = (wait * 2).min(LAST_WAIT / 5);
        }
        // tokio's own shutdown is the same call, in a future.
        nix::sys::socket::shutdown(self.stream.as_raw_fd(), nix::sys::socket::Shutdown::Write)
            .map_err(|error| Ending::Broken(error.into()))?;
        self.half_closed = true;
        let limit = if self.blind { BLIND_EOF_TIME } else { EOF_TIME };
        match self.input_until(Some(deadline.min(Instant::now() + limit))).await {
            Ok(()) => Ok(Finish::Unanswered),
            Err(Ending::Closed) => Ok(Finish::Confirmed),
            Err(broken) => Err(broken),
        }
    }

    /// Reads the two counters and takes the more careful of their answers.
    fn look(&self) -> Option<Seen> {
        if self.half_closed {
            return None;
        }
        if self.blind {
            // Without counters, the window slides over what was written.
            return Some(Seen { acked: self.window.written(), peer_window: None });
        }
        let info = sys::tcp_info(&self.stream).ok()?;
        let unacknowledged = sys::tcp_unacknowledged(&self.stream).ok()?;
        let by_queue = self.window.written().saturating_sub(unacknowledged);
        let by_count = self.base + info.bytes_acked?.saturating_sub(1);
        Some(Seen { acked: by_queue.min(by_count), peer_window: info.send_window })
    }

    /// Looks, without waiting and past the runtime's notion of readiness, whether the peer closed or reset.
    pub(super) fn glance(&mut self) -> Result<(), Ending> {
        let mut scrap = [0; 1024];
        for _ in 0..INPUT_ROUNDS {
            match recv(self.stream.as_raw_fd(), &mut scrap, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(Ending::Closed),
                Ok(_) => {}
                Err(nix::Error::EAGAIN) => return Ok(()),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(Ending::Broken(error.into())),
            }
        }
        Ok(())
    }

    /// Throws away what can be read, until there is no more for now.
    fn input(&mut self) -> Result<(), Ending> {
        let mut scrap = [0; 4096];
        for _ in 0..INPUT_ROUNDS {
            match self.stream.try_read(&mut scrap) {
                Ok(0) => return Err(Ending::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Ending::Broken(error)),
            }
        }
        Ok(())
    }

    /// Reads input until `until` (or for ever); returns early only with an ending.
    async fn input_until(&mut self, until: Option<Instant>) -> Result<(), Ending> {
        loop {
            tokio::select! {
                biased;
                () = sleep_if(until) => return self.glance(),
                ready = self.stream.readable() => {
                    ready.map_err(Ending::Broken)?;
                    self.input()?;
                }
            }
        }
    }

    /// Waits until the socket takes bytes again, reading input meanwhile.
    async fn wait_for_room(&mut self) -> Result<(), Ending> {
        let ready = self.stream.ready(Interest::READABLE | Interest::WRITABLE).await.map_err(Ending::Broken)?;
        if ready.is_readable() {
            self.input()?;
        }
        // Before the room is filled: this is when the peer's window shows its size.
        self.poll(Instant::now());
        Ok(())
    }
}

/// Sleeps until `until`, or for ever.
async fn sleep_if(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{setsockopt, sockopt};
    use std::io::Read;

    const POLICY: Policy = Policy { fixed: None, cap: 4 << 20 };

    /// A link and its peer.
    async fn pair(base: u64) -> (Link, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (peer, _) = listener.accept().unwrap();
        (Link::new(stream, POLICY, base, Instant::now()), peer)
    }

    #[tokio::test]
    async fn linux_counts_acknowledgements() {
        let (link, _peer) = pair(5).await;
        assert!(!link.blind);
        assert_eq!((link.grade(), link.safe(), link.written()), (Grade::Accepted, 5, 5));
    }

    #[tokio::test]
    async fn without_counters_nothing_is_accepted_and_all_is_sent_again() {
        let (mut link, mut peer) = pair(5).await;
        link.blind = true;
        link.write(b"hello").await.unwrap();
        link.poll(Instant::now());
        assert_eq!((link.grade(), link.safe(), link.carried()), (Grade::Sent, 5, false));
        peer.read_exact(&mut [0; 5]).unwrap();
        drop(peer);
        assert!(matches!(link.watch().await, Err(Ending::Closed)));
        link.poll_at_end(Instant::now());
        assert_eq!(link.safe(), 5);
    }

    #[tokio::test]
    async fn without_counters_the_end_of_file_still_confirms() {
        let (mut link, mut peer) = pair(0).await;
        link.blind = true;
        link.write(b"hello").await.unwrap();
        let peer = std::thread::spawn(move || peer.read_to_end(&mut Vec::new()));
        let finish = link.finish(Instant::now() + Duration::from_secs(10)).await;
        assert!(matches!(finish, Ok(Finish::Confirmed)), "{finish:?}");
        assert_eq!(peer.join().unwrap().unwrap(), 5);
    }

    #[tokio::test]
    async fn the_kernel_gives_up_on_a_peer_that_never_reads_although_it_answers_probes() {
        let (mut link, _peer) = pair(0).await;
        setsockopt(&link.stream, sockopt::TcpUserTimeout, &300).unwrap();
        let ending = tokio::time::timeout(Duration::from_secs(20), link.write(&vec![0; 64 << 20])).await.unwrap();
        assert!(matches!(&ending, Err(Ending::Broken(error)) if error.kind() == ErrorKind::TimedOut), "{ending:?}");
        link.poll_at_end(Instant::now());
        assert!(link.unacked() > 0 && link.carried());
        assert_eq!(link.written(), link.window.acked() + sys::tcp_unacknowledged(&link.stream).unwrap());
    }

    #[tokio::test]
    async fn nothing_is_written_into_a_connection_that_the_peer_closed() {
        let (mut link, peer) = pair(0).await;
        drop(peer);
        // Loopback delivers the end of file before close returns; no runtime has polled for it yet.
        assert!(matches!(link.write(b"lost").await, Err(Ending::Closed)));
        assert_eq!(link.written(), 0);
    }
}
