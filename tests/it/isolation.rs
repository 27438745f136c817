//! One drain's trouble is its own: neither the app nor the other drains, nor the flush at the end, take slow for dead.

use crate::support::{
    judge::Terms,
    tcp::{Plan, Reading, TcpSink},
    wrapper::Setup,
};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_slow_receiver_is_not_taken_for_one_that_hangs() {
    // With a spool, a flush in which nothing gets on ends after two seconds. Nothing settles in the first five here:
    // so young are bytes in the replay window.
    let slow = TcpSink::start(Plan { reading: Reading::Slow(2048), deaths: Vec::new() });
    let setup = Setup::loud().drain(&slow.url("slow"));
    let spool = setup.path("spool").display().to_string();
    let done = setup.flags(["--spool", &spool]).start_oracle("--count 2600 --rate 0 --batch 100 --shape f200");
    let done = done.finish(LIMIT);
    assert!(done.took > Duration::from_millis(2500), "that was not slow: {:?}", done.took);
    let facts = done.acquit("slow", &slow.collect(), Terms::default());
    assert_eq!(facts.lines, 2600, "{}", done.err());
}
