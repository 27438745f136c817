//! What must hold for any bytes, one function a target: called by `cargo fuzz` (`fuzz/`) with what it makes up, and by the
//! tests below with the inputs that were kept. A function that returns is content; one that panics has found something.

mod directory;

use self::directory::{Choices, DRAINS, batch};
use crate::{
    config::{Environment, drain_url::DrainUrl, drains},
    format::{Format, otlp::Encoding, webhook::Preset},
    line::{Batch, Stream, framer::oracle},
    spool::{
        codec::{Header, Owed, encode_frame},
        disk::Disk,
        index::Index,
        load::Loader,
        log::Log,
        recovery::{Found, Range, read_header, recover, segment_name},
        scan::{Item, Scanner},
        sim::{Faults, SimDisk},
    },
    transport::{
        Payload, Verdict,
        http::judged,
        relp::frame::{Answer, DATA_MAX, NotRelp, Parser, encode},
    },
};
use reqwest::Response;
use std::sync::Arc;

/// A function that takes whatever bytes there are.
pub type Target = fn(&[u8]);

/// The targets by their names, which are those of the files in `fuzz/fuzz_targets` and of the folders in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 6] = [
    ("drain_url", drain_url),
    ("framer", framer),
    ("http", http),
    ("relp", relp),
    ("scanner", scanner),
    ("spool", spool),
];

/// The segment scanner, over the segments of a directory: a frame that it returns is in the file, to the bit, checksum and
/// all; it comes to an end; what is behind the last frame may be cut off, and the file may grow under it, and it finds the
/// same.
pub fn scanner(data: &[u8]) {
    let disk = directory::make(data);
    for (name, bytes) in disk.files() {
        let Ok(Ok((_, body, salt))) = read_header(&disk, &name) else { continue };
        let whole = Scanner::new(name.clone(), salt, body, bytes.len() as u64);
        let items = scan(whole, &disk, body);
        let (mut batches, mut ends) = (Vec::new(), Vec::new());
        for item in items {
            if let Item::Frame { batch, before, end } = item {
                let mut frame = Vec::new();
                encode_frame(&batch, before, salt, &mut frame);
                assert_eq!(bytes[..end as usize][end as usize - frame.len()..], frame, "it is in the file");
                batches.push(batch);
                ends.push(end);
            }
        }
        let mut growing = Scanner::new(name.clone(), salt, body, body);
        let mut grown = Vec::new();
        for &end in &ends {
            growing.grow(end);
            grown.extend(frames(std::iter::from_fn(|| growing.next(&disk).expect("the disk is well"))));
        }
        assert_eq!(grown, batches, "as it grew");
        let cut = ends.last().copied().unwrap_or(body);
        disk.truncate(&name, cut).expect("the disk is well");
        let again = scan(Scanner::new(name, salt, body, cut), &disk, body);
        assert!(!matches!(again.last(), Some(Item::Damage { .. })), "nothing is left to cut off");
        assert_eq!(frames(again.into_iter()), batches, "after the cut");
    }
}

/// All items, each of which ends behind the one before.
fn scan(mut scanner: Scanner, disk: &dyn Disk, body: u64) -> Vec<Item> {
    let (mut items, mut at) = (Vec::new(), body);
    while let Some(item) = scanner.next(disk).expect("the disk is well") {
        let to = match &item {
            Item::Frame { end, .. } => *end,
            Item::Damage { to } => *to,
            Item::Footer(footer) => footer.offset + 1,
        };
        assert!(to > at, "it goes on");
        at = to;
        items.push(item);
    }
    items
}

fn frames(items: impl Iterator<Item = Item>) -> Vec<Batch> {
    items.filter_map(|item| if let Item::Frame { batch, .. } = item { Some(batch) } else { None }).collect()
}

