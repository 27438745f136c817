//! Stages of the data path, one by one.
//!
//! ```text
//! cargo bench --bench stages
//! ```

use divan::{Bencher, counter::ItemsCount};
use lastword::line::Framer;

fn main() {
    divan::main();
}

/// 256 KiB of lines of `size` bytes.
fn text(size: usize) -> Vec<u8> {
    let mut line = vec![b'x'; size - 1];
    line.push(b'\n');
    line.repeat((256 << 10) / size)
}

#[divan::bench(args = [20, 200, 2000])]
fn frame(bencher: Bencher<'_, '_>, size: usize) {
    let text = text(size);
    let mut framer = Framer::new(64 << 10);
    bencher.counter(ItemsCount::new(text.len() / size)).bench_local(|| framer.push(divan::black_box(&text)));
}
