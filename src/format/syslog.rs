//! x
/// How messages are told apart on a stream (RFC 6587), or that datagrams do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `MSG-LEN SP SYSLOG-MSG` (§3.4.1).
    Counted,
    /// A trailing LF (§3.4.2).
    Lf,
    /// One message a datagram (RFC 5426).
    Datagram,
}