/// Recovery, over a directory in any state and a disk that may fail: it ends, and a second one changes nothing; what a drain is owed can
/// be read to its end; a new run goes on behind it, and the next recovery finds the new run's lines.
pub fn spool(data: &[u8]) {
    let mut choices = Choices(data);
    let (fail_at, errno) = (choices.byte(), choices.byte());
    let disk = Arc::new(directory::make(choices.0));
    let errors = [nix::libc::EIO, nix::libc::ENOSPC, nix::libc::EROFS, nix::libc::ENOENT];
    let fail_at = Some((usize::from(fail_at), errors[usize::from(errno) % errors.len()]));
    disk.set_faults(Faults { fail_at, for_good: errno & 0x80 != 0, ..Faults::default() });
    recover(&*disk);
    disk.set_faults(Faults::default());

    let found = recover(&*disk);
    let files = disk.files();
    for pair in found.segments.windows(2) {
        assert!(pair[0].number < pair[1].number, "in order");
    }
    for segment in &found.segments {
        let file = files.get(&segment_name(segment.number)).map(|bytes| bytes.len() as u64);
        assert_eq!(file, Some(segment.bytes), "it is where it is looked for");
    }
    let again = recover(&*disk);
    assert_eq!((again.segments, disk.files()), (found.segments.clone(), files), "recovered once is recovered");
    for (identity, _) in DRAINS {
        read_all(&disk, &found, identity);
    }
    go_on(&disk, found);
}

/// Reads what a drain is owed as its queue does.
fn read_all(disk: &Arc<SimDisk>, found: &Found, identity: &str) {
    let index = Arc::new(Index::new(found.segments.iter().map(|segment| segment.number)));
    let mut loader = Loader::new(Arc::clone(disk) as Arc<dyn Disk>, index, "now".into());
    for range in found.owed(&**disk, identity) {
        let mut from = range.from;
        while from < range.to {
            let loaded = loader.load(&Range { from, ..range }, 64);
            assert!(loaded.upto > from && loaded.upto <= range.to, "it goes on, and not too far: {loaded:?}");
            for batch in &loaded.batches {
                assert!(batch.end_seq() > from && batch.first_seq() < range.to, "it was asked for");
                assert_eq!(batch.stream(), range.stream.unwrap_or(batch.stream()), "of its stream");
            }
            from = loaded.upto;
        }
    }
}

/// A run appends to what was found, and dies.
fn go_on(disk: &Arc<SimDisk>, found: Found) {
    let drains = vec![Owed { identity: "all".into(), stream: None }];
    let header = Header { run: "now".into(), drains, ..Header::default() };
    let mut log = Log::new(Arc::clone(disk) as Arc<dyn Disk>, header, 600, 1 << 30, found);
    for first in [1, 3, 50] {
        log.append(&[Arc::new(batch(first, 2, Stream::Stdout, false))], &mut Vec::new()).expect("the disk is well");
    }
    log.advance(&[], true).expect("the disk is well");
    let found = recover(&**disk);
    let ours =
        |number| found.segments.iter().any(|segment| segment.number == number && segment.source.origin.run == "now");
    let owed =
        found.owed(&**disk, "all").iter().filter(|range| ours(range.segment)).map(|range| range.units).sum::<u64>();
    assert_eq!(owed, 6, "what was appended is owed");
}

/// The framer: however the text is cut, its units are those of the specification. `MAX CUTS CUT… TEXT`.
pub fn framer(data: &[u8]) {
    let mut choices = Choices(data);
    let max = usize::from(choices.byte() % 64) + 1;
    let cuts: Vec<_> = (0..choices.byte() % 16).map(|_| usize::from(choices.byte())).collect();
    let text = choices.0;
    let (mut chunks, mut rest) = (Vec::new(), text);
    for cut in cuts {
        let (chunk, behind) = rest.split_at(cut.min(rest.len()));
        chunks.push(chunk);
        rest = behind;
    }
    chunks.push(rest);
    let units = oracle::framed(&chunks, max);
    assert_eq!(units, oracle::expected(text, max));
    assert_eq!(units.into_iter().flat_map(|(unit, _)| unit).collect::<Vec<_>>(), text, "nothing is lost or added");
}

