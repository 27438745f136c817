//! Unix sockets: the machine's own syslog at `/dev/log`, or whatever else takes one message a datagram.
//!
//! A datagram socket is tried first, then a stream, on which each message ends with NUL, as libc does both. *sent*: the
//! kernel put the datagram into the receiver's queue, or the stream's buffer took it; a daemon that dies with a full
//! queue loses it. A stream whose receiver closes after our end, without a reset, has *confirmed* what it got.
//!
//! A full queue is waited for. A receiver that is not there, or went away, is weather: the socket is opened anew. A
//! message that is too large for one datagram is to be split off, and lost as oversize, counted.

use super::{Failure, Payload, Progress, Pulse, Transport, Verdict};
use crate::ledger::Grade;
use nix::errno::Errno;
use std::{
    io::{self, ErrorKind},
    path::PathBuf,
    time::Duration,
};
use tokio::{
    net::{UnixDatagram, UnixStream},
    time::{Instant, timeout_at},
};

/// How long to wait when the kernel has no buffer left.
const NAP: Duration = Duration::from_millis(20);
/// How often that is tried before it is a failure.
const NAPS: u32 = 50;
/// How long the receiver of a stream may take for its end of file after ours.
const EOF_TIME: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug)]
pub struct Unix {
    path: PathBuf,
    socket: Option<Socket>,
    epoch: u32,
    /// All bytes before this position went out.
    sent: u64,
    confirmed: bool,
    pulse: Pulse,
}

#[derive(Debug)]
enum Socket {
    Datagram(UnixDatagram),
    Stream(UnixStream),
}

impl Unix {
    /// Opens nothing yet: an absent socket is weather.
    pub fn new(path: PathBuf) -> Self {
        Self { path, socket: None, epoch: 0, sent: 0, confirmed: false, pulse: Pulse::default() }
    }

    async fn open(&mut self) -> io::Result<()> {
        if self.socket.is_some() {
            return Ok(());
        }
        let datagram = UnixDatagram::unbound()?;
        self.socket = Some(match datagram.connect(&self.path) {
            Ok(()) => Socket::Datagram(datagram),
            Err(error) if error.raw_os_error() == Some(Errno::EPROTOTYPE as i32) => {
                Socket::Stream(UnixStream::connect(&self.path).await?)
            }
            Err(error) => return Err(error),
        });
        self.epoch += 1;
        Ok(())
    }

    async fn message(&mut self, message: &[u8]) -> io::Result<()> {
        self.open().await?;
        match &mut self.socket {
            Some(Socket::Datagram(socket)) => datagram(socket, message).await,
            Some(Socket::Stream(stream)) => {
                ended(stream)?;
                write_all(stream, message).await?;
                write_all(stream, b"\0").await
            }
            None => Ok(()),
        }
    }

    async fn deliver(&mut self, payload: &Payload) -> io::Result<()> {
        self.sent = self.sent.max(payload.position);
        let mut start = 0;
        for &end in &*payload.ends {
            let message = &payload.body[start..end as usize];
            start = end as usize;
            let upto = payload.position + u64::from(end);
            if upto <= self.sent {
                continue;
            }
            if !message.is_empty() {
                self.message(message).await?;
            }
            self.sent = upto;
            self.pulse.reach(upto);
        }
        Ok(())
    }

    fn failure(&mut self, error: &io::Error) -> Failure {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        let path = self.path.display();
        if errno == Errno::EMSGSIZE {
            let reason = format!("{path}: a message is too large for a datagram");
            return Failure { verdict: Verdict::Split, reason };
        }
        self.socket = None;
        let what = match errno {
            Errno::ENOENT => "there is no socket".to_owned(),
            Errno::ECONNREFUSED | Errno::ENOTCONN | Errno::EPIPE | Errno::ECONNRESET => {
                "nobody receives there".to_owned()
            }
            Errno::ENOTSOCK => "that is no socket".to_owned(),
            Errno::UnknownErrno => error.to_string(),
            errno => errno.desc().to_lowercase(),
        };
        let verdict = Verdict::Retry { resend_from: self.sent, after: None };
        Failure { verdict, reason: format!("{path}: {what}") }
    }
}

