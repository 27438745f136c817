//! The spool with the real binary, a real disk and real receivers: SIGKILL at any moment, the next run, full and missing disks.
//!
//! What was appended is a prefix of what was written, so after a SIGKILL and another run nothing but a tail may be missing,
//! and that tail must not have been in the spool when lastword died.

use crate::support::{
    http::{Act, HttpSink},
    judge::{Seen, Terms},
    ms, note,
    record::{Record, identify},
    schedules::{Schedules, enough},
    tcp::{Plan, TcpSink},
    tools, until,
    wrapper::{Finished, Setup},
};
use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// An HTTP receiver that refuses everything, or every `n`-th request, until it is told to be well.
pub fn moody(every: usize) -> (HttpSink, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let sink = HttpSink::start({
        let well = Arc::clone(&well);
        move |number, _| match well.load(Ordering::SeqCst) || !number.is_multiple_of(every) {
            true => Act::Take,
            false => Act::Refuse(503, ""),
        }
    });
    (sink, well)
}

/// What `lastword spool WORDS DIR` prints.
pub fn look(words: &[&str], dir: &Path) -> (i32, Vec<u8>) {
    let out = Command::new(tools::lastword()).arg("spool").args(words).arg(dir).output().expect("lastword runs");
    (out.status.code().expect("it ends by itself"), out.stdout)
}

/// Numbers by source: what a receiver got or a spool holds. Panics at whatever is no line of the app.
pub fn numbers(texts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> BTreeMap<(String, char), BTreeSet<u64>> {
    let mut numbers: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
    for text in texts {
        let text = text.as_ref();
        let claim = identify(text).unwrap_or_else(|| panic!("mangled: {:?}", String::from_utf8_lossy(text)));
        numbers.entry(claim.source).or_default().insert(claim.number);
    }
    numbers
}

/// Every line up to some number arrived, at least once, in order; none was invented; all of `kept` is there.
#[track_caller]
pub fn nothing_but_a_tail_is_missing(record: &Record, seen: &Seen, kept: &[u8], context: &str) -> u64 {
    let kept = numbers(kept.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()));
    let mut newest: BTreeMap<(String, char), u64> = BTreeMap::new();
    for unit in &seen.units {
        let claim = identify(&unit.text).unwrap_or_else(|| panic!("{context}: mangled {unit:?}"));
        let newest = newest.entry(claim.source.clone()).or_default();
        let spooled = |number: &u64| kept.get(&claim.source).is_some_and(|kept| kept.contains(number));
        let missing = *newest + 1..claim.number;
        let lost = missing.clone().filter(spooled).count();
        assert!(missing.is_empty(), "{context}: {missing:?} of {:?} are missing, {lost} of them spooled", claim.source);
        *newest = (*newest).max(claim.number);
    }
    for (source, last) in &newest {
        assert!(*last <= record.sources[source].begun, "{context}: {source:?} {last} was never written");
    }
    for (source, numbers) in &kept {
        let (last, arrived) = (numbers.last().copied().unwrap_or(0), newest.get(source).copied().unwrap_or(0));
        assert!(last <= arrived, "{context}: {source:?} {last} was in the spool, {arrived} is the last that arrived");
    }
    kept.values().map(|numbers| numbers.len() as u64).sum()
}

struct Killed {
    /// Lines in the spool when lastword was dead.
    kept: u64,
    adopted: u64,
    /// Next runs that it took until all was delivered. One, unless the machine stands still for seconds: a run that gets on
    /// with nothing for two leaves the rest where it is safe.
    runs: u64,
}

