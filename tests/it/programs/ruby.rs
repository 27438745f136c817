//! Ruby: a signal is an exception, and `ensure` and `at_exit` have the last word.

use crate::support::{
    judge::{Terms, judge},
    ms, note,
    pair::Pair,
    stops::{Case, side_by_side, stop_all, within_budget},
    tools, until,
};
use nix::sys::signal::Signal;
use std::time::Duration;

fn ruby(way: &str) -> Vec<String> {
    let program = tools::program("/usr/bin/ruby", "ruby");
    vec![program.into(), tools::fixture("last_words.rb"), way.into()]
}

#[test]
fn ensure_and_at_exit_of_ruby_both_have_their_last_lines() {
    // Ruby ends itself with the signal once they are done.
    stop_all(&Case { name: "ensure", command: |_| ruby("ensure"), code: 143, ..Case::default() }, 10);
}

#[test]
fn an_ensure_that_never_ends_or_a_trap_that_ignores_the_stop_is_killed_on_a_stated_budget_with_all_its_lines_delivered()
{
    side_by_side(3, 6, |index| {
        let (way, pid1) = (["endless", "deaf", "ignore"][index as usize / 2], index % 2 == 1);
        let pair = Pair::start();
        let mut run = pair.setup().pid1(pid1).stop_timeout(3).start(&ruby(way));
        run.wrote(3);
        run.stop();
        let done = run.finish(Duration::from_secs(3));
        let context = format!("{way}, pid1 {pid1}");
        assert_eq!(done.code(), 137, "{context}; stderr: {}", done.err());
        within_budget(&done, 3, &context);
        assert!(done.record.done() > 15, "{context}: it wrote {}", done.record.done());
        pair.acquit(&done);
    });
}

#[test]
fn what_a_deaf_ruby_wrote_is_out_before_the_platforms_sigkill_on_an_assumed_budget_46() {
    // Railway's three seconds are known by a variable, the ten of any other platform by none.
    let cases = [("endless", 3), ("deaf", 3), ("ignore", 3), ("endless", 10)];
    side_by_side(4, 4, |index| killed_by_the_platform(cases[index as usize]));
}

fn killed_by_the_platform((way, seconds): (&str, u64)) {
    let pair = Pair::start();
    let setup = pair.setup().pid1(true);
    let setup = if seconds == 3 { setup.env("RAILWAY_PROJECT_ID", "test") } else { setup };
    let mut run = setup.start(&ruby(way));
    run.wrote(3);
    run.stop();
    let stopped = lastword::clock::now();
    let mut promised = run.record();
    until("lastword to flush before the platform's time is over", ms(seconds * 1000), || {
        let flushed = String::from_utf8_lossy(&run.stderr()).contains("not killed on an assumed budget");
        promised = if flushed { promised.clone() } else { run.record() };
        flushed
    });
    until("the platform's time", ms(seconds * 1000 + 500), || stopped.elapsed() >= Duration::from_secs(seconds));
    run.signal(Signal::SIGKILL);
    let done = run.finish(Duration::from_secs(5));
    let written = done.record.done();
    assert!(promised.done() > 10 && written > promised.done(), "{way}: {written} after {}", promised.done());
    // What was written by then must be there; of what came later, nothing but what was written.
    for (source, extent) in &mut promised.sources {
        extent.begun = done.record.sources[source].begun;
    }
    let terms = Terms { broken: true, duplicates: u64::MAX, ..Terms::default() };
    for (name, seen) in [("http", pair.http.collect()), ("tcp", pair.tcp.collect())] {
        let facts = judge(&promised, None, &seen, terms).unwrap_or_else(|found| panic!("{way}, {name}: {found:?}"));
        note(&format!("{way}, {seconds} s, {name}: {} of {written} lines at the SIGKILL", facts.lines));
    }
}
