//! Drains in trouble: the app's start, the pass-through and the other drains are unaffected, the exit comes before the
//! stated budget ends, and the report equals the oracle.

use crate::support::{
    closed::Closed,
    http::{Act, HttpSink, Request},
    judge::{Seen, Terms},
    ms,
    pair::Pair,
    tcp::{Death, Plan, Reading, TcpSink},
    until,
    wrapper::{Finished, Running, Setup, raw},
};
use std::{
    fs,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(30);
const LOSSY: Terms =
    Terms { duplicates: 0, lossy: true, overcounted: false, unsure: false, confirmed: false, broken: false };

/// Runs an app of moderate pace for a second, stops it, and checks what must not suffer from any drain in trouble.
fn stop_after_a_second(setup: Setup, pair: Pair, seconds: u64) -> (Finished, Pair) {
    let mut run =
        setup.stop_timeout(seconds).start_oracle("--rate 1000 --shape f200 --err-every 4 --on-term goodbye:300");
    let begin = lastword::clock::now();
    run.wrote(10);
    assert!(begin.elapsed() < ms(2000), "the app's start was delayed by {:?}", begin.elapsed());
    run.wrote(1000);
    until("the healthy drains to have got what was written", ms(5000), || {
        pair.tcp.messages() >= 1000 && pair.http.lines() >= 1000
    });
    run.stop();
    let done = run.finish(Duration::from_secs(seconds));
    assert!(done.since_stop < Some(Duration::from_secs(seconds)), "{:?}", done.since_stop);
    done.all_said_goodbye();
    (done, pair)
}

#[test]
fn a_drain_that_is_down_from_the_start_harms_nothing_and_its_lines_are_counted_45_57() {
    for pid1 in [false, true] {
        let down = Closed::port();
        let pair = Pair::start();
        let setup = pair.setup().pid1(pid1).drain(&format!("syslog+tcp://{down}#name=down"));
        let (done, pair) = stop_after_a_second(setup.drain(&format!("http://{down}/logs#name=down2")), pair, 8);
        for name in ["down", "down2"] {
            done.acquit(name, &Seen::default(), LOSSY);
            let books = done.report.as_ref().expect("a report").of(name);
            assert_eq!(books.lost.get("deadline"), Some(&done.record.done()), "{books:?}");
        }
        pair.acquit(&done);
    }
}

#[test]
fn a_drain_that_comes_up_late_gets_everything() {
    let closed = Closed::port();
    let pair = Pair::start();
    let setup = pair.setup().drain(&format!("syslog+tcp://{closed}#name=late")).stop_timeout(5);
    let mut run = setup.start_oracle("--rate 500 --on-term goodbye:300");
    run.wrote(500);
    let late = TcpSink::on(closed.open(), Plan::default());
    // The stop itself makes it leave its back-off.
    run.stop();
    let done = run.finish(Duration::from_secs(5));
    done.acquit("late", &late.collect(), Terms { confirmed: true, ..Terms::default() });
    pair.acquit(&done);
}

#[test]
fn a_tcp_drain_that_accepts_and_never_reads_harms_nothing_42() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let deaf = TcpSink::start(Plan { reading: Reading::Never, deaths: Vec::new() });
        let (done, pair) = stop_after_a_second(pair.setup().pid1(pid1).drain(&deaf.url("deaf")), pair, 8);
        // What its kernel took is read now, and is at least what was called accepted.
        let terms = Terms { lossy: true, overcounted: true, duplicates: u64::MAX, ..Terms::default() };
        done.acquit("deaf", &deaf.collect(), terms);
        let books = done.report.as_ref().expect("a report").of("deaf");
        assert_eq!(books.confirmed, 0, "nobody can have confirmed that: {books:?}");
        pair.acquit(&done);
    }
}

#[test]
fn an_http_drain_that_never_answers_harms_nothing_and_its_lines_are_counted() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let silent = HttpSink::start(|_, _| Act::Silence);
        let (done, pair) = stop_after_a_second(pair.setup().pid1(pid1).drain(&silent.url("silent")), pair, 10);
        done.acquit("silent", &silent.collect(), LOSSY);
        pair.acquit(&done);
    }
}

