//! `lastword sink`: receivers for trying things out, HTTP and syslog over TCP and UDP, printing each line that comes.
//!
//! It listens on loopback unless told otherwise: there is no password. Each line is handled before it is acknowledged, one
//! after the other, so a stdout that takes nothing (Ctrl-S) stops the senders and no line is kept in memory.

mod frame;
mod http;
mod parse;
mod server;
mod syslog;

pub use parse::Received;
pub use server::{Event, ListenError, Sink, SinkCounts, Source};

use super::signals;
use crate::{format::thousands, say};
use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc::{SyncSender, sync_channel},
    time::Duration,
};

/// Where to listen. Port 0 takes any free one; `None` leaves the receiver out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkOptions {
    /// `--http`.
    pub http: Option<SocketAddr>,
    /// `--tcp`: syslog, counted or with LF, told apart frame by frame.
    pub tcp: Option<SocketAddr>,
    /// `--udp`: syslog.
    pub udp: Option<SocketAddr>,
}

impl Default for SinkOptions {
    fn default() -> Self {
        let loopback = |port| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Self { http: loopback(8080), tcp: loopback(5140), udp: loopback(5140) }
    }
}

impl SinkOptions {
    /// All receivers on loopback, on ports that are free.
    pub fn ephemeral() -> Self {
        let any = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Self { http: any, tcp: any, udp: any }
    }
}

/// How long connections may finish what they are sending after Ctrl-C.
const GRACE: Duration = Duration::from_millis(300);

/// Runs the command until Ctrl-C, SIGTERM, or a closed stdout. Returns the exit code: 0, or 125 if it cannot listen.
pub fn run(options: &SinkOptions) -> u8 {
    let (end, ended) = sync_channel::<()>(1);
    let on_signal = end.clone();
    let sink = signals::forward(move |_| ring(&on_signal))
        .map_err(|error| error.to_string())
        .and_then(|()| Sink::start(options, printer(end)).map_err(|error| error.to_string()));
    let sink = match sink {
        Ok(sink) => sink,
        Err(error) => {
            say!("sink: {error}");
            return 125;
        }
    };
    greet(&sink);
    let _ = ended.recv();
    let counts = sink.stop(GRACE);
    say!(
        "sink: lines received: http {}, tcp {}, udp {}",
        thousands(counts.http),
        thousands(counts.tcp),
        thousands(counts.udp)
    );
    0
}

/// Rings once; a bell that has rung already is not waited for.
fn ring(bell: &SyncSender<()>) {
    let _ = bell.try_send(());
}

/// Says how to reach the sink, on stderr, so that stdout has nothing but lines.
fn greet(sink: &Sink) {
    say!("sink: listening; send lines here, end with Ctrl-C");
    for (source, address) in sink.addresses() {
        say!("sink:   --drain {}", source.url(*address));
        if !address.ip().is_loopback() {
            say!("sink:   warning: {address} can be reached from other machines, and anyone may send");
        }
    }
}

/// Prints what comes, until stdout is closed.
fn printer(closed: SyncSender<()>) -> impl FnMut(Event) + Send {
    let is_terminal = io::stdout().is_terminal();
    let mut line = String::new();
    move |event| match event {
        Event::Line(received) => {
            line.clear();
            describe(&received, is_terminal, &mut line);
            let mut stdout = io::stdout().lock();
            if stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).is_err() {
                ring(&closed);
            }
        }
        Event::Trouble(text) => say!("sink: {text}"),
    }
}

/// `http  stdout       42  GET /cart 200`. On a terminal, control characters are shown instead of obeyed.
fn describe(received: &Received, is_terminal: bool, line: &mut String) {
    let seq = received.seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string());
    let stream = received.stream.as_deref().unwrap_or("-");
    let _ = write!(line, "{:<4}  {stream:<8} {seq:>7}  ", received.source.name());
    for letter in String::from_utf8_lossy(&received.text).chars() {
        if letter == '\n' || (is_terminal && letter.is_control() && letter != '\t') {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_with_its_source_stream_and_number() {
        let mut received = Received::text_only(Source::Http, b"GET /cart \x1b[31m200\nmore".to_vec());
        let mut line = String::new();
        describe(&received, true, &mut line);
        assert_eq!(line, "http  -              -  GET /cart \\u{1b}[31m200\\nmore\n");
        (received.seq, received.stream) = (Some(42), Some("stdout".into()));
        line.clear();
        describe(&received, false, &mut line);
        assert_eq!(line, "http  stdout        42  GET /cart \x1b[31m200\\nmore\n");
    }

    #[test]
    fn the_urls_are_ready_to_paste() {
        let sink = Sink::start(&SinkOptions::ephemeral(), |_| {}).unwrap();
        let urls: Vec<_> = sink.addresses().iter().map(|(source, address)| source.url(*address)).collect();
        assert!(urls[0].starts_with("http://127.0.0.1:") && urls[0].ends_with('/'), "{urls:?}");
        assert!(urls[1].starts_with("syslog+tcp://127.0.0.1:"), "{urls:?}");
        assert!(urls[2].starts_with("syslog+udp://127.0.0.1:"), "{urls:?}");
        assert!(urls.iter().all(|url| url::Url::parse(url).unwrap().port() != Some(0)), "{urls:?}");
    }
}
