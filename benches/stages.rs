//! Stages of the data path, one by one, each over 256 KiB of lines.
//!
//! ```text
//! cargo bench --bench stages
//! ```
//!
//! `publish` and `queue` do their work once a batch, so their prices by the line are fractions of a nanosecond.
#![expect(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

use divan::{
    Bencher, black_box,
    counter::{BytesCount, ItemsCount},
};
use lastword::{
    drain::bench::{Packer, Queues},
    format::{Format, Instance, Origin, syslog::Framing},
    line::{Batch, Framer, Lines, Stamp, Stream},
};
use std::sync::Arc;

const SIZES: [usize; 3] = [20, 200, 2000];

fn main() {
    divan::main();
}

/// 256 KiB of lines of `size` bytes, newline included, as a web server would write them.
fn text(size: usize) -> Vec<u8> {
    let words = br#"10.1.2.3 - - "GET /cart/7 HTTP/1.1" 200 512 "Mozilla/5.0" 0.003s "#;
    let mut line: Vec<u8> = words.iter().copied().cycle().take(size - 1).collect();
    line.push(b'\n');
    line.repeat((256 << 10) / size)
}

fn lines(size: usize) -> Lines {
    Framer::new(64 << 10).push(&text(size)).unwrap()
}

fn batch(size: usize) -> Arc<Batch> {
    Arc::new(Batch::new(Stream::Stdout, 1_000_000, Stamp(1_767_323_045_678_901_234), lines(size)))
}

fn items(size: usize) -> ItemsCount {
    ItemsCount::new((256 << 10) / size)
}

#[divan::bench(args = SIZES)]
fn frame(bencher: Bencher<'_, '_>, size: usize) {
    let text = text(size);
    let mut framer = Framer::new(64 << 10);
    let counted = bencher.counter(items(size)).counter(BytesCount::new(text.len()));
    counted.bench_local(|| framer.push(black_box(&text)));
}

/// A batch from one reader into the queues of `drains` drains, and out of them again.
fn publish_to(bencher: Bencher<'_, '_>, drains: usize, size: usize) {
    let queues = Queues::new(drains);
    let lines = lines(size);
    let mut seq = 1;
    bencher.counter(items(size)).with_inputs(|| lines.clone()).bench_local_values(|lines| {
        let batch = Arc::new(Batch::new(Stream::Stdout, seq, Stamp(0), lines));
        seq += batch.len() as u64;
        queues.publish(&batch);
        assert_eq!(queues.settle(), (batch.len() * drains) as u64, "all settled");
    });
}

#[divan::bench(args = SIZES)]
fn publish_to_one_and_settle(bencher: Bencher<'_, '_>, size: usize) {
    publish_to(bencher, 1, size);
}

#[divan::bench(args = SIZES)]
fn publish_to_three_and_settle(bencher: Bencher<'_, '_>, size: usize) {
    publish_to(bencher, 3, size);
}

fn encode(bencher: Bencher<'_, '_>, format: Format, size: usize) {
    let origin = Origin {
        host: "web-7".into(),
        app: "shop".into(),
        instance: Instance::known("4121"),
        run: "01980c5e-7d3a-7cc2-b1a3-6f0c1e2d3a4b".into(),
        labels: Vec::new(),
    };
    let (mut packer, batch) = (Packer::new(format, origin), batch(size));
    bencher.counter(items(size)).bench_local(|| packer.pack(black_box(&batch)));
}

#[divan::bench(args = SIZES)]
fn encode_ndjson(bencher: Bencher<'_, '_>, size: usize) {
    encode(bencher, Format::Ndjson, size);
}

#[divan::bench(args = SIZES)]
fn encode_syslog_counted(bencher: Bencher<'_, '_>, size: usize) {
    encode(bencher, Format::Syslog(Framing::Counted), size);
}

#[divan::bench(args = SIZES)]
fn encode_raw(bencher: Bencher<'_, '_>, size: usize) {
    encode(bencher, Format::Raw, size);
}
