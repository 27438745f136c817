//! Every way to get a setting wrong, and the exact words of the complaint.

use super::{load_tests::load_in, *};
use crate::cli;

/// The complaint without its frame, which is checked: one line, on stderr, exit code 125.
fn complaint(variables: &[(&str, &str)], args: &[&str]) -> String {
    let Err(exit) = load_in(variables, args) else { panic!("{args:?} is taken") };
    assert_eq!((exit.to, exit.code), (Output::Stderr, 125), "{args:?}");
    let line = exit.message.strip_prefix("lastword: ").and_then(|text| text.strip_suffix('\n'));
    let line = line.unwrap_or_else(|| panic!("{args:?}: no frame: {:?}", exit.message));
    assert!(!line.contains('\n'), "{args:?}: {line}");
    // What is wrong; what would be right: two halves, apart from what is quoted.
    let words: String = line.split('`').step_by(2).collect();
    assert_eq!(words.matches("; ").count(), 1, "{args:?}: {line}");
    line.to_string()
}

#[test]
fn complaints_about_the_command_line() {
    let missing = "command: it is missing; write it behind `--`, as in `lastword -- python app.py`";
    let before = "command: options stand before the name of one of lastword's own commands; write the options behind the \
                  name, as in `lastword tee --drain URL`";
    let both = "command: it can't be run and something of lastword's own, too; leave one of them out";
    let shells = "write one of bash, elvish, fish, powershell, zsh";
    let table: &[(&[&str], &str)] = &[
        (&[], missing),
        (&["--"], missing),
        (&["--drain", "file:x"], missing),
        (
            &["python", "app.py"],
            "command: no `--` stands before the command; did you mean `lastword -- python app.py`?",
        ),
        (
            &["--quiet", "sh", "-c", "a; b", "--", "x"],
            "command: no `--` stands before the command; did you mean `lastword -- sh -c 'a; b' -- x`?",
        ),
        (
            &["chek"],
            "command: no `--` stands before the command; did you mean `lastword check`, or `lastword -- chek`?",
        ),
        (&["--quiet", "tee"], before),
        (&["tee", "--", "app"], both),
        (&["demo", "--"], both),
        (&["plain-init"], missing),
        (&["--drian", "x", "--", "app"], "--drian: unknown option; did you mean `--drain`?"),
        (&["--foo", "--", "app"], "--foo: unknown option; `lastword --help` tells what there is"),
        (&["-x", "--", "app"], "-x: unknown option; `lastword --help` tells what there is"),
        (&["--linger", "-5", "--", "app"], "-5: unknown option; times, sizes and counts are not negative"),
        (&["help", "drains"], "help: there is none on `drains`; `lastword --help` tells what there is"),
        (&["help", "spool", "x"], "help: there is none on `x`; `lastword --help` tells what there is"),
        (&["spool", "x"], "spool: unknown word `x`; write `ls`, `cat`, `verify` or `send`"),
        (&["--drain", "--", "app"], "--drain: the value is missing; write `--drain <URL>`"),
        (&["--stop-timeout"], "--stop-timeout: the value is missing; write `--stop-timeout <TIME>`"),
        (
            &["tee", "out.log"],
            "out.log: unexpected word; an app to run stands behind `--`, a file for tee behind `--drain file:`",
        ),
        (&["completions"], &format!("completions: the shell is missing; {shells}")),
        (&["completions", "csh"], &format!("completions: unknown shell `csh`; {shells}")),
    ];
    for (args, expected) in table {
        assert_eq!(complaint(&[], args), *expected, "{args:?}");
    }
}

