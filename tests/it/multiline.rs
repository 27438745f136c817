//! `--multiline`: lines that belong together are one event in the drains, and untouched in the pass-through.

use crate::support::{http::HttpSink, until, wrapper::Setup};
use std::{io::Read, net::TcpListener, thread, time::Duration};

const LIMIT: Duration = Duration::from_secs(20);
const TRACE: &str = "started\\nTraceback (most recent call last):\\n  File \"a\", line 1\\n    boom()\\nnext\\n";

/// What arrived, in order.
fn texts(http: HttpSink) -> Vec<String> {
    http.collect().units.iter().map(|unit| String::from_utf8_lossy(&unit.text).into_owned()).collect()
}

#[test]
fn a_trace_is_one_event_in_the_drains_and_untouched_in_the_pass_through_13() {
    let http = HttpSink::healthy();
    let setup = Setup::new().drain(&http.url("http")).flags(["--multiline", "indented"]);
    let done = setup.start(&["printf", TRACE]).finish(LIMIT);
    assert_eq!((done.code(), &done.stdout[..]), (0, TRACE.replace("\\n", "\n").as_bytes()));
    let trace = "Traceback (most recent call last):\n  File \"a\", line 1\n    boom()";
    assert_eq!(texts(http), ["started", trace, "next"]);
}

#[test]
fn untouched_is_what_lines_are_without_it_13() {
    let http = HttpSink::healthy();
    let done = Setup::new().drain(&http.url("http")).start(&["printf", TRACE]).finish(LIMIT);
    assert_eq!(done.code(), 0);
    assert_eq!(texts(http).len(), 5);
}

/// The last event waits for another line, but not for long, and not at a stop.
#[test]
fn an_event_is_sent_though_no_other_begins_and_at_a_stop_at_once_13() {
    let http = HttpSink::healthy();
    let setup = Setup::new().drain(&http.url("http")).flags(["--multiline", "^[A-Z]"]).stop_timeout(8);
    let script = "trap 'printf \"Bye\\n bye\"; exit 0' TERM; printf 'One\\n more\\n'; while :; do sleep 0.05; done";
    let mut run = setup.start(&["sh", "-c", script]);
    until("the event to arrive while the app is silent", LIMIT, || http.lines() == 1);
    run.stop();
    let done = run.finish(LIMIT);
    assert_eq!(done.code(), 0, "{}", done.err());
    assert_eq!(texts(http), ["One\n more", "Bye\n bye"]);
}

#[test]
fn a_newline_within_an_event_does_not_break_syslog_that_is_framed_by_newlines_13() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("syslog+tcp://{}#framing=lf", listener.local_addr().expect("bound"));
    let receiver = thread::spawn(move || {
        let mut text = String::new();
        listener.accept().expect("a connection").0.read_to_string(&mut text).expect("text, and an end");
        text
    });
    let setup = Setup::new().drain(&url).flags(["--multiline", "indented"]);
    let done = setup.start(&["printf", TRACE]).finish(LIMIT);
    assert_eq!(done.code(), 0, "{}", done.err());
    let text = receiver.join().expect("it ends");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[1].ends_with("last):#012  File \"a\", line 1#012    boom()"), "{text}");
}
