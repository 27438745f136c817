//! Debian's rsyslogd and syslog-ng, each with every input that a transport of ours has a word for.

use crate::support::{
    certificates,
    judge::{Seen, Terms, Unit},
    syslog::{self, unescaped},
    tools, until,
    wrapper::{Finished, Setup},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
/// Two writers' worth of lines with characters of one to four bytes, U+2028 among them.
const LINES: &str = "--count 10000 --rate 20000 --shape u --err-every 5";

/// A daemon that stores messages as they came, a file an input.
pub struct Daemon {
    dir: TempDir,
    child: Child,
}

impl Daemon {
    fn start(dir: TempDir, program: &mut Command, ready: impl FnMut() -> bool) -> Self {
        let log = fs::File::create(dir.path().join("log")).expect("a fresh file");
        let child = program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("it starts");
        let daemon = Self { dir, child };
        until("the daemon to listen", LIMIT, ready);
        daemon
    }

    /// A file of its.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Stops it, which reads what it has first.
    pub fn stop(&mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).expect("it runs");
        self.child.wait().expect("our own child");
    }

    /// What one input stored.
    pub fn stored(&self, input: &str) -> Vec<Vec<u8>> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let stored = fs::read(self.path(input)).unwrap_or_else(|error| panic!("{input}: {error}\n{log}"));
        stored.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    // All at once, so that they differ.
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound").port())
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Ports of the inputs `tls`, `relp`, `relptls`, `udp`; the socket is `socket`. `longest` is its maxMessageSize.
pub fn rsyslogd(longest: &str) -> (Daemon, [u16; 4]) {
    let program = tools::program("/usr/sbin/rsyslogd", "rsyslog");
    tools::program("/usr/lib/x86_64-linux-gnu/rsyslog/imrelp.so", "rsyslog-relp");
    tools::program("/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_ossl.so", "rsyslog-openssl");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ports @ [tls, relp, relptls, udp] = free_ports();
    let (work, certificates) = (dir.path().display(), certificates::directory().display());
    let rules: String = ["tls", "relp", "relptls", "udp", "unix"]
        .map(|name| {
            format!(
                "ruleset(name=\"{name}\") {{ action(type=\"omfile\" file=\"{work}/{name}\" template=\"asItCame\") }}\n"
            )
        })
        .concat();
    let config = format!(
        r#"
global(workDirectory="{work}" maxMessageSize="{longest}" parser.escapeControlCharactersOnReceive="off"
    DefaultNetstreamDriverCAFile="{certificates}/ca.pem" DefaultNetstreamDriverCertFile="{certificates}/server.pem"
    DefaultNetstreamDriverKeyFile="{certificates}/server.key")
main_queue(queue.type="Direct")
template(name="asItCame" type="string" string="<%pri%>%rawmsg-after-pri%\n")
{rules}
module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
input(type="imtcp" port="{tls}" address="127.0.0.1" ruleset="tls")
module(load="imrelp" tls.tlslib="openssl")
input(type="imrelp" port="{relp}" address="127.0.0.1" ruleset="relp")
input(type="imrelp" port="{relptls}" address="127.0.0.1" ruleset="relptls" tls="on" tls.authMode="certvalid"
    tls.caCert="{certificates}/ca.pem" tls.myCert="{certificates}/server.pem" tls.myPrivKey="{certificates}/server.key")
module(load="imudp")
input(type="imudp" port="{udp}" address="127.0.0.1" ruleset="udp" rcvbufSize="8m")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{work}/socket" ruleset="unix" useSpecialParser="off" parseHostname="off")
"#
    );
    fs::write(dir.path().join("conf"), config).expect("a fresh file");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut command = Command::new(program);
    command.args(["-n", "-f", &path("conf"), "-i", &path("pid")]);
    let socket = dir.path().join("socket");
    let ready = || [tls, relp, relptls].into_iter().all(listens) && socket.exists();
    (Daemon::start(dir, &mut command, ready), ports)
}

/// Messages of the local syslog (`<14>app[1]: text`), which have neither sequence nor time of ours.
pub fn local(messages: &[Vec<u8>]) -> Seen {
    let mut seen = Seen::default();
    for message in messages {
        let text = message.windows(3).position(|three| three == b"]: ").map(|at| unescaped(&message[at + 3..]));
        let text = text.unwrap_or_else(|| panic!("no tag: {}", String::from_utf8_lossy(message)));
        let stream = if message.starts_with(b"<11>") { 'e' } else { 'o' };
        seen.units.push(Unit { seq: None, stream: Some(stream), text, part: None });
    }
    seen
}

#[track_caller]
fn all_arrived(done: &Finished) {
    assert_eq!((done.code(), done.record.done()), (0, 10_000), "{}", done.err());
}

#[test]
fn rsyslogd_gets_every_line_over_tls_relp_relp_with_tls_and_its_socket() {
    let (mut daemon, [tls, relp, relptls, udp]) = rsyslogd("64k");
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
    let (mut daemon, [tls, relp, _, _]) = rsyslogd("8k");
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
    let (mut daemon, [tls, relp, relptls, _]) = rsyslogd("64k");
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
    daemon.child = again.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
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
    let (daemon, [tls, relp, relptls, _]) = rsyslogd("64k");
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

fn syslog_ng_root() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tools::crate_root().join("target"), PathBuf::from);
    let root = target.join("syslog-ng");
    assert!(root.join("usr/sbin/syslog-ng").exists(), "{} is missing: scripts/syslog-ng", root.display());
    root
}

