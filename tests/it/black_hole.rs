//! A black hole: from one moment on every packet of established connections is dropped, unanswered, and later they get
//! through again. The network is the test's own, and so are its packet filter's rules.

use crate::support::{
    certificates,
    drain::Drain,
    http::HttpSink,
    judge::{Terms, judge},
    lines::Shape,
    mortal::{Mortal, Speech},
    ms, syslog, tools, until,
};
use lastword::clock;
use nix::sched::{CloneFlags, unshare};
use std::{net::TcpStream, process::Command, thread, time::Duration};

const SECOND: Duration = Duration::from_secs(1);
/// `TCP_USER_TIMEOUT`, as docs/DELIVERY.md names it.
const NOTICED: Duration = Duration::from_secs(15);
const LINES: u64 = 200;

fn run(program: &str, words: &str) {
    let output = Command::new(program).args(words.split(' ')).output().expect("it starts");
    assert!(output.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// In a thread with a network of its own, a loopback and nothing else; so have the threads and programs it starts.
fn in_own_network(test: impl FnOnce() + Send + 'static) {
    tools::root();
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network of our own");
        run(tools::program("/usr/sbin/ip", "iproute2"), "link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Nothing that is sent arrives, from now on until the drop.
struct BlackHole;

impl BlackHole {
    fn open() -> Self {
        let nft = tools::program("/usr/sbin/nft", "nftables");
        run(nft, "add table ip hole");
        run(nft, "add chain ip hole input { type filter hook input priority 0 ; policy drop ; }");
        Self
    }

    fn close(self) {
        run("/usr/sbin/nft", "delete table ip hole");
    }
}

#[test]
fn connections_whose_packets_are_all_dropped_are_given_up_in_15_s_and_no_line_is_lost_39() {
    in_own_network(|| {
        let speeches = [(false, false), (false, true), (true, false), (true, true)];
        let schemes = ["syslog+tcp", "syslog+tls", "relp+tcp", "relp+tls"];
        let receivers = speeches.map(|(relp, tls)| Mortal::start(Speech { relp, tls }, Vec::new()));
        let web = HttpSink::healthy();
        let ca = certificates::file("ca.pem").display().to_string();
        let mut drains: Vec<_> = (0..4)
            .map(|at| {
                let ca = if speeches[at].1 { format!("#ca={ca}") } else { String::new() };
                Drain::start(&format!("{}://{}{ca}", schemes[at], receivers[at].address()))
            })
            .collect();
        drains.push(Drain::start(&web.url("web")));
        let counts = || -> Vec<_> { receivers.iter().map(Mortal::messages).chain([web.lines()]).collect() };
        let arrived = |lines: u64| counts().iter().all(|&count| count as u64 >= lines);
        drains.iter_mut().for_each(|drain| drain.write(LINES, Shape::Hostile));
        until("connections to be established", 20 * SECOND, || arrived(LINES));

        let hole = BlackHole::open();
        let opened = clock::now();
        drains.iter_mut().for_each(|drain| drain.write(LINES, Shape::Hostile));
        let blocked = TcpStream::connect_timeout(&web.address(), ms(300));
        assert!(blocked.is_err(), "packets get through");
        // HTTP asks again at once, over a fresh connection: it has nothing to complain of before that fails, too.
        for (drain, scheme) in drains.iter().zip(schemes) {
            until("the peer's silence to be noticed", NOTICED + 5 * SECOND, || drain.status().trouble.is_some());
            let (took, trouble) = (clock::now() - opened, drain.status().trouble.expect("seen"));
            assert!(trouble.starts_with("no sign of progress from ") && trouble.ends_with(" for 15 s"), "{trouble}");
            assert!(took > NOTICED - SECOND && took < NOTICED + 3 * SECOND, "{scheme}: {took:?}");
        }
        assert_eq!(counts(), [LINES as usize; 5], "packets got through");
        drains.iter_mut().for_each(|drain| drain.write(LINES, Shape::Hostile));
        hole.close();

        until("all to arrive", 30 * SECOND, || arrived(3 * LINES));
        let mut seen = Vec::new();
        let judged: Vec<_> = drains.into_iter().map(|drain| drain.finish(20 * SECOND)).collect();
        for receiver in receivers {
            let (messages, met) = receiver.collect();
            assert!(met["healthy"] >= 2, "no new connection: {met:?}");
            seen.push(syslog::seen(&messages));
        }
        seen.push(web.collect());
        for (at, ((books, record, report), seen)) in judged.iter().zip(&seen).enumerate() {
            let terms = Terms { duplicates: u64::MAX, confirmed: at >= 2, ..Terms::default() };
            let found = judge(record, Some(books), seen, terms);
            assert_eq!(found.map(|facts| facts.lines), Ok(3 * LINES), "{report:?}");
            assert_eq!(books.lost(), 0, "{report:?}");
        }
    });
}