/// Kills a run at a random moment, runs another on the same spool, and judges both drains over both runs.
fn kill_once(seed: u64) -> Killed {
    let mut random = StdRng::seed_from_u64(seed);
    let (http, well) = moody(random.random_range(1..5));
    let tcp = TcpSink::start(Plan::default());
    let setup = Setup::new();
    let spool = setup.path("spool");
    let dir = spool.to_string_lossy().into_owned();
    let memory = ["256KiB", "4MiB"][random.random_range(0..2)];
    let rate = [500, 5000, 0][random.random_range(0..3)];
    let mut run = setup
        .flags(["--spool", &dir, "--memory", memory])
        .drain(&http.url("http"))
        .drain(&tcp.url("tcp"))
        .start_oracle(&format!("--rate {rate} --err-every 3 --shape f300"));
    run.wrote(2);
    crate::support::pause(ms(random.random_range(0..400)));
    run.signal(Signal::SIGKILL);
    let first = run.finish(Duration::from_secs(20));
    assert_eq!(first.code(), 1009, "{}", first.err());
    let (code, kept) = look(&["cat"], &spool);
    assert_eq!(code, 0);
    well.store(true, Ordering::SeqCst);
    let (mut adopted, mut runs, mut left) = (0, 0, u64::MAX);
    let mut context = format!("seed {seed}, rate {rate}, memory {memory}; the killed run: {}", first.err());
    while left > 0 {
        assert!(runs < 4, "it stays undelivered: {context}");
        left = 0;
        let next = Setup::new().flags(["--spool", &dir]).drain(&http.url("http")).drain(&tcp.url("tcp"));
        let next = next.start(&["true"]).finish(Duration::from_secs(60));
        runs += 1;
        context += &format!("; next run, {:?}: {}", next.took, next.err());
        assert_eq!(next.code(), 0, "{context}");
        for name in ["http", "tcp"] {
            let books = next.report.as_ref().expect("a report").of(name);
            assert_eq!((books.lost(), books.read), (0, 0), "{context}: {books:?}");
            assert_eq!(books.adopted, books.confirmed + books.accepted + books.spooled, "{context}: {books:?}");
            adopted += books.adopted - books.spooled;
            left += books.spooled;
        }
    }
    assert!(look(&["cat"], &spool).1.is_empty(), "{context}: all was delivered, and some is still there");
    let mut count = 0;
    for seen in [http.collect(), tcp.collect()] {
        count = nothing_but_a_tail_is_missing(&first.record, &seen, &kept, &context);
        assert!(seen.gaps.is_empty(), "{context}: {:?}", seen.gaps);
    }
    Killed { kept: count, adopted, runs }
}

#[test]
fn what_was_appended_outlives_fifty_sigkills() {
    let schedules = Schedules { name: "SIGKILLs", times: ("LASTWORD_KILLS", 50), lanes: 4 };
    let results = schedules.run(|seed, _| kill_once(seed));
    let (kept, adopted) =
        (results.iter().filter(|it| it.kept > 0).count(), results.iter().filter(|it| it.adopted > 0).count());
    let lines: u64 = results.iter().map(|it| it.adopted).sum();
    let kills = results.len();
    let more: u64 = results.iter().map(|it| it.runs - 1).sum();
    note(&format!(
        "{kills} kills: {kept} left lines in the spool, {adopted} next runs sent some, {lines} in all; {more} runs more than one each"
    ));
    assert!(
        enough(kept, kills, 50) && enough(adopted, kills, 50),
        "only {kept} kills left anything, {adopted} runs sent any: the test missed its subject"
    );
}

/// A first run whose receiver is down; a second one whose receiver is well. Each judged against both reports.
fn down_then_up(first: impl FnOnce(Setup) -> Setup, options: &str) -> (Finished, Finished, Seen) {
    let (http, well) = moody(1);
    let setup = Setup::loud();
    let dir = setup.path("spool").to_string_lossy().into_owned();
    let one = first(setup.flags(["--spool", &dir, "--flush-timeout", "1s"]).drain(&http.url("http")))
        .start_oracle(options)
        .finish(Duration::from_secs(30));
    well.store(true, Ordering::SeqCst);
    let two = Setup::loud()
        .flags(["--spool", &dir])
        .drain(&http.url("http"))
        .start(&["true"])
        .finish(Duration::from_secs(60));
    (one, two, http.collect())
}

