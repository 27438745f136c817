//! The usual two drains: a healthy syslog receiver on TCP and a healthy HTTP one.

use super::{
    http::HttpSink,
    judge::{Seen, Terms},
    tcp::{Plan, TcpSink},
    wrapper::{Finished, Setup, without_own},
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

    /// For apps that keep no record: each drain got, per stream, exactly the lines that were passed through, and among
    /// them these words.
    #[track_caller]
    pub fn acquit_foreign(self, done: &Finished, must_say: &[&str]) {
        for (name, seen) in [("http", self.http.collect()), ("tcp", self.tcp.collect())] {
            for (stream, passed) in [('o', done.stdout.clone()), ('e', without_own(&done.stderr))] {
                let passed = String::from_utf8_lossy(&passed).into_owned();
                assert_eq!(text(&seen, Some(stream)), passed.trim_end_matches('\n'), "{name}, {stream}");
            }
            let books = done.report.as_ref().expect("a report").of(name);
            assert_eq!((books.read, books.confirmed), (seen.units.len() as u64, books.read), "{books:?}");
            let all = text(&seen, None);
            for word in must_say {
                assert!(all.contains(word), "{name} did not get {word:?}:\n{all}");
            }
        }
    }
}

/// The lines of a stream, or of both.
fn text(seen: &Seen, stream: Option<char>) -> String {
    let units = seen.units.iter().filter(|unit| stream.is_none() || unit.stream == stream);
    units.map(|unit| String::from_utf8_lossy(&unit.text).into_owned()).collect::<Vec<_>>().join("\n")
}