/// Ports of the inputs `network` (LF), `counted` and `tls`; the sockets are `dgram.socket` and `stream.socket`.
pub fn syslog_ng() -> (Daemon, [u16; 3]) {
    let root = syslog_ng_root();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ports @ [network, counted, tls] = free_ports();
    let certificates = certificates::directory().display();
    let source = |name: &str, driver: &str| {
        format!(
            "source s_{name} {{ {driver}; }};\ndestination d_{name} {{ file(\"{}/{name}\" template(\"$MSG\\n\")); }};\n\
             log {{ source(s_{name}); destination(d_{name}); }};\n",
            dir.path().display()
        )
    };
    let socket = |name: &str| format!("\"{}/{name}.socket\"", dir.path().display());
    let config = [
        "@version: 3.38\noptions { flush-lines(1); log-msg-size(1048576); };\n".to_owned(),
        source("network", &format!("network(ip(127.0.0.1) port({network}) flags(no-parse))")),
        source("counted", &format!("syslog(ip(127.0.0.1) port({counted}) flags(no-parse))")),
        source(
            "tls",
            &format!(
                "syslog(ip(127.0.0.1) port({tls}) transport(\"tls\") flags(no-parse) tls(key-file(\"{certificates}/server.key\") \
                 cert-file(\"{certificates}/server.pem\") ca-file(\"{certificates}/ca.pem\") peer-verify(required-trusted)))"
            ),
        ),
        source("dgram", &format!("unix-dgram({} flags(no-parse))", socket("dgram"))),
        source("stream", &format!("unix-stream({} flags(no-parse))", socket("stream"))),
    ];
    fs::write(dir.path().join("conf"), config.concat()).expect("a fresh file");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let in_root = |path: &str| root.join(path).display().to_string();
    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/syslog-ng"].map(in_root).join(":");
    let mut command = Command::new(root.join("usr/sbin/syslog-ng"));
    command.env("LD_LIBRARY_PATH", libraries).args(["-F", "--no-caps", "-f", &path("conf"), "-R", &path("persist")]);
    command.args(["-c", &path("ctl"), "-p", &path("pid")]);
    command.arg(format!("--module-path={}", in_root("usr/lib/syslog-ng/3.38")));
    let sockets = ["dgram", "stream"].map(|name| dir.path().join(format!("{name}.socket")));
    let ready = || ports.into_iter().all(listens) && sockets.iter().all(|socket| Path::exists(socket));
    (Daemon::start(dir, &mut command, ready), ports)
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
