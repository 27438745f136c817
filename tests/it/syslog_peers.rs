//! Debian's rsyslogd and syslog-ng at the other end of every syslog transport.

use crate::support::{
    certificates,
    daemons::{listens, local, rsyslogd, syslog_ng},
    judge::Terms,
    syslog, until,
    wrapper::{Finished, Setup},
};
use std::{net::TcpListener, process::Command, time::Duration};

const LIMIT: Duration = Duration::from_secs(60);
/// Two writers' worth of lines with characters of one to four bytes, U+2028 among them.
const LINES: &str = "--count 10000 --rate 20000 --shape u --err-every 5";

#[track_caller]
fn all_arrived(done: &Finished) {
    assert_eq!((done.code(), done.record.done()), (0, 10_000), "{}", done.err());
}

#[test]
fn rsyslogd_gets_every_line_over_tls_relp_relp_with_tls_and_its_socket() {
    let (mut daemon, [tls, relp, relptls, udp, ..]) = rsyslogd("64k");
    let file = |name: &str| certificates::file(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let done = Setup::new()
        .drain(&format!("syslog+tls://127.0.0.1:{tls}#name=tls,ca={ca}"))
        .drain(&format!("relp+tcp://127.0.0.1:{relp}#name=relp,max-message=64KiB"))
        .drain(&format!("relp+tls://localhost:{relptls}#name=relptls,ca={ca},cert={cert},key={key}"))
        .drain(&format!("syslog+unix:{}#name=unix", daemon.path("socket").display()))
        .drain(&format!("syslog+udp://127.0.0.1:{udp}#name=udp"))
        .start_oracle(LINES)
        .finish(LIMIT);
    all_arrived(&done);
    until("the datagrams to be stored", LIMIT, || daemon.stored("unix").len() == 10_000);
    daemon.stop();
    let confirmed = Terms { confirmed: true, ..Terms::default() };
    done.acquit("tls", &syslog::seen(&daemon.stored("tls")), confirmed);
    done.acquit("relp", &syslog::seen(&daemon.stored("relp")), confirmed);
    done.acquit("relptls", &syslog::seen(&daemon.stored("relptls")), confirmed);
    done.acquit("udp", &syslog::seen(&daemon.stored("udp")), Terms { unsure: true, ..Terms::default() });
    let unix = done.acquit("unix", &local(&daemon.stored("unix")), Terms::default());
    assert_eq!(unix.lines, 10_000, "the kernel's queue waits, and a daemon that lives loses nothing");
}

#[test]
fn lines_over_the_limit_of_rsyslogd_arrive_in_pieces() {
    // 8k is its default. What is longer it cuts, and confirms all the same.
    let (mut daemon, [tls, relp, ..]) = rsyslogd("8k");
    let ca = certificates::file("ca.pem").display().to_string();
    let done = Setup::new()
        .drain(&format!("relp+tcp://127.0.0.1:{relp}#name=relp"))
        .drain(&format!("syslog+tls://127.0.0.1:{tls}#name=tls,ca={ca},max-message=8KiB"))
        .start_oracle("--count 2000 --rate 4000 --shape e --err-every 5")
        .finish(LIMIT);
    assert_eq!((done.code(), done.record.done()), (0, 2000), "{}", done.err());
    daemon.stop();
    for input in ["relp", "tls"] {
        let stored = daemon.stored(input);
        let pieces = stored.iter().filter(|message| String::from_utf8_lossy(message).contains(" piece=\"9\"")).count();
        assert!(pieces > 10, "{pieces} long lines");
        done.acquit(input, &syslog::seen(&stored), Terms { confirmed: true, ..Terms::default() });
    }
}

#[test]
fn a_restart_of_rsyslogd_loses_no_line_over_tls_and_relp() {
    let (mut daemon, [tls, relp, relptls, ..]) = rsyslogd("64k");
    let file = |name: &str| certificates::file(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let mut run = Setup::new()
        .drain(&format!("syslog+tls://127.0.0.1:{tls}#name=tls,ca={ca}"))
        .drain(&format!("relp+tcp://127.0.0.1:{relp}#name=relp"))
        .drain(&format!("relp+tls://127.0.0.1:{relptls}#name=relptls,ca={ca},cert={cert},key={key}"))
        .stop_timeout(10)
        .start_oracle("--rate 5000 --shape f200 --on-term goodbye:300");
    run.wrote(3000);
    daemon.stop();
    run.wrote(run.record().done() + 2000);
    let mut again = Command::new("/usr/sbin/rsyslogd");
    let path = |name: &str| daemon.path(name).display().to_string();
    again.args(["-n", "-f", &path("conf"), "-i", &path("pid")]);
    daemon.restart(&mut again);
    run.wrote(run.record().done() + 2000);
    until("rsyslogd to listen again", LIMIT, || [tls, relp, relptls].into_iter().all(listens));
    run.stop();
    let done = run.finish(Duration::from_secs(10));
    daemon.stop();
    for (name, confirmed) in [("tls", false), ("relp", true), ("relptls", true)] {
        let terms = Terms { duplicates: u64::MAX, confirmed, ..Terms::default() };
        done.acquit(name, &syslog::seen(&daemon.stored(name)), terms);
    }
}

#[test]
fn refused_certificates_are_named_the_app_runs_and_no_line_goes_out_in_plain_text_43() {
    let (daemon, [tls, relp, relptls, ..]) = rsyslogd("64k");
    let file = |name: &str| certificates::file(name).display().to_string();
    let (ca, other) = (file("ca.pem"), file("other.pem"));
    let cases = [
        (format!("syslog+tls://127.0.0.1:{tls}"), "from an unknown issuer"),
        (format!("syslog+tls://127.0.0.1:{tls}#ca={other}"), "from an unknown issuer"),
        (format!("syslog+tls://127.0.0.1:{tls}#ca={ca},servername=logs.example"), "for another name"),
        (
            format!("syslog+tls://127.0.0.1:{tls}#fingerprint=sha256:{}", "00".repeat(32)),
            "it has the fingerprint sha256:",
        ),
        (format!("syslog+tls://127.0.0.1:{relp}#ca={ca}"), "does not speak TLS"),
        (format!("relp+tls://127.0.0.1:{relptls}#ca={ca}"), "it wants a TLS client certificate"),
        (
            format!("relp+tls://127.0.0.1:{relptls}#ca={ca},cert={other},key={}", file("other.key")),
            "it refused our TLS client certificate",
        ),
    ];
    let mut setup = Setup::loud().flags(["--flush-timeout", "1s"]);
    for (index, (url, _)) in cases.iter().enumerate() {
        let separator = if url.contains('#') { ',' } else { '#' };
        setup = setup.drain(&format!("{url}{separator}name=case{index}"));
    }
    let done = setup.start(&["sh", "-c", "echo it runs; exit 3"]).finish(LIMIT);
    assert_eq!((done.code(), &done.stdout[..]), (3, &b"it runs\n"[..]));
    let err = done.err();
    for (index, (url, words)) in cases.iter().enumerate() {
        let lines: Vec<_> = err.lines().filter(|line| line.contains(&format!("drain case{index}:"))).collect();
        assert!(lines.iter().any(|line| line.contains(words)), "{url}: {words:?} is not in {lines:?}\n{err}");
        let books = done.report.as_ref().expect("a report").of(&format!("case{index}"));
        assert_eq!((books.read, books.lost()), (1, 1), "{url}: {books:?}");
    }
    for input in ["tls", "relp", "relptls"] {
        assert!(!daemon.path(input).exists(), "{input} got something");
    }
}

#[test]
fn an_expired_certificate_holds_the_drain_and_a_renewed_one_lets_it_go_on_44() {
    use crate::support::mortal::server_config;
    use std::io::Read;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let server = std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let name = if number == 0 { "expired" } else { "server" };
            let session = rustls::ServerConnection::new(server_config(name)).expect("good settings");
            let mut tls = rustls::StreamOwned::new(session, stream.expect("accepted"));
            let mut text = Vec::new();
            // A peer without close_notify: it just closes when it has read all.
            if tls.read_to_end(&mut text).is_ok() {
                return text;
            }
        }
        unreachable!("it listens for ever")
    });
    let ca = certificates::file("ca.pem").display().to_string();
    let url = format!("syslog+tls://{address}#name=renewed,ca={ca}");
    let done = Setup::loud().drain(&url).flags(["--flush-timeout", "9s"]).start(&["echo", "last word"]).finish(LIMIT);
    assert!(done.err().contains("its TLS certificate has expired; this needs mending"), "{}", done.err());
    assert!(String::from_utf8_lossy(&server.join().expect("no panic")).ends_with("last word"));
    let books = done.report.as_ref().expect("a report").of("renewed");
    assert_eq!((books.read, books.accepted, books.confirmed), (1, 1, 0), "no goodbye, no confirmation: {books:?}");
}

