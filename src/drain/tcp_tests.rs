//! Drains over real TCP: the loop, the transport and a small memory together.

use super::{Drains, testing};
use crate::{
    clock,
    config::{DrainSpec, HostPort, Target, TcpTarget, WhenFull},
    event::Bell,
    format::Format,
    ledger::{DrainReport, Loss},
    line::{Batch, Lines, Stamp, Stream},
};
use std::{
    io::{BufRead, BufReader, Read},
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
        let target = Target::Tcp(TcpTarget::new(peer));
        let spec = DrainSpec { name: "tcp".into(), url: String::new(), format: Format::Raw, target, stream: None };
        let bell = Bell::new().unwrap();
        // An eighth is left to the allocator.
        let drains = Drains::start(&[spec], &testing::config(memory / 7 * 8, WhenFull::Block), &bell).unwrap();
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
        // Alone it takes 2 s, for the peer acknowledges late when so little is under way; a wait of 200 ms a window would take 14.
        assert!(start.elapsed() < Duration::from_secs(10), "stalled for {:?} with {memory} bytes", start.elapsed());
    }
}

/// A drain of one TCP target, with what it said at its end.
fn books_of(port: u16, replay: Option<u64>, memory: usize, feed: impl FnOnce(&Drains), time: Duration) -> DrainReport {
    let peer = HostPort { host: "127.0.0.1".into(), port };
    let target = Target::Tcp(TcpTarget { replay, ..TcpTarget::new(peer) });
    let spec = DrainSpec { name: "tcp".into(), url: String::new(), format: Format::Raw, target, stream: None };
    let bell = Bell::new().unwrap();
    let drains = Drains::start(&[spec], &testing::config(memory, WhenFull::Block), &bell).unwrap();
    feed(&drains);
    let start = clock::now();
    drains.close(start + time);
    while bell.take().is_empty() {
        assert!(start.elapsed() < time + Duration::from_secs(5), "{:?}", drains.counts());
        thread::yield_now();
    }
    drains.close_books().remove(0)
}

#[test]
fn items_larger_than_a_replay_window_leaves_free_are_sent_all_the_same() {
    // 128 KiB are 32 KiB in flight, of which 24 KiB are the window's: two items of 20 KB are more than that.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let receiver = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        BufReader::new(stream).lines().map_while(Result::ok).count() as u64
    });
    let start = clock::now();
    let feed = |drains: &Drains| {
        for first in 1..=100 {
            let batch = lines(first, 1, 20_000);
            drains.wait_for_room(20_000);
            drains.publish(&batch);
        }
    };
    let report = books_of(port, Some(1 << 20), 128 << 10, feed, Duration::from_secs(20));
    assert_eq!((report.counts.confirmed, receiver.join().unwrap()), (100, 100), "{report:?}");
    assert!(start.elapsed() < Duration::from_secs(4), "stalled for {:?}", start.elapsed());
}

#[test]
fn what_a_peer_acknowledged_is_accepted_when_time_ends_in_the_midst_of_a_send() {
    // It never reads: its kernel acknowledges what its buffer holds, and the send of the rest hangs until the end.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let feed = |drains: &Drains| drains.publish(&lines(1, 60_000, 200));
    let report = books_of(port, None, 32 << 20, feed, Duration::from_secs(1));
    let (counts, lost) = (report.counts, report.counts.lost.of(Loss::Deadline));
    assert!(counts.accepted > 100 && lost > 100, "did not meet its subject: {report:?}");
    assert_eq!(counts.accepted + lost, 60_000);
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    let got = got.iter().filter(|&&byte| byte == b'\n').count() as u64;
    assert!(counts.accepted <= got, "{} accepted, {got} arrived", counts.accepted);
}