#[test]
fn complaints_about_values_name_the_flag_or_the_variable() {
    let table = [
        ("stop-timeout", "soon", "`soon` is not a duration; write it as in `30s`, `1m30s`, `500ms` or `30` (seconds)"),
        ("stop-timeout", "900ms", "`900ms` is too short to stop anything; write at least `1s`"),
        ("flush-timeout", "1.5s", "`1.5s` is not a duration; write it as in `30s`, `1m30s`, `500ms` or `30` (seconds)"),
        ("stop-signal", "KILL", "`KILL` can't be caught by any process; TERM and INT always count as a stop"),
        ("stop-signal", "FOO", "`FOO` is not a signal; write a name, as in `USR1`, `SIGHUP` or `RTMIN+3`"),
        ("relay", "child", "`child` is nobody; write `app`, `group`, `tree` or `none`"),
        ("signal", "HUP", "`HUP` has no `=`; write it as in `TERM=QUIT` or `HUP=ignore`"),
        ("signal", "HUP=FOO", "`FOO` is not a signal; write it as in `TERM=QUIT` or `HUP=ignore`"),
        ("signal", "KILL=TERM", "`KILL` is never passed on; write it as in `TERM=QUIT` or `HUP=ignore`"),
        ("broadcast-guard", "maybe", "`maybe` is not a switch; write `on` or `off`"),
        ("linger", "long", "`long` is not a duration; write it as in `30s`, `1m30s`, `500ms` or `30` (seconds)"),
        ("leftovers", "eat", "unknown treatment `eat`; write `term`, `kill`, `wait` or `leave`"),
        ("max-line", "big", "`big` is not a size; write it as in `65536` (bytes), `64KiB` or `32MiB`"),
        ("max-line", "1GiB", "`1GiB` is too large; it goes from `64` to `64MiB`"),
        (
            "memory",
            "100KiB",
            "`100KiB` is less than two lines of the largest size; write at least `128KiB`, or lower --max-line (now `64KiB`)",
        ),
        ("pipe-size", "1KiB", "`1KiB` is too small; it goes from `4KiB` to `1GiB`"),
        ("when-full", "drop", "unknown policy `drop`; write `drop-oldest`, `drop-newest` or `block`"),
        ("passthrough", "maybe", "`maybe` is not a switch; write `on` or `off`"),
        (
            "metrics",
            "localhost:9",
            "`localhost:9` is not an address; write IP:PORT, as in `127.0.0.1:8080`, a port, or `off`",
        ),
        ("quiet", "very", "`very` is not a switch; write `on` or `off`"),
        ("restart", "sometimes", "unknown policy `sometimes`; write `never`, `on-failure` or `always`"),
        ("max-restarts", "-1", "`-1` is no count; write a whole number, as in `5`"),
        ("exit-map", "143", "`143` is no pair of exit codes; write FROM=TO, both from 0 to 255, as in `143=0`"),
        ("exit-on-loss", "0", "`0` is no exit code of a failure; write a number from 1 to 255"),
        ("exit-signal", "on", "unknown policy `on`; write `auto`, `always` or `never`"),
        ("lifecycle-lines", "2", "`2` is no place for lines; write `on`, `off` or `stderr`"),
        ("verbose", "2", "`2` is not a switch; write `on` or `off`"),
        ("name", "my app", "the name is empty or has white space in it; write one word, as in `web-1`"),
        (
            "drain",
            "bogus",
            "the scheme is missing; write FORMAT+TRANSPORT://HOST, as in `syslog+tcp://logs.example:514`",
        ),
    ];
    for (flag, value, expected) in table {
        let typed = format!("--{flag}={value}");
        assert_eq!(complaint(&[], &[&typed, "--", "app"]), format!("--{flag}: {expected}"));
        let variable = cli::variable(flag);
        assert_eq!(complaint(&[(&variable, value)], &["--", "app"]), format!("{variable}: {expected}"));
    }
    assert_eq!(
        complaint(&[("LASTWORD_SEED", "-1")], &["--", "app"]),
        "LASTWORD_SEED: `-1` is not a seed; write a whole number from 0 to 2^64-1"
    );
    for args in [&["--", "app"][..], &["tee"], &["check"]] {
        assert_eq!(
            complaint(&[("LASTWORD_LOG", "info,debgu")], args),
            "LASTWORD_LOG: `debgu` is no level; write `debug` or another level (error, warn, info, trace), or TARGET=LEVEL, \
             as in `lastword=debug`"
        );
    }
    assert_eq!(
        complaint(&[], &["sink", "--tcp", "localhost:1"]),
        "--tcp: `localhost:1` is not an address; write IP:PORT, as in `127.0.0.1:8080`, a port, or `off`"
    );
    assert_eq!(
        complaint(&[("LASTWORD_SINK_HTTP", "x")], &["sink"]),
        "LASTWORD_SINK_HTTP: `x` is not an address; write IP:PORT, as in `127.0.0.1:8080`, a port, or `off`"
    );
}

