//! One TCP connection: the pipe (a [`Wire`]) beside its [`Window`].
//!
//! Rules: nothing is written into a connection that the peer has closed; whatever the peer sends is read and thrown
//! away (closing with unread input would send a reset and could destroy our own bytes at the peer); after an error the
//! connection is never used again, but its counters are read once more before it is closed. Per send: one `recv`, one
//! or more `send`s; the counters (two system calls) are read every [`POLL_BYTES`] or [`POLL_TIME`], never per line.

use super::{
    pipe::Ending,
    window::{Policy, Seen, Window},
    wire::Wire,
};
use crate::{ledger::Grade, transport::Pulse};
use std::{io::ErrorKind, time::Duration};
use tokio::time::{Instant, sleep_until};

/// After this many bytes the counters are read again.
const POLL_BYTES: u64 = 64 * 1024;
/// After this time the counters are read again.
const POLL_TIME: Duration = Duration::from_millis(5);
/// While the counters alone tell what happens: the first interval between looks, which doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(1);
const LAST_WAIT: Duration = Duration::from_millis(50);
/// How long a peer may take for its end of file after ours.
const EOF_TIME: Duration = Duration::from_secs(1);
/// The same where no counter said that the bytes have arrived at all.
const BLIND_EOF_TIME: Duration = Duration::from_secs(5);

/// What came of a [`Link::finish`] in which the connection did not break.
#[derive(Debug)]
pub(super) enum Finish {
    /// A clean end of file after our own: the peer's application has read everything.
    Confirmed,
    /// Everything is acknowledged, but the peer did not close in time, or without TLS's goodbye.
    Unanswered,
    /// The deadline came before the last acknowledgement.
    Unacknowledged,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Link<W> {
    pipe: W,
    window: Window,
    base: u64,
    /// The kernel does not count acknowledgements (gVisor): what is written is evidence of nothing, graded as sent.
    blind: bool,
    /// Our end of file is queued: the counters count it too, so they are not read any more.
    half_closed: bool,
    polled: Instant,
    polled_written: u64,
    pulse: Pulse,
}

impl<W: Wire> Link<W> {
    /// Takes over a fresh connection whose first byte will have position `base`.
    pub(super) fn new(pipe: W, policy: Policy, base: u64, pulse: Pulse) -> Self {
        let now = Instant::now();
        let blind = !pipe.is_counted();
        let window = Window::new(policy, base, now);
        let mut link = Self { pipe, window, base, blind, half_closed: false, polled: now, polled_written: base, pulse };
        // Before a byte is written the peer advertises all its room; of one that never reads, later looks may see none.
        link.poll(now);
        link
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
        loop {
            if self.pipe.said_goodbye() {
                return Err(self.pipe.see_end().await);
            }
            match self.write_some(rest) {
                Ok(bytes) if bytes == rest.len() && self.pipe.try_flush().map_err(Ending::Broken)? => return Ok(()),
                Ok(0) => self.wait_for_room().await?,
                Ok(bytes) => rest = &rest[bytes..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait_for_room().await?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Ending::Broken(error)),
            }
        }
    }

    fn write_some(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let length = self.pipe.try_write(bytes)?;
        let now = Instant::now();
        self.window.wrote(length as u64, now);
        self.poll_if_due(now);
        Ok(length)
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
        // A slow peer shows first by what it takes out of a full buffer, then by what it acknowledges of the rest.
        self.pulse.reach(self.window.written() + self.window.acked());
    }

