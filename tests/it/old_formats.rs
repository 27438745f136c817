//! The formats with the least in them: `rfc=3164`, which has no place for numbers, and `body=text`, which has none for
//! anything. 10,000 lines each; `hostile_peers` has the hostile ones for real daemons.

use crate::{
    formats::{LINES, run, same_lines},
    support::{
        certificates,
        daemons::{rsyslogd, syslog_ng},
        fakes::{Asked, Fake, Kept},
        judge::{Seen, Terms, Unit},
        mortal::{Mortal, Speech},
        syslog::unescaped,
        until,
        wrapper::Setup,
    },
};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const WRITTEN: &str = "--count 10000 --rate 20000 --err-every 5 --shape";

/// `<134>Jan  2 03:04:05 host app[7]: text`.
pub fn old(messages: &[Vec<u8>]) -> Seen {
    let mut seen = Seen::default();
    for message in messages {
        let shown = || String::from_utf8_lossy(message).into_owned();
        let stream = match &message[..5] {
            b"<131>" => 'e',
            b"<134>" => 'o',
            _ => panic!("neither info nor error: {}", shown()),
        };
        let (stamp, rest) = message[5..].split_at(15);
        let is_stamp =
            stamp.is_ascii() && stamp[3] == b' ' && stamp[6] == b' ' && stamp[9] == b':' && stamp[12] == b':';
        assert!(is_stamp && rest.starts_with(b" "), "{}", shown());
        let text = rest.windows(3).position(|three| three == b"]: ").map(|at| unescaped(&rest[at + 3..]));
        let text = text.unwrap_or_else(|| panic!("no tag: {}", shown()));
        seen.units.push(Unit { seq: None, stream: Some(stream), text, part: None });
    }
    seen
}

#[test]
fn rsyslogd_gets_every_line_in_the_old_format_over_tls_relp_and_udp() {
    let (mut daemon, [tls, relp, _, udp, ..]) = rsyslogd("64k");
    let ca = certificates::file("ca.pem").display().to_string();
    let done = Setup::new()
        .flags(["--lifecycle-lines", "off"])
        .drain(&format!("syslog+tls://127.0.0.1:{tls}#name=tls,rfc=3164,ca={ca}"))
        .drain(&format!("relp+tcp://127.0.0.1:{relp}#name=relp,rfc=3164,max-message=64KiB"))
        .drain(&format!("syslog+udp://127.0.0.1:{udp}#name=udp,rfc=3164"))
        .start_oracle(&format!("{WRITTEN} u"))
        .finish(LIMIT);
    assert_eq!((done.code(), done.record.done()), (0, 10_000), "{}", done.err());
    daemon.stop();
    for input in ["tls", "relp"] {
        done.acquit(input, &old(&daemon.stored(input)), Terms { confirmed: true, ..Terms::default() });
    }
    done.acquit("udp", &old(&daemon.stored("udp")), Terms { unsure: true, ..Terms::default() });
}

#[test]
fn syslog_ng_gets_every_line_in_the_old_format_in_both_framings() {
    let (mut daemon, [network, counted, _]) = syslog_ng();
    let done = Setup::new()
        .flags(["--lifecycle-lines", "off"])
        .drain(&format!("syslog+tcp://127.0.0.1:{network}#name=network,framing=lf,rfc=3164"))
        .drain(&format!("syslog+tcp://127.0.0.1:{counted}#name=counted,rfc=3164"))
        .start_oracle(&format!("{WRITTEN} u"))
        .finish(LIMIT);
    assert_eq!((done.code(), done.record.done()), (0, 10_000), "{}", done.err());
    let inputs = ["network", "counted"];
    until("all to be stored", LIMIT, || inputs.iter().all(|input| daemon.stored(input).len() == 10_000));
    daemon.stop();
    for input in inputs {
        done.acquit(input, &old(&daemon.stored(input)), Terms::default());
    }
}

#[test]
fn hostile_lines_come_out_of_the_old_format_as_they_went_in() {
    let healthy = || Mortal::start(Speech { relp: false, tls: false }, Vec::new());
    let (counted, pieces) = (healthy(), healthy());
    let done = Setup::new()
        .flags(["--lifecycle-lines", "off"])
        .drain(&format!("syslog+tcp://{}#name=counted,rfc=3164", counted.address()))
        // Nothing marks the pieces, so none of them may be needed.
        .drain(&format!("syslog+tcp://{}#name=limited,rfc=3164,max-message=8KiB", pieces.address()))
        .start_oracle(&format!("{WRITTEN} h"))
        .finish(LIMIT);
    assert_eq!((done.code(), done.record.done()), (0, 10_000), "{}", done.err());
    for (name, receiver) in [("counted", counted), ("limited", pieces)] {
        done.acquit(name, &old(&receiver.collect().0), Terms { confirmed: true, ..Terms::default() });
    }
}

#[test]
fn plain_text_gets_every_line_as_it_is_and_blank_ones_too() {
    let rule = Box::new(|asked: &Asked, kept: &mut Vec<Kept>| {
        if asked.header("content-type") != Some("text/plain") {
            return (415, "not text".into());
        }
        let text = asked.body.strip_suffix(b"\n").expect("the last line ends, too");
        kept.extend(text.split(|&byte| byte == b'\n').map(|line| (None, line.to_vec())));
        (204, String::new())
    });
    let fake = Fake::start(rule);
    let done = run(&format!("http://{}/in#body=text", fake.address()));
    let (mut kept, complaints) = fake.kept();
    kept.retain(|(_, text)| !text.starts_with(b"lastword: "));
    same_lines(&format!("body=text {complaints:?}"), &kept);
    let books = &done.report.as_ref().expect("a report").drains[0];
    assert!(books.confirmed == books.read && books.read >= LINES as u64, "{books:?}");
}