#[test]
fn an_http_drain_that_answers_503_until_the_stop_gets_everything_after_it_25() {
    for pid1 in [false, true] {
        let stopped = Arc::new(AtomicBool::new(false));
        let pair = Pair::start();
        let moody = HttpSink::start({
            let stopped = Arc::clone(&stopped);
            move |_, _| {
                if stopped.load(Ordering::SeqCst) { Act::Take } else { Act::Refuse(503, "Retry-After: 3600\r\n") }
            }
        });
        let setup = pair.setup().pid1(pid1).drain(&moody.url("moody")).stop_timeout(5);
        let mut run = setup.start_oracle("--rate 1000 --on-term goodbye:500");
        run.wrote(1000);
        until("a first refusal", LIMIT, || !moody.requests().is_empty());
        assert!(moody.requests().len() < 5, "Retry-After pauses the drain: {} requests", moody.requests().len());
        stopped.store(true, Ordering::SeqCst);
        run.stop();
        let done = run.finish(Duration::from_secs(5));
        done.all_said_goodbye();
        done.acquit("moody", &moody.collect(), Terms { confirmed: true, ..Terms::default() });
        pair.acquit(&done);
    }
}

#[test]
fn an_http_drain_that_answers_503_to_the_end_has_its_lines_counted() {
    let pair = Pair::start();
    let sick = HttpSink::start(|_, _| Act::Refuse(503, ""));
    let (done, pair) = stop_after_a_second(pair.setup().drain(&sick.url("sick")), pair, 8);
    done.acquit("sick", &sick.collect(), LOSSY);
    pair.acquit(&done);
}

#[test]
fn slow_drains_get_everything_and_slow_nobody_down() {
    let pair = Pair::start();
    let slow_http = HttpSink::start(|_, _| Act::TakeSlowly(ms(300)));
    // 1,000 lines of 200 B a second are some 300 kB/s; this one takes 500.
    let slow_tcp = TcpSink::start(Plan { reading: Reading::Slow(5000), deaths: Vec::new() });
    let setup = pair.setup().drain(&slow_http.url("slow-http")).drain(&slow_tcp.url("slow-tcp"));
    let (done, pair) = stop_after_a_second(setup, pair, 10);
    done.acquit("slow-http", &slow_http.collect(), Terms { confirmed: true, ..Terms::default() });
    done.acquit("slow-tcp", &slow_tcp.collect(), Terms::default());
    pair.acquit(&done);
}

#[test]
fn answers_that_are_cut_off_cost_duplicates_and_no_line_31() {
    let pair = Pair::start();
    let flaky = HttpSink::start(|number, _| match number % 4 {
        0 => Act::TakeAndCut,
        1 => Act::Cut,
        2 => Act::Refuse(500, ""),
        _ => Act::Take,
    });
    let setup = pair.setup().drain(&flaky.url("flaky")).stop_timeout(10);
    let mut run = setup.start_oracle("--rate 2000 --on-term goodbye:300");
    run.wrote(2000);
    run.stop();
    let done = run.finish(Duration::from_secs(10));
    let bodies = flaky.requests();
    let facts =
        done.acquit("flaky", &flaky.collect(), Terms { confirmed: true, duplicates: u64::MAX, ..Terms::default() });
    assert!(facts.duplicates > 0, "the test missed its subject");
    // Sealed: what was cut off comes again with the same bytes.
    let cut = bodies.iter().position(|request| request.taken).expect("the first was taken");
    assert!(bodies[cut + 1].body == bodies[cut].body, "a retry has the same body");
    pair.acquit(&done);
}

#[test]
fn a_413_is_split_until_it_fits_and_a_line_too_large_alone_is_counted_23() {
    let pair = Pair::start();
    let small = HttpSink::start(|_, request| if request.body.len() > 3000 { Act::Refuse(413, "") } else { Act::Take });
    // Parts would be lost one by one: the lines stay whole.
    let setup = pair.setup().drain(&small.url("small")).flags(["--max-line", "1MiB"]);
    let done = setup.start_oracle("--count 300 --rate 0 --batch 50 --shape e").finish(LIMIT);
    let seen = small.collect();
    let facts = done.acquit("small", &seen, LOSSY);
    let books = done.report.as_ref().expect("a report").of("small");
    assert!(facts.missing > 0, "no line was too large: the test missed its subject");
    assert_eq!(books.lost.keys().collect::<Vec<_>>(), ["oversize"], "{books:?}");
    assert_eq!(seen.announced, books.lost(), "announced in the drain's own stream: {:?}", seen.gaps);
    pair.acquit(&done);
}