    /// Waits until [`Link::safe`] moves or the connection ends. Cancel-safe.
    pub(super) async fn watch(&mut self) -> Result<(), Ending> {
        let safe = self.window.accepted();
        let mut wait = FIRST_WAIT;
        loop {
            // No timer while nothing is outstanding: an idle drain costs no wake-ups.
            let look = self.window.next_look(wait).map(|wait| Instant::now() + wait.max(FIRST_WAIT));
            self.input_until(look).await?;
            if self.pipe.said_goodbye() {
                return Err(self.pipe.see_end().await);
            }
            self.poll(Instant::now());
            if self.window.accepted() > safe {
                return Ok(());
            }
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    /// An orderly end of the peer's own doing says that its application has read everything. Not under TLS, whose library
    /// reads ahead of the application.
    pub(super) fn end_tells_all(&self) -> bool {
        !self.pipe.is_tls()
    }

    /// Everything acknowledged is accepted, because no replay will follow.
    pub(super) fn release(&mut self) {
        self.window.release();
    }

    /// Waits for the last acknowledgement, says goodbye, half-closes, waits for the peer's end of file.
    pub(super) async fn finish(&mut self, deadline: Instant) -> Result<Finish, Ending> {
        self.glance()?;
        if !self.acknowledged(deadline).await? {
            return Ok(Finish::Unacknowledged);
        }
        self.pipe.say_goodbye().map_err(Ending::Broken)?;
        let _ = self.pipe.try_flush();
        self.pipe.half_close().map_err(Ending::Broken)?;
        self.half_closed = true;
        let limit = if self.blind { BLIND_EOF_TIME } else { EOF_TIME };
        let patience = Instant::now() + limit;
        let unanswered = match self.input_until(Some(deadline.min(patience))).await {
            Ok(()) => Instant::now() >= patience || !self.pipe.may_be_refused(),
            Err(Ending::Closed) => return Ok(Finish::Confirmed),
            Err(Ending::Truncated) => true,
            Err(broken) => return Err(broken),
        };
        if unanswered && !self.blind {
            // All is acknowledged, and a peer that refuses us would have said so by now.
            let all = Seen { acked: self.window.written(), peer_window: None };
            self.window.observe_end(all, Instant::now());
        }
        Ok(Finish::Unanswered)
    }

    /// Waits until the peer's kernel has everything, until `deadline`; whether it has.
    async fn acknowledged(&mut self, deadline: Instant) -> Result<bool, Ending> {
        let mut wait = FIRST_WAIT;
        loop {
            self.poll(Instant::now());
            let flushed = self.half_closed || self.pipe.try_flush().map_err(Ending::Broken)?;
            if flushed && (self.window.unacked() == 0 || !self.blind && self.pipe.all_acked()) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            self.input_until(Some(deadline.min(Instant::now() + wait))).await?;
            wait = (wait * 2).min(LAST_WAIT / 5);
        }
    }

    /// Reads the two counters and takes the more careful of their answers.
    fn look(&mut self) -> Option<Seen> {
        if self.half_closed {
            return None;
        }
        if self.blind {
            // Without counters, the window slides over what was written.
            let acked = if self.pipe.may_be_refused() { self.base } else { self.window.written() };
            return Some(Seen { acked, peer_window: None });
        }
        let counters = self.pipe.counters()?;
        Some(Seen { acked: self.base + counters.acked, peer_window: counters.window })
    }

    /// Looks, without waiting and past the runtime's notion of readiness, whether the peer closed or reset.
    pub(super) fn glance(&mut self) -> Result<(), Ending> {
        self.pipe.glance()
    }

    /// Reads input until `until` (or for ever), or until the peer says goodbye; returns an error with an ending.
    async fn input_until(&mut self, until: Option<Instant>) -> Result<(), Ending> {
        loop {
            tokio::select! {
                biased;
                () = sleep_if(until) => return self.glance(),
                ready = self.pipe.readable() => {
                    ready?;
                    self.pipe.input()?;
                    if self.pipe.said_goodbye() && !self.half_closed {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits until the socket takes bytes again, reading input meanwhile.
    async fn wait_for_room(&mut self) -> Result<(), Ending> {
        if self.pipe.ready().await? {
            self.pipe.input()?;
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
    use super::{super::pipe::Pipe, *};
    use nix::sys::socket::{setsockopt, sockopt};
    use std::io::Read;
    use tokio::net::TcpStream;

    const POLICY: Policy = Policy { fixed: None, cap: 4 << 20 };

    /// A link and its peer.
    async fn pair(base: u64) -> (Link<Pipe>, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (peer, _) = listener.accept().unwrap();
        (Link::new(Pipe::new(stream), POLICY, base, Pulse::default()), peer)
    }

    #[tokio::test]
    async fn linux_counts_acknowledgements() {
        let (link, _peer) = pair(5).await;
        assert!(!link.blind);
        assert_eq!((link.grade(), link.safe(), link.written()), (Grade::Accepted, 5, 5));
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_from_the_first_byte_on_has_all_of_it_unread() {
        const SENT: usize = 60_000;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_peer, _) = listener.accept().unwrap();
        let policy = Policy { fixed: None, cap: 64 << 10 };
        let mut link = Link::new(Pipe::new(stream), policy, 0, Pulse::default());
        link.write(&[b'x'; SENT]).await.unwrap();
        while link.pipe.counters().unwrap().acked < SENT as u64 {
            tokio::task::yield_now().await;
        }
        // As if that had filled the peer.
        let seen = Seen { acked: SENT as u64, peer_window: Some(0) };
        link.window.observe(seen, Instant::now());
        assert_eq!(link.safe(), 0);
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
    async fn the_kernel_gives_up_on_a_peer_that_never_reads_although_it_answers_probes_39() {
        let (mut link, _peer) = pair(0).await;
        setsockopt(link.pipe.socket(), sockopt::TcpUserTimeout, &300).unwrap();
        let ending = tokio::time::timeout(Duration::from_secs(20), link.write(&vec![0; 64 << 20])).await.unwrap();
        assert!(matches!(&ending, Err(Ending::Broken(error)) if error.kind() == ErrorKind::TimedOut), "{ending:?}");
        link.poll_at_end(Instant::now());
        assert!(link.unacked() > 0 && link.carried());
        let unacknowledged = crate::sys::tcp_unacknowledged(link.pipe.socket()).unwrap();
        assert_eq!(link.written(), link.window.acked() + unacknowledged);
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