/// That of the fallback was noticed at the exit, when it was needed, that of a socket never; and of that of a spool it was said that it
/// is no shell.
#[test]
fn an_empty_name_of_a_file_and_one_that_no_socket_can_have_are_refused_for_what_they_are() {
    let expected = "--fallback: the name is empty; name a file, write `stderr`, or leave it out";
    assert_eq!(complaint(&[("LASTWORD_FALLBACK", "/a")], &["--fallback", "", "--", "app"]), expected);
    assert!(load_in(&[("LASTWORD_FALLBACK", "")], &["--", "app"]).is_ok(), "an empty variable is an unset one");
    let long = format!("syslog+unix:/{}", "x".repeat(107));
    let expected = "--drain: the path is too long for a socket; name one of at most 107 bytes";
    assert_eq!(complaint(&[], &["--drain", &long, "--", "app"]), expected);
    assert!(load_in(&[], &["--drain", &long[..long.len() - 1], "--", "app"]).is_ok());
    for word in ["ls", "cat", "verify", "send"] {
        let expected = "spool: the directory's name is empty; write `lastword spool ls DIR`";
        assert_eq!(complaint(&[], &["spool", word, ""]), expected, "{word}");
    }
}

#[test]
fn complaints_about_drain_urls() {
    let supported = "supported: syslog+tcp, syslog+tls, relp+tcp, syslog+udp, syslog+unix, https, ndjson+tcp, \
                     file, json+https, logplex+https, loki+https, otlp+https, elastic+https, splunk+https, datadog+https, \
                     gelf+https, betterstack+https, axiom+https, newrelic+https, victorialogs+https, gelf+tcp";
    let ports = "ports go from 1 to 65535";
    let no_number = "the port is not a number; ports go from 1 to 65535, and in a password `/` is `%2F`, `?` is `%3F`, `#` is `%23`";
    let no_scheme = "the scheme is missing; write FORMAT+TRANSPORT://HOST, as in `syslog+tcp://logs.example:514`";
    let hex = "behind `%` stand two hexadecimal digits, and a literal `%` is `%25`";
    let braces = "write `${NAME}` for a variable, `%24` for a literal `$`";
    let table = [
        ("logs.example:514", no_scheme.into()),
        ("://logs.example", no_scheme.into()),
        ("syslog+tpc://h", "unknown scheme `syslog+tpc`; did you mean `syslog+tcp`?".into()),
        ("udp://h", "unknown scheme `udp`; did you mean `syslog+udp`?".into()),
        ("gopher://h", format!("unknown scheme `gopher`; {supported}")),
        ("relp+tls://h", "the port is missing; write it as in `relp+tls://logs.example:2514`".into()),
        ("syslog+unix://h/dev/log", "a socket has no host; write `syslog+unix:/PATH`, or `syslog+unix:PATH` for a relative one".into()),
        ("syslog+unix:", "the socket's name is missing; write `syslog+unix:/PATH`, or `syslog+unix:PATH` for a relative one".into()),
        ("forward+tcp://h", format!("`forward+tcp` is not in this version; {supported}")),
        ("https:h", "`//` is missing behind `https:`; write it as in `https://in.example/ingest`".into()),
        ("https:/h", "`//` is missing behind `https:`; write it as in `https://in.example/ingest`".into()),
        ("syslog+tcp://", "the host is missing; write it as in `syslog+tcp://logs.example:514`".into()),
        ("syslog+tcp://:514", "the host is missing; write it as in `syslog+tcp://logs.example:514`".into()),
        ("https:///path", "the host is missing; write it as in `https://in.example/ingest`".into()),
        ("https://u:p@/path", "the host is missing; write it as in `https://in.example/ingest`".into()),
        ("syslog+tcp://a b", "there is a space in the URL; percent-encode it as `%20`".into()),
        ("syslog+tcp://a\u{7}b", "there is a control character in the URL; percent-encode it: a line break is `%0A`".into()),
        ("syslog+tcp://a|b", "`a|b` is not a host; write a name, an IPv4 address or an [IPv6 address]".into()),
        ("https://256.1.1.1", "`256.1.1.1` is not a host; write a name, an IPv4 address or an [IPv6 address]".into()),
        ("syslog+tcp://::1:514", "there are several `:` in the host; write an IPv6 address in brackets, as in `[::1]:514`".into()),
        ("syslog+tcp://h:0", format!("port 0 is out of range; {ports}")),
        ("syslog+udp://h:65536", format!("port 65536 is out of range; {ports}")),
        ("https://h:99999999999", format!("port 99999999999 is out of range; {ports}")),
        ("https://h:8o/", no_number.into()),
        ("https://h:/", no_number.into()),
        ("https://user:pa/ss", no_number.into()),
        (
            "https://user:pa/ss@h",
            "there is an `@` behind the host; write it as `%40`, and in a password `/` as `%2F` and `?` as `%3F`".into(),
        ),
        ("ndjson+tcp://h", "the port is missing; write it as in `ndjson+tcp://in.example:9000`".into()),
        ("syslog+tcp://h/logs", "`syslog+tcp` takes no host with a path; write it as in `syslog+tcp://logs.example:514`".into()),
        ("syslog+udp://u@h", "`syslog+udp` takes no host with a user; write it as in `syslog+udp://logs.example:514`".into()),
        ("https://h/%zz", format!("bad percent-encoding in the path; {hex}")),
        ("https://h/?a=%4", format!("bad percent-encoding in the query; {hex}")),
        ("https://u:%@h/", format!("bad percent-encoding in the password; {hex}")),
        ("syslog+tcp://a%2", format!("bad percent-encoding in the host; {hex}")),
        ("file:/a%", format!("bad percent-encoding in the path; {hex}")),
        ("https://h#bearer=%zz", format!("bad percent-encoding in the option `bearer`; {hex}")),
        ("https://u:%ff@h", "the password is not UTF-8 when decoded; percent-encode the UTF-8 bytes".into()),
        ("https://h/${NO_SUCH}", "`${NO_SUCH}` is not set; set NO_SUCH in the environment, or write `%24` for a literal `$`".into()),
        ("https://h/${EMPTY}", "`${EMPTY}` is not set; set EMPTY in the environment, or write `%24` for a literal `$`".into()),
        ("https://h/${}", format!("`${{` without a variable's name and `}}` in the path; {braces}")),
        ("https://h/${A", format!("`${{` without a variable's name and `}}` in the path; {braces}")),
        ("https://u:$TOKEN@h/", format!("a variable without braces in the password; {braces}")),
        (
            "${URL}",
            "a variable can't stand for the scheme; set `LASTWORD_DRAIN` to the whole URL, or write the scheme out, as in \
             `https://${HOST}/`"
                .into(),
        ),
        ("file:", "the file's name is missing; write `file:/PATH`, or `file:PATH` for a relative one".into()),
        ("file:/var/log/", "the file's name is missing; write `file:/PATH`, or `file:PATH` for a relative one".into()),
        ("ndjson+file://host/a", "a file has no host; write `ndjson+file:/PATH`, or `ndjson+file:PATH` for a relative one".into()),
        ("file:/tmp", "the path is a directory; name a file in it".into()),
        ("https://u%3Ax:p@h", "the user has a `:` in it; basic authentication needs one without".into()),
        (
            "https://u:file:%2Frun%2Fs@h",
            "a password can't be a file; use `${NAME}`, or `#header=Authorization:file:PATH` with the whole header value in \
             the file"
                .into(),
        ),
        (
            "https://u:p@h#bearer=x",
            "there are several credentials; use one of `user:password@`, `token=`, `bearer=` and `header=Authorization:`".into(),
        ),
    ];
    for (url, expected) in &table {
        assert_eq!(
            complaint(&[("EMPTY", "")], &["--drain", url, "--", "app"]),
            format!("--drain: {expected}"),
            "{url}"
        );
        let named = complaint(&[("LASTWORD_DRAIN_PAPERTRAIL", url)], &["--", "app"]);
        assert_eq!(named, format!("LASTWORD_DRAIN_PAPERTRAIL: {expected}"), "{url}");
    }
    assert_eq!(
        complaint(&[], &["--drain", "file:x", "--drain", "", "--", "app"]),
        format!(
            "--drain (2 of 2): {}",
            "the URL is empty; write FORMAT+TRANSPORT://HOST, as in `syslog+tcp://logs.example:514`"
        )
    );
}

