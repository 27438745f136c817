//! Where a drain's bytes go: what each transport starts with.

use super::{Proxy, Secret};
use crate::format::http::Compress;
use std::{path::PathBuf, time::Duration};

/// Where a drain's bytes go. Closed: one variant a transport.
#[derive(Clone, Debug)]
pub enum Target {
    /// HTTP(S).
    Http(HttpTarget),
    /// A TCP connection, plain or over TLS.
    Tcp(TcpTarget),
    /// RELP, plain or over TLS.
    Relp(RelpTarget),
    /// UDP datagrams.
    Udp(HostPort),
    /// A Unix socket, datagrams or a stream.
    Unix(PathBuf),
    /// A file, appended to.
    File(FileTarget),
}

/// A host name or literal address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name, IPv4 or IPv6 (without brackets).
    pub host: String,
    /// Port, never 0.
    pub port: u16,
}

/// An HTTP(S) endpoint. `Debug` shows neither headers nor anything of the URL but its origin.
#[derive(Clone)]
pub struct HttpTarget {
    /// Absolute, without userinfo and fragment.
    pub url: url::Url,
    /// Extra headers in order: (name, value). Values are secrets.
    pub headers: Vec<(String, Secret)>,
    /// Whom to trust, and who we are.
    pub tls: TlsTarget,
    /// What stands in between.
    pub proxy: Option<Proxy>,
    /// `#timeout=`: time limit of one request. None: it is found out.
    pub timeout: Option<Duration>,
    /// How bodies are compressed.
    pub compress: Compress,
}

impl HttpTarget {
    /// Nothing but the URL.
    pub fn new(url: url::Url) -> Self {
        let tls = TlsTarget::default();
        Self { url, headers: Vec::new(), tls, proxy: None, timeout: None, compress: Compress::Off }
    }
}

impl std::fmt::Debug for HttpTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpTarget").field("origin", &self.url.origin().ascii_serialization()).finish_non_exhaustive()
    }
}

/// A TCP endpoint, plain or over TLS.
#[derive(Clone, Debug)]
pub struct TcpTarget {
    /// Where to connect.
    pub peer: HostPort,
    /// `#replay=`: None is automatic; `Some(0)` replays the unacknowledged alone; else a fixed window in bytes.
    pub replay: Option<u64>,
    /// `#max-message=`: longest syslog message in bytes; longer lines travel in pieces. None: no limit is known.
    pub max_message: Option<usize>,
    /// TLS over it.
    pub tls: Option<TlsTarget>,
}

impl TcpTarget {
    /// Plain, with an automatic replay window.
    pub fn new(peer: HostPort) -> Self {
        Self { peer, replay: None, max_message: None, tls: None }
    }
}

/// Whom to trust over TLS, and who we are.
#[derive(Clone, Debug, Default)]
pub struct TlsTarget {
    /// `#servername=`: the name that the certificate must have, where it is not the host's.
    pub servername: Option<String>,
    /// `#ca=`: root certificates beside the platform's: a PEM file, already read.
    pub ca_pem: Option<Vec<u8>>,
    /// `#cert=` and `#key=`: our own certificate. The files are read again after a refusal, as they may be rotated.
    pub identity: Option<Identity>,
    /// `#fingerprint=`: SHA-256 of the only certificate that is taken, whoever issued it and whatever name it has.
    pub fingerprint: Option<[u8; 32]>,
}

/// A client certificate.
#[derive(Clone, Debug)]
pub struct Identity {
    /// PEM: the certificate, then those between it and a root.
    pub cert: PathBuf,
    /// PEM: its key.
    pub key: PathBuf,
}

/// A RELP receiver.
#[derive(Clone, Debug)]
pub struct RelpTarget {
    /// Where to connect.
    pub peer: HostPort,
    /// TLS over it.
    pub tls: Option<TlsTarget>,
    /// `#max-message=`: longest message in bytes. Receivers cut longer ones and confirm them all the same,
    /// so longer lines travel in pieces.
    pub max_message: usize,
    /// `#window=`: messages without an answer at a time.
    pub window: usize,
}

impl RelpTarget {
    /// Plain, with rsyslog's limit of 8 KiB and librelp's window of 128.
    pub fn new(peer: HostPort) -> Self {
        Self { peer, tls: None, max_message: 8 << 10, window: 128 }
    }
}

/// A file to append to.
#[derive(Clone, Debug)]
pub struct FileTarget {
    /// Where it is.
    pub path: PathBuf,
    /// `#rotate=`: a file of this many bytes is set aside.
    pub rotate: Option<u64>,
    /// `#rotate-age=`: so is one that was opened this long ago.
    pub rotate_age: Option<Duration>,
    /// `#keep=`: files set aside that are kept.
    pub keep: usize,
    /// `#compress=`: files set aside are compressed.
    pub compress: bool,
    /// `#mode=`: permissions of a new file.
    pub mode: u32,
}

impl FileTarget {
    /// Never rotated.
    pub fn new(path: PathBuf) -> Self {
        Self { path, rotate: None, rotate_age: None, keep: 5, compress: true, mode: 0o640 }
    }
}