#[test]
fn one_poisoned_line_among_hundreds_is_found_and_counted_alone_27() {
    let pair = Pair::start();
    let picky = HttpSink::start(|_, request| {
        let poison = request.body.windows(13).any(|window| window == b"@app o p 137\"");
        if poison { Act::Refuse(400, "") } else { Act::Take }
    });
    let setup = pair.setup().drain(&picky.url("picky")).stop_timeout(10);
    let done = setup.start_oracle("--count 400 --rate 2000").finish(LIMIT);
    let seen = picky.collect();
    let facts = done.acquit("picky", &seen, LOSSY);
    let books = done.report.as_ref().expect("a report").of("picky");
    assert_eq!((facts.missing, books.lost.get("rejected")), (1, Some(&1)), "{books:?}");
    assert_eq!((seen.gaps.len(), seen.announced), (1, 1), "in the drain's own stream: {:?}", seen.gaps);
    pair.acquit(&done);
}

#[test]
fn a_wrong_password_holds_the_drain_and_loses_nothing_when_it_is_put_right() {
    let right = Arc::new(AtomicBool::new(false));
    let pair = Pair::start();
    let guarded = HttpSink::start({
        let right = Arc::clone(&right);
        move |_, _| if right.load(Ordering::SeqCst) { Act::Take } else { Act::Refuse(401, "") }
    });
    let mut run =
        pair.setup().drain(&guarded.url("guarded")).stop_timeout(5).start_oracle("--rate 1000 --on-term goodbye:300");
    run.wrote(500);
    until("a refusal", LIMIT, || !guarded.requests().is_empty());
    right.store(true, Ordering::SeqCst);
    run.stop();
    let done = run.finish(Duration::from_secs(5));
    done.acquit("guarded", &guarded.collect(), Terms { confirmed: true, ..Terms::default() });
    pair.acquit(&done);
}

#[test]
fn overflow_is_counted_to_the_line_and_announced_in_the_stream_14() {
    for policy in ["drop-oldest", "drop-newest"] {
        let open = Arc::new(AtomicBool::new(false));
        let shut = HttpSink::start({
            let open = Arc::clone(&open);
            move |_, _| if open.load(Ordering::SeqCst) { Act::Take } else { Act::Refuse(503, "Retry-After: 1\r\n") }
        });
        let setup = Setup::new().drain(&shut.url("shut")).flags(["--memory", "2MiB", "--when-full", policy]);
        let mut run = setup.stop_timeout(8).start_oracle("--rate 20000 --batch 20 --shape f200 --on-term goodbye:200");
        run.wrote(40_000);
        open.store(true, Ordering::SeqCst);
        run.stop();
        let done = run.finish(Duration::from_secs(8));
        done.acquit_passthrough();
        let requests = shut.requests();
        let seen = shut.collect();
        let facts = done.acquit("shut", &seen, LOSSY);
        assert_eq!(gaps_that_fill_the_place_where_they_stand(&requests), seen.gaps.len());
        let books = done.report.as_ref().expect("a report").of("shut");
        assert!(facts.missing > 1000 && facts.lines > 1000, "{policy}: the test missed its subject: {facts:?}");
        assert_eq!(books.lost.keys().collect::<Vec<_>>(), ["overflow"], "{policy}: {books:?}");
        assert_eq!(seen.announced, books.lost(), "{policy}: announced in the drain's own stream: {:?}", seen.gaps);
    }
}

/// Each gap line counts exactly the numbers that are missing between its neighbours, and its times lie between theirs.
/// Returns how many there are.
#[track_caller]
fn gaps_that_fill_the_place_where_they_stand(requests: &[Request]) -> usize {
    let taken = requests.iter().filter(|request| request.taken);
    let lines: Vec<serde_json::Value> = taken
        .flat_map(|request| request.body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()))
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect();
    let seq = |line: Option<&serde_json::Value>| line.map(|line| line["seq"].as_u64().expect("a line of the app's"));
    let mut gaps = 0;
    for (at, gap) in lines.iter().enumerate().filter(|(_, line)| line["lost"].is_u64()) {
        let (before, after) = (at.checked_sub(1).map(|at| &lines[at]), lines.get(at + 1));
        let missing = seq(after).map(|after| after - seq(before).unwrap_or(0) - 1);
        assert!(missing.is_none_or(|missing| gap["lost"] == missing), "{before:?}\n{gap}\n{after:?}");
        let message = gap["message"].as_str().expect("a message");
        let times: Vec<&str> =
            message.split(' ').filter(|word| word.starts_with("20") && word.ends_with('Z')).collect();
        let around = [before, after].map(|line| line.map(|line| line["ts"].as_str().expect("a time")));
        let order: Vec<&str> = around[0].into_iter().chain(times.iter().copied()).chain(around[1]).collect();
        assert!(matches!(times.len(), 1 | 2) && order.is_sorted(), "{order:?} in {gap}");
        gaps += 1;
    }
    gaps
}