/// Drain URLs. `DELIMITERS LF URL`: with the delimiters (one before the first space, one behind it) a password of three pieces is
/// made, and put into the URL with other secrets: no piece is shown, whatever is made of the URL. A shown URL is shown as itself.
pub fn drain_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (delimiters, url) = text.split_once('\n').unwrap_or(("", text));
    // Those options read files.
    if ["ca=", "cert=", "key=", "file:"].iter().any(|option| text.contains(option) && text.contains(['/', '%', '$'])) {
        return;
    }
    parse(url);
    if let Ok(cut) = DrainUrl::cut(url) {
        let shown = cut.redacted();
        let again = DrainUrl::cut(&shown).expect("what is shown is a drain URL");
        assert_eq!(again.redacted().trim(), shown.trim());
        assert_eq!(again.default_name().trim(), cut.default_name().trim());
    }
    let (first, second) = delimiters.split_once(' ').unwrap_or((delimiters, ""));
    let Some((scheme, rest)) = url.split_once("://") else { return };
    let hash = if rest.contains('#') { ',' } else { '#' };
    for option in ["bearer=zqD4", "token=zqD4", "header=X-Key:zqD4"] {
        let secret = format!("{scheme}://user:zqA1{first}zqB2{second}zqC3@{rest}{hash}{option}");
        // The name of a variable is no secret; what the rest says (a host in Punycode, too) is none either.
        let says_it_anyway = url.to_lowercase().contains("zq") || parse(url).to_lowercase().contains("zq");
        if !says_it_anyway && !secret.contains("${") {
            let said = parse(&secret).to_lowercase();
            assert!(!said.contains("zq"), "{secret}: {said}");
        }
    }
}

/// All that lastword may say of a drain URL.
fn parse(url: &str) -> String {
    let variables = [("HOST", "logs.example"), ("PORT", "6514"), ("TOKEN", "a/b?c#d@e:f%zz${X}zq")];
    let environment = Environment::new(variables.map(|(name, value)| (name.into(), value.into())));
    match drains::all(&[url.to_string()], &environment) {
        Ok(drains) => format!("{drains:?}"),
        Err(exit) => {
            let line = exit.message.strip_suffix('\n').expect("a whole line");
            assert!(!line.contains(char::is_control), "one line: {line:?}");
            exit.message
        }
    }
}