#[test]
fn complaints_about_drain_options() {
    let table = [
        ("https://h#steam=stdout", "unknown option `steam`; did you mean `stream`?"),
        (
            "file:x#fsync=no",
            "unknown option `fsync`; `file` takes name, stream, require, rotate, rotate-age, keep, compress, mode",
        ),
        (
            "http://h#ca=/x",
            "`http` takes no option `ca`; it is for syslog+tls, relp+tls, ndjson+tls, gelf+tls, HTTPS drains",
        ),
        ("syslog+tls://h#framing=lf", "`syslog+tls` takes no option `framing`; it is for syslog+tcp"),
        (
            "syslog+tls://h#cert=/x",
            "option `cert`: can't read `/x`: no such file or directory; name a readable file of PEM certificates",
        ),
        (
            "syslog+tls://h#key=/x",
            "option `key`: can't read `/x`: no such file or directory; name a readable file with a PEM key",
        ),
        (
            "syslog+tls://h#servername=a b",
            "option `servername`: bad value `a b`; write the name in the certificate, as in `servername=logs.example`",
        ),
        (
            "syslog+tls://h#fingerprint=sha1:00",
            "option `fingerprint`: bad value `sha1:00`; write `sha256:` and 64 hexadecimal digits, with or without colons",
        ),
        ("relp+tcp://h:1#window=0", "option `window`: bad value `0`; write a number from 1 to 1024"),
        ("relp+tcp://h:1#max-message=100", "option `max-message`: `100` is too small; it goes from `512` to `128KiB`"),
        ("file:x#rotate=10", "option `rotate`: `10` is too small; it goes from `64KiB` to `1024GiB`"),
        ("file:x#rotate-age=5s", "option `rotate-age`: bad value `5s`; write at least `1m`"),
        ("file:x#keep=many", "option `keep`: bad value `many`; write a number from 0 to 1000"),
        ("file:x#mode=999", "option `mode`: bad value `999`; write octal permissions, as in `mode=640`"),
        (
            "syslog+udp://h#require=confirmed",
            "option `require`: `syslog+udp` gets no evidence of arrival, so its lines are `sent` at best; use one of relp+tcp, relp+tls, file, ndjson+file, syslog+file, HTTP drains",
        ),
        (
            "syslog+tcp://h#require=confirmed",
            "option `require`: `syslog+tcp` knows what the peer's kernel took, not what its application did, so its lines are `accepted` until the connection ends; use one of relp+tcp, relp+tls, file, ndjson+file, syslog+file, HTTP drains",
        ),
        ("file:x#require=much", "option `require`: bad value `much`; write `confirmed` or `accepted`"),
        (
            "file:x#gzip=on",
            "unknown option `gzip`; `file` takes name, stream, require, rotate, rotate-age, keep, compress, mode",
        ),
        ("file:x#compress=gzip", "option `compress`: `gzip` is not a switch; write `on` or `off`"),
        ("https://h#compress=on", "option `compress`: bad value `on`; write `off` or `gzip` or `zstd`"),
        (
            "syslog+udp://h#compress=off",
            "`syslog+udp` takes no option `compress`; it is for file, ndjson+file, syslog+file, HTTP drains",
        ),
        (
            "syslog+unix:/x#rfc=3164",
            "`syslog+unix` takes no option `rfc`; it is for syslog+tcp, syslog+tls, relp+tcp, relp+tls, syslog+udp, syslog+file",
        ),
        ("loki+https://h#compress=zstd", "option `compress`: bad value `zstd`; write `gzip` or `off`"),
        ("syslog+udp://h#rfc=822", "option `rfc`: bad value `822`; write `5424` or `3164`"),
        ("logplex+https://h#sd=no", "option `sd`: bad value `no`; write `omit` or `nil`"),
        ("otlp+https://h#encoding=grpc", "option `encoding`: bad value `grpc`; write `protobuf` or `json`"),
        ("https://h#body=xml", "option `body`: bad value `xml`; write `ndjson`, `array`, `wrapped` or `text`"),
        (
            "loki+https://h#body=text",
            "`loki+https` takes no option `body`; it is for https, http, ndjson+https, ndjson+http",
        ),
        ("syslog+udp://h#framing=lf", "`syslog+udp` takes no option `framing`; it is for syslog+tcp"),
        (
            "https://h#stream",
            "an option without `=` behind `#`; write `#NAME=VALUE,NAME=VALUE`, a literal `,` as `%2C`, and `#` in a password as `%23`",
        ),
        (
            "https://h#name=a,",
            "an option without `=` behind `#`; write `#NAME=VALUE,NAME=VALUE`, a literal `,` as `%2C`, and `#` in a password as `%23`",
        ),
        ("https://h#name=a,name=b", "option `name` is given twice; give it once"),
        ("https://h#name=", "option `name` is empty; write it as in `#name=papertrail`"),
        ("https://h#name=a/b", "option `name`: bad value `a/b`; a name has letters, digits, `.`, `_`, `-`"),
        ("https://h#stream=both", "option `stream`: bad value `both`; write `stdout` or `stderr`"),
        ("syslog+tcp://h#framing=octet", "option `framing`: bad value `octet`; write `counted` or `lf`"),
        (
            "syslog+tcp://h#replay=much",
            "option `replay`: `much` is not a size; write it as in `65536` (bytes), `64KiB` or `32MiB`",
        ),
        ("https://h#timeout=0", "option `timeout`: bad value `0`; write a time above 0, as in `10s`"),
        (
            "https://h#timeout=x",
            "option `timeout`: `x` is not a duration; write it as in `30s`, `1m30s`, `500ms` or `30` (seconds)",
        ),
        (
            "https://h#ca=/nowhere/ca.pem",
            "option `ca`: can't read `/nowhere/ca.pem`: no such file or directory; name a readable file of PEM certificates",
        ),
        (
            "https://h#bearer=${NO_SUCH}",
            "`${NO_SUCH}` is not set; set NO_SUCH in the environment, or write `%24` for a literal `$`",
        ),
        (
            "https://h#bearer=file:/nowhere",
            "option `bearer`: can't read `/nowhere`: no such file or directory; name a readable file behind `file:`",
        ),
        ("https://h#bearer=a%0Ab", "option `bearer` can't stand in a header; use printable ASCII, without line breaks"),
        ("https://h#header=X-A", "option `header` has no `:`; write it as in `#header=X-Api-Key:${KEY}`"),
        ("https://h#header=X A:b", "option `header` has a bad name; write it as in `#header=X-Api-Key:${KEY}`"),
        ("https://h#header=X%20A:b", "option `header` has a bad name; write it as in `#header=X-Api-Key:${KEY}`"),
        ("https://h#header=Content-Length:1", "option `header`: `Content-Length` is lastword's own; leave it out"),
    ];
    for (url, expected) in table {
        assert_eq!(complaint(&[], &["--drain", url, "--", "app"]), format!("--drain: {expected}"), "{url}");
    }
}

