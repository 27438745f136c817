//! What the app leaves behind: it is read, told, heard out, and bounded, to the line.

use crate::support::{
    http::{Act, HttpSink},
    judge::Terms,
    ms,
    pair::Pair,
    until,
    wrapper::Setup,
};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_daemon_that_outlives_the_app_is_read_to_its_end_9() {
    for kind in ["--daemon", "--child"] {
        for pid1 in [false, true] {
            let pair = Pair::start();
            let setup = pair.setup().pid1(pid1);
            let mut command = setup.oracle("--count 5 --rate 0 --exit 7");
            let record = setup.path("record");
            command.extend([kind.into(), format!("--record {} --source d --count 20 --rate 40", record.display())]);
            let done = setup.start(&command).finish(LIMIT);
            assert_eq!((done.code(), done.record.done()), (7, 25), "{kind}, stderr: {}", done.err());
            pair.acquit(&done);
        }
    }
}

#[test]
fn a_daemon_with_a_slow_goodbye_is_told_of_the_end_and_heard_out() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let setup = pair.setup().pid1(pid1).stop_timeout(10);
        let mut command = setup.oracle("--on-term goodbye:100");
        let record = setup.path("record");
        let daemon = format!("--record {} --source d --on-term goodbye:1500", record.display());
        command.extend(["--daemon".into(), daemon]);
        let mut run = setup.start(&command);
        until("both to write", LIMIT, || run.record().sources.values().filter(|extent| extent.done > 3).count() == 2);
        run.stop();
        let done = run.finish(Duration::from_secs(10));
        assert_eq!(done.code(), 0, "stderr: {}", done.err());
        done.all_said_goodbye();
        pair.acquit(&done);
    }
}

#[test]
fn a_daemon_that_ignores_everything_does_not_keep_us() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let setup = pair.setup().pid1(pid1).stop_timeout(5);
        let mut command = setup.oracle("--on-term goodbye:0 --exit 6");
        let record = setup.path("record");
        command.extend(["--daemon".into(), format!("--record {} --source d --on-term ignore", record.display())]);
        let mut run = setup.start(&command);
        until("both to write", LIMIT, || run.record().sources.values().filter(|extent| extent.done > 3).count() == 2);
        run.stop();
        let done = run.finish(Duration::from_secs(5));
        assert_eq!(done.code(), 6, "stderr: {}", done.err());
        pair.acquit(&done);
    }
}

#[test]
fn a_leftover_of_an_app_that_ended_by_itself_is_bounded_without_any_stop() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let setup = pair.setup().pid1(pid1);
        let mut command = setup.oracle("--count 3 --rate 0 --exit 6");
        let record = setup.path("record");
        command.extend(["--daemon".into(), format!("--record {} --source d --on-term ignore", record.display())]);
        let done = setup.start(&command).finish(Duration::from_secs(15));
        assert_eq!(done.code(), 6, "stderr: {}", done.err());
        pair.acquit(&done);
    }
}

#[test]
fn a_daemon_that_is_waited_for_is_blocked_by_a_full_queue_as_the_app_is_and_loses_nothing_41() {
    for pid1 in [false, true] {
        let slow = HttpSink::start(|_, _| Act::TakeSlowly(ms(100)));
        let setup = Setup::new().drain(&slow.url("slow")).pid1(pid1).flags(["--leftovers", "wait"]);
        let setup = setup.flags(["--memory", "2MiB", "--when-full", "block"]);
        let mut command = setup.oracle("--count 5 --rate 0 --exit 7");
        let record = setup.path("record");
        let daemon = "--source d --count 30000 --rate 0 --batch 20 --shape f200";
        command.extend(["--daemon".into(), format!("--record {} {daemon}", record.display())]);
        let done = setup.start(&command).finish(Duration::from_secs(60));
        assert_eq!((done.code(), done.record.done()), (7, 30_005), "pid1 {pid1}; stderr: {}", done.err());
        done.acquit_passthrough();
        done.acquit("slow", &slow.collect(), Terms { confirmed: true, ..Terms::default() });
    }
}