#[test]
fn what_a_run_could_not_deliver_the_next_one_sends_as_it_was() {
    let (one, two, seen) = down_then_up(|setup| setup, "--count 500 --rate 0 --err-every 3 --exit 7");
    assert_eq!(one.code(), 7);
    let books = one.report.as_ref().expect("a report").of("http");
    assert_eq!((books.read, books.spooled, books.lost()), (500, 500, 0), "{books:?}");
    assert!(one.err().contains("what was not delivered is in "), "{}", one.err());
    let books = two.report.as_ref().expect("a report").of("http");
    assert_eq!((books.read, books.adopted, books.confirmed), (0, 500, 500), "{books:?}");
    // One run id, though two runs sent: the lines' own. Judged as if the first had confirmed all.
    assert_eq!(seen.runs.len(), 1, "{:?}", seen.runs);
    let numbers: BTreeSet<u64> = seen.units.iter().filter_map(|unit| unit.seq).collect();
    assert_eq!(numbers, (1..=500).collect());
    assert_eq!(seen.units.len(), 500, "an orderly exit leaves no duplicates");
    nothing_but_a_tail_is_missing(&one.record, &seen, &[], "down then up");
}

#[test]
fn with_a_spool_a_small_memory_overflows_to_the_disk_and_nothing_is_lost() {
    let (one, two, seen) =
        down_then_up(|setup| setup.flags(["--memory", "256KiB"]), "--count 30000 --rate 0 --err-every 3 --batch 50");
    let books = one.report.as_ref().expect("a report").of("http");
    assert_eq!((books.read, books.spooled, books.lost()), (30_000, 30_000, 0), "{books:?}");
    let books = two.report.as_ref().expect("a report").of("http");
    assert_eq!((books.adopted, books.confirmed), (30_000, 30_000), "{books:?}");
    assert_eq!(seen.units.len(), 30_000);
    nothing_but_a_tail_is_missing(&one.record, &seen, &[], "small memory");
}

#[test]
fn an_outage_within_one_run_goes_through_the_disk_in_order_16() {
    let (http, well) = moody(1);
    let setup = Setup::new();
    let dir = setup.path("spool").to_string_lossy().into_owned();
    let run = setup
        .flags(["--spool", &dir, "--memory", "256KiB"])
        .drain(&http.url("http"))
        .start_oracle("--count 30000 --rate 0 --err-every 3 --batch 50");
    run.wrote(20_000);
    well.store(true, Ordering::SeqCst);
    let done = run.finish(Duration::from_secs(60));
    done.acquit("http", &http.collect(), Terms { confirmed: true, ..Terms::default() });
}

#[test]
fn with_a_drain_of_one_stream_the_other_stream_is_neither_kept_nor_sent() {
    let (http, well) = moody(1);
    let url = format!("{},stream=stderr", http.url("http"));
    let setup = Setup::new();
    let dir = setup.path("spool").to_string_lossy().into_owned();
    let flags = ["--spool", &dir, "--memory", "256KiB", "--flush-timeout", "1s"];
    let one = setup
        .flags(flags)
        .drain(&url)
        .start_oracle("--count 20000 --rate 0 --err-every 3 --batch 50")
        .finish(Duration::from_secs(30));
    let books = one.report.as_ref().expect("a report").of("http").clone();
    assert!(books.read > 5000 && books.spooled == books.read, "{books:?}");
    well.store(true, Ordering::SeqCst);
    let two = Setup::new().flags(["--spool", &dir]).drain(&url).start(&["true"]).finish(Duration::from_secs(60));
    let after = two.report.as_ref().expect("a report").of("http");
    assert_eq!((after.adopted, after.confirmed), (books.read, books.read), "{after:?}");
    let seen = http.collect();
    assert!(seen.units.iter().all(|unit| unit.stream == Some('e')));
    nothing_but_a_tail_is_missing(&one.record.only('e'), &seen, &[], "stderr alone");
}

