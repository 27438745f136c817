//! The oracle itself, without lastword: the writers keep true records, the receivers really fail, the judge convicts a
//! sender that loses.

use crate::support::{
    judge::{Seen, Terms, Violation, judge},
    lines::{Shape, line},
    ms,
    record::{Extent, Record},
    report::Books,
    seed,
    tcp::{Death, Plan, Reading, TcpSink},
    tools, until,
    wrapper::raw,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

fn lines_of(command: &mut Command, record: &Path, kill_after: Option<Duration>) -> (Record, Seen) {
    command.env("RECORD", record).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let mut stdout = child.stdout.take().expect("piped");
        let mut stderr = child.stderr.take().expect("piped");
        let (out, err) = (&mut out, &mut err);
        scope.spawn(move || stdout.read_to_end(out));
        scope.spawn(move || stderr.read_to_end(err));
        if let Some(time) = kill_after {
            until("the writer to begin", ms(20_000), || Record::read(record).is_ok_and(|record| record.done() > 20));
            crate::support::pause(time);
            child.kill().expect("our own child");
        }
        child.wait().expect("our own child");
    });
    let mut seen = raw(&out, 'o');
    seen.units.extend(raw(&err, 'e').units);
    (Record::read(record).expect("a readable record"), seen)
}

#[test]
fn the_test_app_writes_what_it_records_in_every_shape() {
    for shape in ["p", "f200", "e", "h", "u"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(tools::oracle_app());
        command.arg("--record").arg(dir.path());
        command.args(["--count", "1000", "--rate", "0", "--err-every", "3", "--shape", shape, "--no-newline"]);
        let (record, seen) = lines_of(&mut command, dir.path(), None);
        let facts = judge(&record, None, &seen, Terms::default()).expect("a clean case");
        assert_eq!((record.done(), facts.lines), (1000, 1000), "{shape}");
        assert_eq!(record.goodbyes, ["app"]);
    }
}

#[test]
fn the_record_is_true_to_the_line_when_the_test_app_is_killed() {
    let seed = seed("oracle killed");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..20 {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(tools::oracle_app());
        command.arg("--record").arg(dir.path()).args(["--rate", "0", "--shape", "f200"]);
        let (record, seen) = lines_of(&mut command, dir.path(), Some(ms(random.random_range(0..10))));
        let facts = judge(&record, None, &seen, Terms::default()).expect("a clean case");
        assert!(facts.lines > 20 && record.goodbyes.is_empty());
    }
}

#[test]
fn the_python_and_node_writers_keep_the_same_record() {
    for (program, script) in [(tools::python(), "worker.py"), (tools::node(), "app.js")] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(program);
        command.arg(tools::fixture(script));
        let (record, seen) = lines_of(&mut command, dir.path(), Some(ms(50)));
        let facts = judge(&record, None, &seen, Terms::default()).expect("a clean case");
        assert!(facts.lines > 20 && record.ready.len() == 1, "{record:?}");
    }
}

/// Sends `lines` syslog messages as a naive sender does: reconnects after an error and goes on.
fn send_naively(sink: &TcpSink, lines: u64) -> Record {
    let address = sink.url("x").trim_start_matches("syslog+tcp://").replace("#name=x", "");
    let mut stream = None;
    for number in 1..=lines {
        let mut message =
            format!(r#"<14>1 2026-01-02T03:04:05.678901Z - - - stdout [lastword@32473 seq="{number}"] "#).into_bytes();
        message.extend(line("app", 'o', Shape::Fixed(200), number));
        let frame = [format!("{} ", message.len()).into_bytes(), message].concat();
        let connection = stream.get_or_insert_with(|| TcpStream::connect(&address).expect("a listener"));
        if connection.write_all(&frame).is_err() {
            stream = None;
        }
        if number % 20 == 0 {
            crate::support::pause(ms(1));
        }
    }
    let mut record = Record::default();
    record.sources.insert(("app".into(), 'o'), Extent { done: lines, begun: lines });
    record
}

#[test]
fn a_naive_sender_is_convicted_of_what_dying_receivers_cost_it() {
    for death in [Death::Reset, Death::Fin] {
        let sink = TcpSink::start(Plan { reading: Reading::Normal, deaths: vec![(ms(30), death); 5] });
        let record = send_naively(&sink, 10_000);
        until("five deaths", ms(5000), || sink.deaths() == 5);
        assert!(death == Death::Fin || sink.resets_with_unread() >= 3, "{}", sink.resets_with_unread());
        let seen = sink.collect();
        let books = Books { name: "x".into(), read: 10_000, accepted: 10_000, ..Books::default() };
        let violations = judge(&record, Some(&books), &seen, Terms::default()).expect_err("lines were lost");
        assert!(violations.iter().any(|found| matches!(found, Violation::Missing { .. })), "{violations:?}");
    }
}

#[test]
fn a_healthy_receiver_gets_everything_and_one_that_never_reads_hands_over_what_the_kernel_took() {
    for reading in [Reading::Normal, Reading::Slow(100_000), Reading::Never] {
        let sink = TcpSink::start(Plan { reading, deaths: Vec::new() });
        let record = send_naively(&sink, 2000);
        assert!(reading != Reading::Never || sink.messages() == 0);
        let books = Books { name: "x".into(), read: 2000, confirmed: 2000, ..Books::default() };
        let facts = judge(&record, Some(&books), &sink.collect(), Terms { confirmed: true, ..Terms::default() });
        assert_eq!(facts.map(|facts| facts.lines), Ok(2000), "{reading:?}");
    }
}