#[test]
fn blocking_loses_nothing_and_waits_for_the_drain_15() {
    let slow = HttpSink::start(|_, _| Act::TakeSlowly(ms(20)));
    let setup = Setup::new().drain(&slow.url("slow")).flags(["--memory", "2MiB", "--when-full", "block"]);
    let done = setup.start_oracle("--count 60000 --rate 0 --batch 20 --shape f200").finish(LIMIT);
    assert_eq!(done.record.done(), 60_000);
    done.acquit_passthrough();
    done.acquit("slow", &slow.collect(), Terms { confirmed: true, ..Terms::default() });
}

#[test]
fn a_drain_limited_to_a_stream_gets_that_stream_alone() {
    let pair = Pair::start();
    let (out, err) = (HttpSink::healthy(), TcpSink::start(Plan::default()));
    let setup = pair.setup().drain(&format!("{},stream=stdout", out.url("out")));
    let setup = setup.drain(&format!("{},stream=stderr", err.url("err")));
    let done = setup.start_oracle("--count 1000 --rate 0 --err-every 3").finish(LIMIT);
    done.acquit_with(&done.record.only('o'), "out", &out.collect(), Terms { confirmed: true, ..Terms::default() });
    done.acquit_with(&done.record.only('e'), "err", &err.collect(), Terms { confirmed: true, ..Terms::default() });
    pair.acquit(&done);
}

#[test]
fn a_file_drain_holds_the_lines_as_they_were_written() {
    for shape in ["f200", "h"] {
        // On a disk, where syncing means something.
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("app.log");
        let setup = Setup::new().drain(&format!("file:{}#name=file", file.display()));
        let done = setup.start_oracle(&format!("--count 3000 --rate 0 --shape {shape}")).finish(LIMIT);
        let seen = raw(&fs::read(&file).expect("the file is there"), 'o');
        done.acquit("file", &seen, Terms { confirmed: true, ..Terms::default() });
    }
}

#[test]
fn datagrams_are_sent_once_each_and_called_no_more_than_sent() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(ms(500))).expect("a timeout can be set");
    let url = format!("syslog+udp://{}#name=udp", socket.local_addr().expect("bound"));
    let receiver = thread::spawn(move || {
        let mut messages = Vec::new();
        let mut buffer = vec![0; 65_536];
        let quiet = lastword::clock::now() + LIMIT;
        while lastword::clock::now() < quiet {
            match socket.recv(&mut buffer) {
                Ok(bytes) => messages.push(buffer[..bytes].to_vec()),
                Err(_) if !messages.is_empty() => break,
                Err(_) => {}
            }
        }
        crate::support::syslog::seen(&messages)
    });
    let done = Setup::new().drain(&url).start_oracle("--count 300 --rate 1000").finish(LIMIT);
    let seen = receiver.join().expect("the receiver must not panic");
    done.acquit("udp", &seen, Terms { unsure: true, ..Terms::default() });
    let books = done.report.as_ref().expect("a report").of("udp");
    assert_eq!((books.sent, seen.units.len()), (300, 300), "{books:?}");
}

