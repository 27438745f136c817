//! The pass-through: every byte, at once, whatever becomes of our own stdout; and drains that do not care.

use crate::support::{
    http::{Act, HttpSink},
    judge::{Seen, Terms},
    ms,
    pair::Pair,
    seed, tools, until,
    wrapper::{Setup, without_own},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    fs,
    io::{Read, pipe},
    process::{Command, Stdio},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(30);

fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

#[test]
fn any_bytes_pass_through_unchanged_on_both_streams_36_37() {
    let seed = seed("random bytes");
    for pid1 in [false, true] {
        let pair = Pair::start();
        let setup = pair.setup().pid1(pid1);
        let (out, err) = (random_bytes(seed, 3_000_000), random_bytes(seed + 1, 1_000_000));
        fs::write(setup.path("out"), &out).expect("a fresh file");
        fs::write(setup.path("err"), &err).expect("a fresh file");
        let command = format!("cat {} >&2 & cat {}; wait", setup.path("err").display(), setup.path("out").display());
        let done = setup.start(&["sh", "-c", &command]).finish(LIMIT);
        assert_eq!(done.code(), 0);
        assert!(done.stdout == out, "stdout differs, seed {seed}");
        assert!(without_own(&done.stderr) == err, "stderr differs, seed {seed}");
        for (name, seen) in [("http", pair.http.collect()), ("tcp", pair.tcp.collect())] {
            assert!(whole(&seen, 'o') == lines(&out), "{name}, stdout, seed {seed}");
            assert!(whole(&seen, 'e') == lines(&err), "{name}, stderr, seed {seed}");
            let books = done.report.as_ref().expect("a report").of(name);
            assert_eq!((books.read, books.lost()), (seen.units.len() as u64, 0), "{books:?}");
        }
    }
}

/// The lines of a text; what stands after the last newline is one if it has bytes.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.strip_suffix(b"\n").unwrap_or(text).split(|&byte| byte == b'\n').collect()
}

/// The lines of a stream, parts put together.
fn whole(seen: &Seen, stream: char) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let mut open = Vec::new();
    for unit in seen.units.iter().filter(|unit| unit.stream == Some(stream)) {
        open.extend_from_slice(&unit.text);
        if unit.part.is_none_or(|(_, last)| last) {
            lines.push(std::mem::take(&mut open));
        }
    }
    assert!(open.is_empty(), "a long line without its end");
    lines
}

#[test]
fn lines_of_every_shape_reach_the_drains_and_the_pass_through_35_4_5_8() {
    for shape in ["p", "f200", "e", "h", "u"] {
        let pair = Pair::start();
        let options = format!("--count 2000 --rate 0 --batch 7 --err-every 3 --no-newline --shape {shape}");
        let done = pair.setup().start_oracle(&options).finish(LIMIT);
        assert_eq!((done.code(), done.record.done()), (0, 2000));
        pair.acquit(&done);
    }
}

#[test]
fn a_prompt_without_a_newline_shows_at_once_6() {
    let pair = Pair::start();
    let (reader, writer) = pipe().expect("a pipe");
    let run =
        pair.setup().stdin(reader.into()).start(&["sh", "-c", "printf 'name? '; read name; echo \"hello $name\""]);
    until("the prompt", ms(3000), || run.stdout() == b"name? ");
    std::io::Write::write_all(&mut &writer, b"you\n").expect("it reads");
    drop(writer);
    let done = run.finish(LIMIT);
    assert_eq!(done.stdout, b"name? hello you\n");
    let texts: Vec<Vec<u8>> = pair.tcp.collect().units.into_iter().map(|unit| unit.text).collect();
    assert_eq!(texts, [b"name? hello you"]);
}

#[test]
fn a_closed_stdout_keeps_nothing_from_the_drains_25() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let launcher = ["sh", "-c", "exec \"$@\" >&-", "sh"];
        let done =
            pair.setup().launcher(&launcher).pid1(pid1).start_oracle("--count 500 --rate 0 --exit 3").finish(LIMIT);
        assert_eq!((done.code(), done.record.done()), (3, 500), "stderr: {}", done.err());
        pair.acquit_drains(&done, Terms { confirmed: true, ..Terms::default() });
    }
}

#[test]
fn a_stdout_whose_reader_has_gone_keeps_nothing_from_the_drains_64() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let (mut reader, writer) = pipe().expect("a pipe");
        let run = pair.setup().stdout(writer.into()).pid1(pid1).start_oracle("--count 500 --rate 500 --exit 3");
        reader.read_exact(&mut [0; 100]).expect("the first lines");
        drop(reader);
        let done = run.finish(LIMIT);
        assert_eq!((done.code(), done.record.done()), (3, 500), "stderr: {}", done.err());
        pair.acquit_drains(&done, Terms { confirmed: true, ..Terms::default() });
    }
}

#[test]
fn a_full_disk_behind_stdout_keeps_nothing_from_the_drains() {
    let pair = Pair::start();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let done = pair.setup().stdout(full.into()).start_oracle("--count 500 --rate 0 --exit 3").finish(LIMIT);
    assert_eq!((done.code(), done.record.done()), (3, 500), "stderr: {}", done.err());
    pair.acquit_drains(&done, Terms { confirmed: true, ..Terms::default() });
}