/// Answers over HTTP, as each service's: `STATUS ITEMS RETRY-AFTER LF BODY`. What it takes for a yes is one, what it says of items
/// it says of each, a redirect stays with the origin, and words are few and on one line.
pub fn http(data: &[u8]) {
    const FORMATS: [Format; 6] = [
        Format::Ndjson,
        Format::Loki,
        Format::Otlp(Encoding::Protobuf),
        Format::Elastic,
        Format::Splunk,
        Format::Webhook(Preset::Axiom),
    ];
    let mut parts = data.splitn(2, |&byte| byte == b'\n');
    let (head, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut words = head.splitn(3, |&byte| byte == b' ');
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<u16>().ok();
    let (Some(status @ 200..=999), Some(items @ 1..=64)) = (number(), number()) else { return };
    let wish = words.next().unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let ends: Vec<u32> = (1..=items.into()).collect();
    let body_of = vec![b'x'; items.into()].into();
    let payload = Payload { position: 0, body: body_of, units: items.into(), key: "key".into(), ends: ends.into() };
    for format in FORMATS {
        let answer =
            hyper::http::Response::builder().status(status).header("retry-after", wish).header("location", wish);
        let Ok(answer) = answer.body(body.to_vec()) else { return };
        match runtime.block_on(judged(format.protocol(), Response::from(answer), &payload)) {
            Ok(None) => assert!(status / 100 == 2 && is_yes(format, body, items.into()), "{status} is taken for a yes"),
            Ok(Some(to)) => assert_eq!((to.host_str(), to.port()), (Some("logs.example"), Some(81))),
            Err(failure) => {
                let reason = failure.reason;
                assert!(!reason.contains(char::is_control) && reason.chars().count() <= 300, "{reason:?}");
                if let Verdict::Items { items: verdicts, .. } = failure.verdict {
                    assert_eq!(verdicts.len(), usize::from(items), "a verdict an item");
                }
            }
        }
    }
}

/// Whether an answer with a 2xx says that all is stored, read in the plainest way there is.
fn is_yes(format: Format, body: &[u8], items: usize) -> bool {
    // What is not read need not be UTF-8.
    let answer = serde_json::from_str::<serde_json::Value>(&String::from_utf8_lossy(body)).unwrap_or_default();
    match format {
        Format::Elastic => {
            let all = answer["items"].as_array().filter(|all| all.len() == items);
            all.is_some_and(|all| {
                all.iter().all(|item| matches!(item["create"]["status"].as_u64(), Some(200 | 201 | 409)))
            })
        }
        Format::Splunk => answer["code"].as_u64().unwrap_or(0) == 0,
        Format::Webhook(_) => answer["failed"].as_u64().unwrap_or(0) == 0,
        _ => true,
    }
}

/// RELP answers. `CUT STREAM`: in pieces of any size the same answers come out, then the same refusal; the parser keeps less than one
/// frame; an answer that is written as librelp writes it is read back.
pub fn relp(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let (whole, refused) = answers(&mut [stream].into_iter());
    let pieces = answers(&mut stream.chunks(usize::from(cut).max(1)));
    assert_eq!(pieces, (whole.clone(), refused), "in pieces of {cut}");
    let mut bytes = Vec::new();
    for answer in &whole {
        match answer {
            Answer::Response { txnr, code, text } => {
                assert!(text.len() <= DATA_MAX);
                let text = if *code == 0 && text.is_empty() {
                    Vec::new()
                } else {
                    [format!("{code} ").as_bytes(), text].concat()
                };
                encode(*txnr, "rsp", &text, &mut bytes);
            }
            Answer::ServerClose => encode(0, "serverclose", b"", &mut bytes),
        }
    }
    assert_eq!(answers(&mut [&bytes[..]].into_iter()), (whole, Ok(())));
}

fn answers(pieces: &mut dyn Iterator<Item = &[u8]>) -> (Vec<Answer>, Result<(), NotRelp>) {
    let (mut parser, mut answers) = (Parser::default(), Vec::new());
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.next() {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => break,
                Err(refused) => return (answers, Err(refused)),
            }
        }
        assert!(parser.kept() <= DATA_MAX + 64, "it keeps less than a frame");
    }
    (answers, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        io::{self, Write},
        path::Path,
    };

    /// Names an input if it fails.
    struct Input(std::path::PathBuf);

    impl Drop for Input {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let _ = writeln!(io::stderr(), "the input is {}", self.0.display());
            }
        }
    }

    fn names(dir: &str) -> Vec<String> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
        let names = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn every_input_that_was_kept_still_passes() {
        for (name, target) in TARGETS {
            let inputs = names(&format!("fuzz/corpus/{name}"));
            assert!(inputs.len() >= 10, "{name} has {} inputs", inputs.len());
            for input in inputs {
                let input = Input(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name).join(input));
                target(&fs::read(&input.0).unwrap());
            }
        }
    }

    #[test]
    fn every_target_has_its_program_and_its_corpus() {
        let targets = TARGETS.map(|(name, _)| name.to_string());
        assert_eq!(names("fuzz/corpus"), targets);
        assert_eq!(names("fuzz/fuzz_targets"), targets.map(|name| format!("{name}.rs")));
    }
}
