//! A drain without an app: lines go in by hand, real sockets are behind it.

use super::{
    lines::{Shape, line},
    record::{Extent, Record},
    report::Books,
    until,
};
use lastword::{
    clock,
    config::{self, Invocation},
    drain::{Condition, DrainStatus, Drains},
    event::Bell,
    ledger::DrainReport,
    line::{Batch, Lines, Stream},
};
use std::{ffi::OsString, sync::Arc, time::Duration};

const SECOND: Duration = Duration::from_secs(1);

/// A drain in this process.
pub struct Drain {
    drains: Drains,
    bell: Bell,
    /// Number of the next line.
    pub next: u64,
}

impl Drain {
    /// With a memory of 2 MiB that blocks when it is full.
    pub fn start(url: &str) -> Self {
        let words =
            ["lastword", "--drain", url, "--memory", "2MiB", "--when-full", "block", "--", "app"].map(OsString::from);
        let config = match config::load(words, []) {
            Ok(Invocation::Run(config)) => config,
            Ok(other) => panic!("{other:?}"),
            Err(exit) => panic!("{}", exit.message),
        };
        config.origin.instance.tell("1");
        let bell = Bell::new().expect("an eventfd");
        let drains = Drains::start(&config.drains, &config, &bell).expect("a thread");
        Self { drains, bell, next: 1 }
    }

    /// Publishes the next lines.
    pub fn write(&mut self, count: u64, shape: Shape) {
        let (mut data, mut ends) = (Vec::new(), Vec::new());
        for number in self.next..self.next + count {
            data.extend(line("app", 'o', shape, number));
            data.push(b'\n');
            ends.push(data.len() as u32);
        }
        let lines = Lines { data: data.into(), ends, parts: Vec::new() };
        self.drains.publish(&Arc::new(Batch::new(Stream::Stdout, self.next, clock::stamp(), lines)));
        self.next += count;
    }

    /// Waits until so many bytes find room.
    pub fn wait_for_room(&self, bytes: usize) {
        self.drains.wait_for_room(bytes);
    }

    /// The reason why it is held, once it is.
    #[track_caller]
    pub fn held(&self) -> String {
        until("the drain to be held", 20 * SECOND, || self.status().state == Condition::Held);
        self.status().trouble.expect("a held drain has a reason")
    }

    /// How it is doing.
    pub fn status(&self) -> DrainStatus {
        self.drains.statuses().remove(0)
    }

    /// Flushes, and closes the books.
    pub fn finish(self, within: Duration) -> (Books, Record, DrainReport) {
        self.drains.close(clock::now() + within);
        until("the drain to end", within + 5 * SECOND, || !self.bell.take().is_empty());
        let report = self.drains.close_books().remove(0);
        let books = serde_json::to_value(&report).and_then(serde_json::from_value).expect("a report");
        let written = self.next - 1;
        let extent = Extent { done: written, begun: written };
        let record = Record { sources: [(("app".to_owned(), 'o'), extent)].into(), ..Record::default() };
        (books, record, report)
    }
}