#[test]
fn an_idle_connection_that_is_reset_costs_no_line_and_at_most_one_duplicate_36() {
    for death in ["idle reset", "fin"] {
        let pair = Pair::start();
        let deaths = if death == "fin" { vec![(ms(6500), Death::Fin)] } else { Vec::new() };
        let mortal = TcpSink::start(Plan { reading: Reading::Normal, deaths });
        let setup = pair.setup().drain(&mortal.url("mortal"));
        let go = setup.path("go");
        // Some lines, a pause until the file exists, one line more.
        let app = setup.oracle("--source a --count 20 --rate 0").join(" ");
        let app2 = setup.oracle("--source b --count 1").join(" ");
        let script = format!("{app}; until [ -e {} ]; do sleep 0.05; done; {app2}", go.display());
        let run = setup.start(&["sh", "-c", &script]);
        until("the first lines", LIMIT, || mortal.messages() == 20);
        // Acknowledged bytes leave the replay window after 5 s.
        crate::support::pause(ms(6500));
        if death == "idle reset" {
            mortal.kill_now();
        }
        until("the connection to die", LIMIT, || mortal.deaths() == 1);
        fs::write(&go, "").expect("a fresh file");
        let done = run.finish(LIMIT);
        assert_eq!(done.record.done(), 21, "stderr: {}", done.err());
        let facts = done.acquit("mortal", &mortal.collect(), Terms { duplicates: 1, ..Terms::default() });
        crate::support::note(&format!("{death}: {} duplicates", facts.duplicates));
        pair.acquit(&done);
    }
}

#[test]
fn the_app_never_waits_for_a_drain_14() {
    // Twenty thousand lines a second into drains that take nothing: the app must keep its pace.
    let deaf = TcpSink::start(Plan { reading: Reading::Never, deaths: Vec::new() });
    let silent = HttpSink::start(|_, _| Act::Silence);
    let longest = Arc::new(AtomicU64::new(0));
    let setup = Setup::new().drain(&deaf.url("deaf")).drain(&silent.url("silent")).flags(["--memory", "2MiB"]);
    let mut run = setup.stop_timeout(5).start_oracle("--rate 20000 --batch 20 --shape f200 --on-term goodbye:0");
    run.wrote(100);
    watch_pace(&run, 40_000, &longest);
    let peak = run.peak_memory();
    run.stop();
    let done = run.finish(Duration::from_secs(5));
    done.acquit_passthrough();
    done.acquit("silent", &silent.collect(), LOSSY);
    let terms = Terms { lossy: true, overcounted: true, duplicates: u64::MAX, ..Terms::default() };
    done.acquit("deaf", &deaf.collect(), terms);
    let longest = longest.load(Ordering::SeqCst);
    assert!(longest < 400, "the app stood still for {longest} ms");
    assert!(peak < 40 * 1024, "a peak of {peak} KiB with --memory 2MiB");
}

/// Watches until `lines` are written, noting the longest time in which none was.
fn watch_pace(run: &Running, lines: u64, longest: &AtomicU64) {
    let mut last = (lastword::clock::now(), 0);
    until("the app to write", LIMIT, || {
        let written = run.record().done();
        if written > last.1 {
            last = (lastword::clock::now(), written);
        }
        longest.fetch_max(last.0.elapsed().as_millis() as u64, Ordering::SeqCst);
        written >= lines
    });
}

#[test]
fn the_last_words_on_stderr_are_one_line_a_drain_and_they_are_true_62() {
    let down = Closed::port();
    let http = HttpSink::healthy();
    let setup = Setup::loud().drain(&http.url("healthy")).drain(&format!("syslog+tcp://{down}#name=down"));
    let mut run = setup.stop_timeout(3).start_oracle("--rate 500 --on-term goodbye:100");
    run.wrote(200);
    run.stop();
    let done = run.finish(Duration::from_secs(3));
    let (err, count) = (done.err(), done.record.done().to_string());
    let lines: Vec<String> = err.lines().map(|line| line.replace(',', "")).collect();
    let [.., healthy, down] = &lines[..] else { panic!("no report: {err}") };
    assert!(healthy.starts_with("lastword") && healthy.contains("healthy"), "{err}");
    assert!(healthy.contains(&format!("read {count} = confirmed {count} + lost 0;")), "{err}");
    assert!(down.starts_with("lastword") && down.contains("down"), "{err}");
    assert!(down.contains(&format!("read {count} = lost {count} (deadline {count});")), "{err}");
    done.acquit("healthy", &http.collect(), Terms { confirmed: true, ..Terms::default() });
}

#[test]
fn without_a_drain_nothing_is_said() {
    let done = Setup::loud().start(&["sh", "-c", "echo out; echo err >&2; exit 2"]).finish(LIMIT);
    assert_eq!((done.code(), &done.stdout[..], &done.stderr[..]), (2, &b"out\n"[..], &b"err\n"[..]));
}