#[test]
fn a_spool_that_cant_be_written_harms_nothing_unless_it_is_required() {
    let start = |required: bool| {
        let http = HttpSink::healthy();
        let setup = Setup::loud();
        fs::write(setup.path("file"), "in the way").expect("a fresh directory takes a file");
        let dir = setup.path("file").join("spool").to_string_lossy().into_owned();
        let setup = setup.flags(["--spool", &dir]).drain(&http.url("http"));
        let setup = if required { setup.flags(["--spool-required"]) } else { setup };
        let done = setup.start_oracle("--count 50 --rate 0").finish(Duration::from_secs(20));
        (done, http)
    };
    let (done, http) = start(false);
    assert!(done.err().contains("drains go on from memory, and it is tried again"), "{}", done.err());
    done.acquit("http", &http.collect(), Terms { confirmed: true, ..Terms::default() });
    let (done, _http) = start(true);
    assert_eq!((done.code(), done.record.done()), (125, 0), "{}", done.err());
}

#[test]
fn a_directory_that_vanishes_is_said_and_the_drains_go_on() {
    let http = HttpSink::healthy();
    let setup = Setup::loud();
    let spool = setup.path("spool");
    let run = setup
        .flags(["--spool", &spool.to_string_lossy()])
        .drain(&http.url("http"))
        .start_oracle("--count 2000 --rate 2000 --err-every 3");
    run.wrote(200);
    fs::remove_dir_all(&spool).expect("it is there");
    let done = run.finish(Duration::from_secs(30));
    assert!(done.err().contains("drains go on from memory"), "{}", done.err());
    done.acquit("http", &http.collect(), Terms { confirmed: true, ..Terms::default() });
}

#[test]
fn a_second_lastword_uses_a_directory_of_its_own_and_its_lines_are_sent_too() {
    let (http, well) = moody(1);
    let setup = Setup::new();
    let spool = setup.path("spool");
    let dir = spool.to_string_lossy().into_owned();
    let mut owner = setup.flags(["--spool", &dir]).drain(&http.url("http")).start_oracle("--rate 50 --source one");
    owner.wrote(3);
    let mut second =
        Setup::new().flags(["--spool", &dir]).drain(&http.url("http")).start_oracle("--rate 50 --source two");
    second.wrote(3);
    until("the second to have a directory of its own", ms(5000), || spool.join("second-1").is_dir());
    crate::support::pause(ms(100));
    for run in [&mut owner, &mut second] {
        run.signal(Signal::SIGKILL);
    }
    let (owner, second) = (owner.finish(Duration::from_secs(20)), second.finish(Duration::from_secs(20)));
    well.store(true, Ordering::SeqCst);
    let third =
        Setup::new().flags(["--spool", &dir]).drain(&http.url("http")).start(&["true"]).finish(Duration::from_secs(60));
    let seen = http.collect();
    let arrived = numbers(seen.units.iter().map(|unit| &unit.text[..]));
    for (source, extent) in owner.record.sources.iter().chain(&second.record.sources) {
        assert!(
            extent.done == 0 || arrived.contains_key(source),
            "nothing of {source:?}: {arrived:?}; {}",
            third.err()
        );
    }
}

#[test]
fn without_a_spool_the_fallback_gets_what_no_drain_took() {
    let (http, _never_well) = moody(1);
    let setup = Setup::loud();
    let path = setup.path("fallback");
    let done = setup
        .flags(["--fallback", &path.to_string_lossy(), "--flush-timeout", "1s"])
        .drain(&http.url("http"))
        .start_oracle("--count 300 --rate 0 --err-every 3")
        .finish(Duration::from_secs(30));
    let text = fs::read(&path).expect("the fallback");
    let numbers = numbers(text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()));
    assert_eq!(numbers.values().map(BTreeSet::len).sum::<usize>(), 300, "{}", done.err());
    assert!(
        done.err().contains("written to the fallback 300 + lost 0") || done.err().contains("fallback 300"),
        "{}",
        done.err()
    );
}