async fn datagram(socket: &UnixDatagram, message: &[u8]) -> io::Result<()> {
    for _ in 0..NAPS {
        match socket.send(message).await {
            Ok(_) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => tokio::time::sleep(NAP).await,
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(Errno::ENOBUFS as i32))
}

/// Whether the receiver of a stream went away: what is written into it then is lost without an error.
fn ended(stream: &UnixStream) -> io::Result<()> {
    match stream.try_read(&mut [0; 256]) {
        Ok(0) => Err(ErrorKind::ConnectionReset.into()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

async fn write_all(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Transport for Unix {
    fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    async fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        tokio::task::consume_budget().await;
        match self.deliver(payload).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn progress(&mut self, _now: Instant) -> Option<Progress> {
        let grade = if self.confirmed { Grade::Confirmed } else { Grade::Sent };
        (self.epoch > 0).then_some(Progress { epoch: self.epoch, upto: self.sent, grade })
    }

    async fn watch(&mut self) -> Result<(), Failure> {
        std::future::pending().await
    }

    async fn finish(&mut self, deadline: Instant) -> Result<(), Failure> {
        let Some(Socket::Stream(stream)) = &mut self.socket else { return Ok(()) };
        // Tokio's own shutdown is the same call, in a future.
        let _ = nix::sys::socket::shutdown(std::os::fd::AsRawFd::as_raw_fd(stream), nix::sys::socket::Shutdown::Write);
        let until = deadline.min(Instant::now() + EOF_TIME);
        let end = timeout_at(until, async {
            loop {
                stream.readable().await?;
                match stream.try_read(&mut [0; 256]) {
                    Ok(0) => return Ok(()),
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
            }
        });
        self.confirmed = matches!(end.await, Ok(Ok(())));
        self.socket = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::testing::payload;
    use std::io::Read;

    fn path() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        (dir, path)
    }

    #[tokio::test]
    async fn each_message_is_a_datagram_and_a_new_daemon_is_found() {
        let (_dir, path) = path();
        let mut unix = Unix::new(path.clone());
        let failure = unix.send(&payload(0, &["a"])).await.unwrap_err();
        assert!(failure.reason.ends_with("there is no socket"), "{failure}");
        for round in 0..2 {
            let daemon = UnixDatagram::bind(&path).unwrap();
            let texts = [format!("one {round}"), format!("two {round}")];
            let payload = payload(round * 10, &[&texts[0], &texts[1]]);
            if round > 0 {
                let failure = unix.send(&payload).await.unwrap_err();
                assert!(failure.reason.ends_with("nobody receives there"), "{failure}");
                assert!(matches!(failure.verdict, Verdict::Retry { resend_from: 10, after: None }));
            }
            unix.send(&payload).await.unwrap();
            for text in texts {
                let mut buffer = [0; 64];
                let length = daemon.recv(&mut buffer).await.unwrap();
                assert_eq!(&buffer[..length], text.as_bytes());
            }
            std::fs::remove_file(&path).unwrap();
        }
        assert_eq!(unix.progress(Instant::now()), Some(Progress { epoch: 2, upto: 20, grade: Grade::Sent }));
    }

    #[tokio::test]
    async fn a_message_larger_than_a_datagram_is_split_off() {
        let (_dir, path) = path();
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut unix = Unix::new(path);
        let large = "x".repeat(4 << 20);
        let failure = unix.send(&payload(0, &["first", &large])).await.unwrap_err();
        assert!(matches!(failure.verdict, Verdict::Split), "{failure}");
        assert_eq!(unix.progress(Instant::now()).unwrap().upto, 5);
        assert_eq!(daemon.recv(&mut [0; 64]).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn a_full_queue_is_waited_for() {
        let (_dir, path) = path();
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut unix = Unix::new(path);
        let many = vec!["x"; 2000];
        let payload = payload(0, &many);
        let mut got = 0;
        tokio::join!(async { unix.send(&payload).await.unwrap() }, async {
            // Room for a dozen: the sender has to wait for this reader.
            while got < many.len() {
                tokio::task::yield_now().await;
                got += daemon.recv(&mut [0; 8]).await.unwrap();
            }
        });
        assert_eq!(got, many.len());
    }

    #[tokio::test]
    async fn on_a_stream_messages_end_with_nul_and_its_end_confirms_them() {
        let (_dir, path) = path();
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut all).unwrap();
            all
        });
        let mut unix = Unix::new(path);
        unix.send(&payload(0, &["one", "two"])).await.unwrap();
        assert_eq!(unix.progress(Instant::now()), Some(Progress { epoch: 1, upto: 6, grade: Grade::Sent }));
        unix.finish(Instant::now() + EOF_TIME).await.unwrap();
        assert_eq!(reader.join().unwrap(), b"one\0two\0");
        assert_eq!(unix.progress(Instant::now()), Some(Progress { epoch: 1, upto: 6, grade: Grade::Confirmed }));
    }
}
