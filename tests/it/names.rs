//! Names of drains [46] [47]: a name server that fails for a while, addresses that are dead, answers that change. The name
//! server is a fake on the loopback, which lastword finds by a /etc/resolv.conf of its own mount namespace.

use crate::support::{
    dns::{Answer, Dns},
    judge::Terms,
    ms,
    pair::Pair,
    tcp::{Plan, TcpSink},
    until,
    wrapper::{Running, Setup},
};
use std::{
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(20);
const HOST: &str = "collector.test";
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Nobody listens there.
const DEAD: Ipv4Addr = Ipv4Addr::new(127, 53, 9, 9);

fn start(setup: Setup, dns: &Dns, options: &str) -> Running {
    let launcher = dns.launcher();
    let words: Vec<&str> = launcher.iter().map(String::as_str).collect();
    setup.stop_timeout(5).launcher(&words).start_oracle(options)
}

/// By the receiver's name instead of its address.
fn by_name(url: &str) -> String {
    url.replace("127.0.0.1", HOST)
}

#[test]
fn while_names_do_not_resolve_the_app_runs_and_its_lines_wait_46() {
    let dns = Dns::start(Answer::ServerFailure);
    let pair = Pair::start();
    let setup = Setup::new().drain(&by_name(&pair.tcp.url("tcp"))).drain(&by_name(&pair.http.url("http")));
    let mut running = start(setup, &dns, "--rate 500 --on-term goodbye:100");
    // Asked again and again, for both drains.
    until("the name server to fail", LIMIT, || dns.failures() > 8);
    running.wrote(200);
    assert_eq!((pair.tcp.messages(), pair.http.lines()), (0, 0));
    dns.answers(Answer::Addresses(vec![HERE]));
    until("what waited to arrive", LIMIT, || pair.tcp.messages() > 200 && pair.http.lines() > 200);
    running.stop();
    pair.acquit(&running.finish(LIMIT));
}

#[test]
fn a_dead_first_address_is_passed_over_47() {
    let dns = Dns::start(Answer::Addresses(vec![DEAD, HERE]));
    let pair = Pair::start();
    let setup = Setup::new().drain(&by_name(&pair.tcp.url("tcp"))).drain(&by_name(&pair.http.url("http")));
    let mut running = start(setup, &dns, "--rate 500 --on-term goodbye:100");
    until("lines to arrive", LIMIT, || pair.tcp.messages() > 20 && pair.http.lines() > 20);
    running.stop();
    pair.acquit(&running.finish(LIMIT));
}

#[test]
fn a_name_that_moves_is_followed_when_the_old_connection_ends_and_not_before_47() {
    let dns = Dns::start(Answer::Addresses(vec![HERE]));
    let (old, new) = two_receivers();
    let setup = Setup::new().drain(&by_name(&old.url("tcp")));
    let mut running = start(setup, &dns, "--rate 500 --on-term goodbye:100");
    until("lines to arrive", LIMIT, || old.messages() > 20);
    dns.answers(Answer::Addresses(vec![Ipv4Addr::new(127, 53, 1, 1)]));
    let before = old.messages();
    until("the old connection to be kept", LIMIT, || old.messages() > before + 100);
    assert_eq!(new.messages(), 0);
    old.kill_now();
    until("the new address to be found", LIMIT, || new.messages() > 100);
    running.stop();
    let done = running.finish(LIMIT);
    let (mut seen, moved) = (old.collect(), new.collect());
    assert!(!moved.units.is_empty());
    seen.units.extend(moved.units);
    seen.runs.extend(moved.runs);
    // What the old receiver's kernel had taken may have died with it: that is sent again.
    done.acquit("tcp", &seen, Terms { duplicates: 5_000, ..Terms::default() });
}

/// On one port of two addresses.
fn two_receivers() -> (TcpSink, TcpSink) {
    let pair = (0..50).find_map(|_| {
        let old = TcpListener::bind((HERE, 0)).expect("a free port");
        let port = old.local_addr().expect("bound").port();
        Some((old, TcpListener::bind((Ipv4Addr::new(127, 53, 1, 1), port)).ok()?))
    });
    let (old, new) = pair.expect("a port that is free at both");
    (TcpSink::on(old, Plan::default()), TcpSink::on(new, Plan::default()))
}

#[test]
fn a_name_that_nobody_knows_is_said_and_does_not_keep_us_46() {
    let dns = Dns::start(Answer::Addresses(Vec::new()));
    let launcher = dns.launcher();
    let words: Vec<&str> = launcher.iter().map(String::as_str).collect();
    let url = format!("syslog+tcp://{HOST}:514#name=lost");
    let setup = Setup::loud().drain(&url).flags(["--flush-timeout", "1s"]).launcher(&words);
    let done = setup.start(&["sh", "-c", "echo one; exit 3"]).finish(LIMIT);
    assert_eq!(done.code(), 3);
    assert!(done.took < ms(8_000), "{:?}", done.took);
    assert!(done.err().contains(&format!("cannot resolve {HOST}: ")), "{}", done.err());
}
