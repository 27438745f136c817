//! Drains over real TCP: the loop, the transport and a small memory together.

use super::{Drains, testing};
use crate::{
    clock,
    config::{DrainSpec, HostPort, Target, TcpTarget, WhenFull},
    event::Bell,
    format::Format,
    line::{Batch, Lines, Stamp, Stream},
};
use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    sync::Arc,
    thread,
    time::Duration,
};

fn lines(first: u64, count: u64, length: usize) -> Arc<Batch> {
    let (mut data, mut ends) = (Vec::new(), Vec::new());
    for seq in first..first + count {
        let mut line = format!("line {seq} ").into_bytes();
        line.resize(length - 1, b'.');
        line.push(b'\n');
        data.extend_from_slice(&line);
        ends.push(u32::try_from(data.len()).unwrap());
    }
    Arc::new(Batch::new(Stream::Stdout, first, Stamp(1), Lines { data: data.into(), ends, parts: Vec::new() }))
}

#[test]
fn a_small_memory_neither_stalls_nor_loses() {
    for (memory, length, count) in [(2 << 20, 200, 50_000), (64 << 10, 200, 20_000), (128 << 10, 60_000, 300)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let receiver = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            BufReader::new(stream).lines().map_while(Result::ok).count() as u64
        });
        let peer = HostPort { host: "127.0.0.1".into(), port };
        let target = Target::Tcp(TcpTarget { peer, replay: None });
        let spec = DrainSpec { name: "tcp".into(), url: String::new(), format: Format::Raw, target, stream: None };
        let bell = Bell::new().unwrap();
        let drains = Drains::start(&[spec], &testing::config(memory, WhenFull::Block), &bell).unwrap();
        let start = clock::now();
        let batch = (20_000 / length as u64).max(1);
        for first in (1..=count).step_by(usize::try_from(batch).unwrap()) {
            let batch = lines(first, batch.min(count + 1 - first), length);
            drains.wait_for_room(batch.bytes_between(0, batch.len()));
            drains.publish(&batch);
        }
        drains.close(clock::now() + Duration::from_secs(20));
        while bell.take().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", drains.counts());
            thread::yield_now();
        }
        let report = &drains.close_books()[0];
        assert_eq!(report.counts.confirmed, count, "{report:?}");
        assert_eq!(receiver.join().unwrap(), count);
        assert!(start.elapsed() < Duration::from_secs(4), "stalled for {:?} with {memory} bytes", start.elapsed());
    }
}