#[test]
fn syslog_ng_gets_every_line_in_both_framings_over_tls_and_its_sockets() {
    let (mut daemon, [network, counted, tls]) = syslog_ng();
    let file = |name: &str| certificates::file(name).display().to_string();
    let (cert, key) = (file("client.pem"), file("client.key"));
    // Known by its fingerprint alone, so its name and its issuer do not matter.
    let pinned = format!("servername=whatever,fingerprint=sha256:{}", certificates::fingerprint("server.pem"));
    let socket = |name: &str| daemon.path(&format!("{name}.socket")).display().to_string();
    let done = Setup::new()
        .drain(&format!("syslog+tcp://127.0.0.1:{network}#name=network,framing=lf"))
        .drain(&format!("syslog+tcp://127.0.0.1:{counted}#name=counted"))
        .drain(&format!("syslog+tls://127.0.0.1:{tls}#name=tls,{pinned},cert={cert},key={key}"))
        .drain(&format!("syslog+unix:{}#name=dgram", socket("dgram")))
        .drain(&format!("syslog+unix:{}#name=stream", socket("stream")))
        .start_oracle(LINES)
        .finish(LIMIT);
    all_arrived(&done);
    let inputs = ["network", "counted", "tls", "dgram", "stream"];
    until("all to be stored", LIMIT, || inputs.iter().all(|input| daemon.stored(input).len() == 10_000));
    daemon.stop();
    for input in ["network", "counted", "tls"] {
        done.acquit(input, &syslog::seen(&daemon.stored(input)), Terms::default());
    }
    for input in ["dgram", "stream"] {
        done.acquit(input, &local(&daemon.stored(input)), Terms::default());
    }
}
