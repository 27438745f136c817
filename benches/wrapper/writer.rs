//! The app: this very binary, as a writer of lines.

use crate::percentile;
use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

/// How a writer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Blocks of up to 64 KiB, without a pause.
    Blocks,
    /// One write(2) a line, without a pause.
    Lines,
    /// Blocks, 100 MB a second.
    PacedBlocks,
    /// One write(2) a line, a pause after each that is long enough to make it a batch of its own.
    PacedLines,
}

impl Pace {
    pub(crate) const ALL: [Self; 4] = [Self::Blocks, Self::Lines, Self::PacedBlocks, Self::PacedLines];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Blocks => "64 KiB blocks",
            Self::Lines => "one a line",
            Self::PacedBlocks => "64 KiB blocks, 100 MB/s",
            Self::PacedLines => "one a line, paced",
        }
    }

    const fn block(self) -> usize {
        match self {
            Self::Blocks | Self::PacedBlocks => 64 << 10,
            Self::Lines | Self::PacedLines => 1,
        }
    }

    const fn pause(self) -> Option<Duration> {
        match self {
            Self::Blocks | Self::Lines => None,
            Self::PacedBlocks => Some(Duration::from_micros(655)),
            Self::PacedLines => Some(Duration::from_micros(100)),
        }
    }
}

/// The arguments that make this binary a writer.
pub(crate) fn arguments(size: usize, count: usize, pace: Pace) -> [String; 4] {
    ["writer".into(), size.to_string(), count.to_string(), pace.name().into()]
}

/// Writes as the arguments say; a paced writer says on stderr how long its writes took.
pub(crate) fn run(args: &[String]) {
    let (size, mut left): (usize, usize) = (args[1].parse().unwrap(), args[2].parse().unwrap());
    let pace = Pace::ALL.into_iter().find(|pace| pace.name() == args[3]).unwrap();
    let mut line = vec![b'x'; size - 1];
    line.push(b'\n');
    let per_write = (pace.block() / size).max(1);
    let block = line.repeat(per_write);
    let mut out = std::io::stdout().lock();
    let mut times = Vec::new();
    while left > 0 {
        let lines = left.min(per_write);
        let begin = pace.pause().map(|_| Instant::now());
        // One write(2) each: std's line writer passes a block that ends in a newline through whole.
        out.write_all(&block[..lines * size]).unwrap();
        left -= lines;
        if let (Some(begin), Some(pause)) = (begin, pace.pause()) {
            times.push(begin.elapsed().as_secs_f64() * 1e6);
            thread::sleep(pause.saturating_sub(begin.elapsed()));
        }
    }
    if !times.is_empty() {
        let [middle, high] = [0.5, 0.99].map(|share| percentile(&mut times, share));
        eprintln!("writes {middle:.1} {high:.1}");
    }
}