#[test]
fn values_that_are_not_utf_8_are_refused() {
    use std::os::unix::ffi::OsStringExt;
    let bad = || OsString::from_vec(vec![b'x', 0xff]);
    let args = |value: OsString| ["lastword".into(), "--drain".into(), value, "--".into(), bad()];
    let exit = load(args(bad()), []).unwrap_err();
    assert_eq!(exit.message, "lastword: an argument: it is not UTF-8; write it in UTF-8\n");
    let exit = load(args("file:x".into()), [("LASTWORD_NAME".into(), bad())]).unwrap_err();
    assert_eq!(exit.message, "lastword: LASTWORD_NAME: the value is not UTF-8; write it in UTF-8\n");
    let Ok(Invocation::Run(config)) = load(args("file:x".into()), [(bad(), bad())]) else { panic!("no run") };
    assert_eq!(config.command, [bad()], "the app's own arguments can be anything");
}

/// A seed that replays a failure, and the configuration that uses it.
fn seeded() -> (u64, proptest::test_runner::Config) {
    let given = std::env::var("LASTWORD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(super::load::random_seed);
    let rng_seed = proptest::test_runner::RngSeed::Fixed(seed);
    (seed, proptest::test_runner::Config { rng_seed, failure_persistence: None, ..Default::default() })
}

/// Not one of these panics, and each is either taken or complained about in one line.
#[test]
fn any_text_is_a_drain_or_a_complaint() {
    use proptest::prelude::*;
    let (seed, config) = seeded();
    let scheme = prop::sample::select(vec!["https:", "syslog+tcp://", "file:", "ndjson+tcp://h:1", "", "http://h/"]);
    let piece = "(\\$\\{?|\\{HOME\\}|%[0-9a-f]{0,2}|[]\\[/?#@:,=}a-c0-9 \u{e9}\u{7f}\n]|name=|replay=|header=X:|:65536|stream=stdout){0,12}";
    proptest!(config, |(scheme in scheme, piece in piece)| {
        let url = format!("{scheme}{piece}");
        match load_in(&[("HOME", "/h")], &["--drain", &url, "--", "app"]) {
            Ok(Invocation::Run(config)) => prop_assert_eq!(config.drains.len(), 1),
            Ok(other) => prop_assert!(false, "{:?} (LASTWORD_SEED={})", other, seed),
            Err(exit) => {
                let is_framed = exit.message.starts_with("lastword: --drain: ") && exit.code == 125;
                prop_assert!(is_framed && exit.message.matches('\n').count() == 1, "{:?} (LASTWORD_SEED={})", exit, seed);
            }
        }
    });
}

/// Wherever a secret stands, whatever it is made of, and whatever else is wrong: no complaint, no report and no `Debug`
/// shows it.
#[test]
fn a_secret_shows_nowhere() {
    use proptest::{prelude::*, test_runner::RngSeed};
    let seed =
        std::env::var("LASTWORD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(super::load::random_seed);
    let config = ProptestConfig { rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Default::default() };
    let delimiter = "[-/?#@:%&,;=$ {}!~\\[\\]\"']{1,3}";
    let place = prop::sample::select(vec![
        "https://me:SECRET@h.example/in#name=a",
        "https://SECRET@h.example",
        "https://h.example:99999/?key=SECRET",
        "https://h.example/?SECRET#stream=x",
        "https://h.example/#bearer=SECRET",
        "https://h.example/#name=a,header=X-A:SECRET,timeout=x",
        "syslog+tcp://me:SECRET@h.example:514",
        "https://me:${S}@h.example/${S}?${S}#bearer=${S}",
        "https://h.example/${S}?${S}#header=X-A:${S}",
    ]);
    proptest!(config, |(place in place, delimiter in delimiter)| {
        let secret = format!("s3cr{delimiter}t99x");
        let url = place.replace("SECRET", &secret);
        let shown = match load_in(&[("S", &secret)], &["--drain", &url, "--", "app"]) {
            Ok(invocation) => format!("{invocation:?}"),
            Err(exit) => exit.message,
        };
        prop_assert!(!shown.contains("s3cr") && !shown.contains("t99x"), "{} gave {} (LASTWORD_SEED={})", url, shown, seed);
    });
}

#[test]
fn a_spool_that_is_required_and_that_no_setting_names_is_no_start_without_one() {
    let right = "there is no spool; name one with --spool DIR or LASTWORD_SPOOL";
    let variables = [("LASTWORD_SPOOL_REQUIRED", "on"), ("LASTWORD_SPOL", "/spool")];
    assert_eq!(complaint(&variables, &["--", "app"]), format!("LASTWORD_SPOOL_REQUIRED: {right}"));
    assert_eq!(complaint(&[], &["--spool-required", "--", "app"]), format!("--spool-required: {right}"));
    for args in [&["--spool-required=off", "--", "app"][..], &["--spool-required", "--spool", "x", "--", "app"]] {
        assert!(load_in(&[], args).is_ok(), "{args:?}");
    }
}