#[test]
fn last_words_at_a_stop_that_no_drain_takes_are_spooled_within_the_budget_and_sent_by_the_next_run() {
    for pid1 in [false, true] {
        let (http, well) = moody(1);
        let setup = Setup::new().stop_timeout(8).pid1(pid1);
        let dir = setup.path("spool").to_string_lossy().into_owned();
        let mut run = setup
            .flags(["--spool", &dir])
            .drain(&http.url("http"))
            .start_oracle("--rate 500 --err-every 3 --on-term goodbye:500");
        run.wrote(100);
        run.stop();
        let one = run.finish(Duration::from_secs(10));
        assert!(one.since_stop < Some(Duration::from_secs(8)), "{:?}", one.since_stop);
        one.all_said_goodbye();
        let books = one.report.as_ref().expect("a report").of("http");
        assert_eq!((books.spooled, books.lost()), (books.read, 0), "{books:?}");
        assert_eq!(books.read, one.record.done());
        well.store(true, Ordering::SeqCst);
        let two = Setup::new()
            .flags(["--spool", &dir])
            .drain(&http.url("http"))
            .start(&["true"])
            .finish(Duration::from_secs(60));
        assert_eq!(two.report.as_ref().expect("a report").of("http").confirmed, books.read, "{}", two.err());
        let seen = http.collect();
        assert_eq!(seen.units.len() as u64, books.read, "each line once");
        nothing_but_a_tail_is_missing(&one.record, &seen, &[], "stopped");
    }
}

#[test]
fn a_full_spool_gives_up_the_oldest_lines_and_counts_them_to_the_line() {
    let (http, well) = moody(1);
    let setup = Setup::new();
    let spool = setup.path("spool");
    let dir = spool.to_string_lossy().into_owned();
    let one = setup
        .flags(["--spool", &dir, "--spool-max", "1MiB", "--memory", "256KiB", "--flush-timeout", "1s"])
        .drain(&http.url("http"))
        .start_oracle("--count 20000 --rate 0 --shape f200 --batch 50")
        .finish(Duration::from_secs(60));
    let books = one.report.as_ref().expect("a report").of("http").clone();
    let overflow = books.lost.get("overflow").copied().unwrap_or(0);
    assert!(overflow > 5000, "{books:?}");
    assert_eq!((books.read, books.spooled + books.lost()), (20_000, 20_000), "{books:?}");
    let used: u64 =
        fs::read_dir(&spool).expect("the spool").map(|it| it.expect("it").metadata().expect("it").len()).sum();
    assert!(used <= (1 << 20) + (512 << 10), "{used}");
    well.store(true, Ordering::SeqCst);
    let two =
        Setup::new().flags(["--spool", &dir]).drain(&http.url("http")).start(&["true"]).finish(Duration::from_secs(60));
    let after = two.report.as_ref().expect("a report").of("http");
    assert_eq!((after.adopted, after.confirmed), (books.spooled, books.spooled), "{after:?}; {books:?}; {}", one.err());
    assert_eq!(http.collect().units.len() as u64, books.spooled);
}

#[test]
fn a_smaller_cap_on_the_next_run_gives_up_the_oldest_lines_and_counts_them() {
    let (http, _never_well) = moody(1);
    let setup = Setup::new();
    let spool = setup.path("spool");
    let dir = spool.to_string_lossy().into_owned();
    let flags = ["--spool", &dir, "--memory", "256KiB", "--flush-timeout", "1s", "--spool-max"];
    let one = setup.flags(flags).flags(["4MiB"]).drain(&http.url("http"));
    let one = one.start_oracle("--count 10000 --rate 0 --shape f200 --batch 50").finish(Duration::from_secs(60));
    assert_eq!(one.report.as_ref().expect("a report").of("http").spooled, 10_000);
    let two = Setup::new().flags(flags).flags(["1MiB"]).drain(&http.url("http"));
    let two = two.start_oracle("--count 500 --rate 0 --shape f200").finish(Duration::from_secs(60));
    let books = two.report.as_ref().expect("a report").of("http");
    // A segment goes as a whole, and with it what of it was in memory already.
    assert_eq!((books.adopted, books.read, books.spooled + books.lost()), (10_000, 500, 10_500), "{books:?}");
    assert!(books.lost.get("overflow") > Some(&4000) && books.spooled >= 500, "{books:?}");
    let used: u64 =
        fs::read_dir(&spool).expect("the spool").map(|it| it.expect("it").metadata().expect("it").len()).sum();
    assert!(used <= (1 << 20) + (512 << 10), "{used}");
}
