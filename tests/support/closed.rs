//! A port of ours on which nobody listens: connections are refused, and no other test can be given it meanwhile, as it
//! could be if the port were only looked up and let go.

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, setsockopt, socket, sockopt,
};
use std::{
    fmt,
    net::{SocketAddr, SocketAddrV4, TcpListener},
    os::fd::{AsRawFd, OwnedFd},
};

/// A port that is taken and refuses.
#[derive(Debug)]
pub(crate) struct Closed(OwnedFd);

impl Closed {
    /// On loopback.
    pub(crate) fn port() -> Self {
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        setsockopt(&fd, sockopt::ReuseAddr, &true).expect("an option");
        bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("a free port");
        Self(fd)
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        let name: SockaddrIn = getsockname(self.0.as_raw_fd()).expect("it is bound");
        SocketAddr::V4(SocketAddrV4::from(name))
    }

    /// From now on somebody listens.
    pub(crate) fn open(self) -> TcpListener {
        listen(&self.0, Backlog::new(128).expect("a length")).expect("it is bound");
        TcpListener::from(self.0)
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}