#[test]
fn a_stdout_that_is_never_read_keeps_no_last_word_from_the_drains_64() {
    for pid1 in [false, true] {
        let pair = Pair::start();
        let (reader, writer) = pipe().expect("a pipe");
        let options = "--rate 0 --shape f200 --on-term goodbye:500";
        let mut run = pair.setup().stdout(writer.into()).pid1(pid1).stop_timeout(10).start_oracle(options);
        run.wrote(300);
        // Until the app stands still, as it would without us.
        let mut before = 0;
        until("the pipes to fill up", LIMIT, || {
            crate::support::pause(ms(300));
            let now = run.record().done();
            std::mem::replace(&mut before, now) == now
        });
        // The app hangs in its write, as it would without us, and is killed in time.
        run.stop();
        let done = run.finish(Duration::from_secs(10));
        assert!(done.record.done() >= before, "stderr: {}", done.err());
        pair.acquit_drains(&done, Terms { confirmed: true, ..Terms::default() });
        drop(reader);
    }
}

#[test]
fn a_stdout_that_stalls_for_a_while_gets_every_byte_all_the_same() {
    let pair = Pair::start();
    let (mut reader, writer) = pipe().expect("a pipe");
    let run = pair.setup().stdout(writer.into()).start_oracle("--count 20000 --rate 0 --batch 50 --shape f200");
    until("the pipes to fill up", LIMIT, || run.record().done() > 1000);
    crate::support::pause(ms(500));
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut done = run.finish(LIMIT);
    done.stdout = reading.join().expect("no panic").expect("a pipe can be read");
    assert_eq!(done.record.done(), 20_000);
    pair.acquit(&done);
}

#[test]
fn our_stdout_is_not_made_non_blocking_29() {
    let (reader, writer) = pipe().expect("a pipe");
    let run = Setup::new().stdout(writer.into()).start(&["sleep", "0.3"]);
    crate::support::pause(ms(150));
    let info = fs::read_to_string(format!("/proc/{}/fdinfo/1", run.pid)).expect("it runs");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim).expect("flags");
    let flags = i32::from_str_radix(flags, 8).expect("octal");
    assert_eq!(flags & nix::libc::O_NONBLOCK, 0, "{info}");
    run.finish(LIMIT);
    drop(reader);
}

#[test]
fn passthrough_off_keeps_stdout_empty_and_the_drains_full() {
    let pair = Pair::start();
    let done =
        pair.setup().flags(["--passthrough", "off"]).start_oracle("--count 100 --rate 0 --err-every 3").finish(LIMIT);
    assert_eq!((done.stdout.len(), without_own(&done.stderr).len()), (0, 0));
    assert_eq!(done.record.done(), 100);
    pair.acquit_drains(&done, Terms { confirmed: true, ..Terms::default() });
}

#[test]
fn a_line_of_100_mb_takes_little_memory_and_arrives_in_parts_1() {
    const LENGTH: usize = 100_000_000;
    let http = HttpSink::start(|_, _| Act::Take);
    let setup = Setup::new().drain(&http.url("http")).flags(["--when-full", "block", "--memory", "4MiB"]);
    let setup = setup.stop_timeout(30);
    let script = format!("head -c {LENGTH} /dev/zero | tr '\\0' x; echo; exec sleep 60");
    let mut run = setup.start(&["sh", "-c", &script]);
    until("the line to pass through", Duration::from_secs(60), || run.stdout().len() > LENGTH);
    let peak = run.peak_memory();
    run.stop();
    let done = run.finish(LIMIT);
    assert!(peak < 40 * 1024, "a peak of {peak} KiB; stderr: {}", done.err());
    let seen = http.collect();
    let lines = whole(&seen, 'o');
    assert_eq!((lines.len(), lines[0].len()), (1, LENGTH));
    assert!(lines[0].iter().all(|&byte| byte == b'x'));
    let books = done.report.as_ref().expect("a report").of("http");
    assert_eq!((books.read, books.confirmed), (seen.units.len() as u64, books.read), "{books:?}");
}

#[test]
fn tee_forwards_standard_input_and_passes_it_through() {
    let pair = Pair::start();
    let setup = Setup::command(&["tee"]).drain(&pair.tcp.url("tcp")).drain(&pair.http.url("http")).flags(["--quiet"]);
    let (reader, writer) = pipe().expect("a pipe");
    let mut app = Command::new(tools::oracle_app());
    app.arg("--record").arg(setup.path("record")).args(["--count", "5000", "--rate", "0", "--shape", "h"]);
    let mut child = app.stdout(writer).stderr(Stdio::null()).spawn().expect("the test app starts");
    // It keeps our end of the pipe.
    drop(app);
    let done = setup.stdin(reader.into()).start::<&str>(&[]).finish(LIMIT);
    assert!(child.wait().expect("our own child").success());
    assert_eq!((done.code(), done.record.done()), (0, 5000), "stderr: {}", done.err());
    pair.acquit(&done);
}

/// Opened anew, `/dev/stdout` had a place of its own in the file behind it, and the pass-through wrote over what the drain had
/// confirmed; on a socket it could not be opened at all.
#[test]
fn a_drain_to_our_own_stdout_and_the_pass_through_stand_beside_each_other_in_a_file_and_on_a_socket() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let (mut reader, writer) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    });
    let into_file = file.reopen().expect("our own file");
    for stdout in [into_file.into(), Stdio::from(std::os::fd::OwnedFd::from(writer))] {
        let setup = Setup::new().drain("ndjson+file:/dev/stdout#name=out").stdout(stdout);
        let done = setup.start_oracle("--count 500 --rate 0 --batch 3").finish(LIMIT);
        assert_eq!((done.code(), done.record.done()), (0, 500), "{}", done.err());
        assert_eq!(done.report.as_ref().expect("a report").of("out").confirmed, 500, "{}", done.err());
    }
    let from_socket = reading.join().expect("no panic").expect("it is closed");
    for bytes in [fs::read(file.path()).expect("it was written"), from_socket] {
        // A write of one is never within a write of the other.
        let json = bytes.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"{\"ts\":")).count();
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
        assert_eq!((json, lines), (500, 1000), "{}", String::from_utf8_lossy(&bytes));
    }
}
