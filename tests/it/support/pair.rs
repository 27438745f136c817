//! The usual two drains: a healthy syslog receiver on TCP and a healthy HTTP one.

use super::{
    http::HttpSink,
    judge::Terms,
    tcp::{Plan, TcpSink},
    wrapper::{Finished, Setup},
};

/// Two healthy receivers.
pub struct Pair {
    /// The drain called `tcp`.
    pub tcp: TcpSink,
    /// The drain called `http`.
    pub http: HttpSink,
}

impl Pair {
    /// Starts both.
    pub fn start() -> Self {
        Self { tcp: TcpSink::start(Plan::default()), http: HttpSink::healthy() }
    }

    /// A run that ships to both.
    pub fn setup(&self) -> Setup {
        Setup::new().drain(&self.tcp.url("tcp")).drain(&self.http.url("http"))
    }

    /// Both got everything, once, and said so; so did whoever reads our standard output.
    #[track_caller]
    pub fn acquit(self, done: &Finished) {
        done.acquit_passthrough();
        self.acquit_drains(done, Terms { confirmed: true, ..Terms::default() });
    }

    /// As [`Pair::acquit`], but on other terms and without the pass-through.
    #[track_caller]
    pub fn acquit_drains(self, done: &Finished, terms: Terms) {
        done.acquit("http", &self.http.collect(), terms);
        done.acquit("tcp", &self.tcp.collect(), terms);
    }
}
