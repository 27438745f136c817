//! Debian's rsyslogd and syslog-ng, and the 10,000 hostile lines: the same bytes come out, or the documented escape of those
//! that the daemons tear or drop.

use crate::{
    formats::{LINES, kept, run_into, same_lines},
    old_formats::old,
    support::{
        certificates,
        daemons::{local, rsyslogd, syslog_ng},
        judge::Seen,
        syslog, until,
    },
};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Each of `inputs` stored all lines, in order, as `read` reads them, and all drains have them on their books.
fn all_stored(rfc: &str, read: fn(&[Vec<u8>]) -> Seen) {
    let (mut ng, [network, counted, ng_tls]) = syslog_ng();
    let (mut rs, [tls, relp, relptls, _, tcp]) = rsyslogd("128k");
    let file = |name: &str| certificates::file(name).display().to_string();
    let ours = format!("ca={},cert={},key={}", file("ca.pem"), file("client.pem"), file("client.key"));
    let whole = format!("rfc={rfc},max-message=128KiB");
    let done = run_into(&[
        format!("syslog+tcp://127.0.0.1:{network}#name=network,framing=lf,{whole}"),
        format!("syslog+tcp://127.0.0.1:{counted}#name=counted,{whole}"),
        format!("syslog+tls://127.0.0.1:{ng_tls}#name=ng-tls,{whole},{ours}"),
        format!("syslog+unix:{}#name=dgram", ng.path("dgram.socket").display()),
        format!("syslog+unix:{}#name=stream", ng.path("stream.socket").display()),
        format!("syslog+tcp://127.0.0.1:{tcp}#name=tcp,framing=lf,{whole}"),
        format!("syslog+tls://127.0.0.1:{tls}#name=tls,{whole},{ours}"),
        format!("relp+tcp://127.0.0.1:{relp}#name=relp,{whole}"),
        format!("relp+tls://127.0.0.1:{relptls}#name=relptls,{whole},{ours}"),
        format!("syslog+unix:{}#name=unix", rs.path("socket").display()),
    ]);
    let sockets = [(&ng, "dgram"), (&ng, "stream"), (&rs, "unix")];
    let streams =
        [(&ng, "network"), (&ng, "counted"), (&ng, "tls"), (&rs, "tcp"), (&rs, "tls"), (&rs, "relp"), (&rs, "relptls")];
    for (daemon, input) in sockets.into_iter().chain(streams) {
        until("all to be stored", LIMIT, || daemon.stored(input).len() >= LINES);
        let read = if sockets.iter().any(|(_, socket)| *socket == input) { local } else { read };
        same_lines(&format!("{input}, RFC {rfc}"), &kept(read(&daemon.stored(input))));
    }
    for books in &done.report.as_ref().expect("a report").drains {
        assert_eq!((books.read, books.lost()), (LINES as u64, 0), "{books:?}");
    }
    ng.stop();
    rs.stop();
}

#[test]
fn hostile_lines_come_out_of_real_daemons_as_they_went_in_with_rfc_5424_4() {
    all_stored("5424", syslog::seen);
}

#[test]
fn hostile_lines_come_out_of_real_daemons_as_they_went_in_with_rfc_3164_4() {
    all_stored("3164", old);
}
