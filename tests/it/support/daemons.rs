//! Debian's rsyslogd and syslog-ng, each with every input that a transport of ours has a word for. They store messages as
//! they came, a file an input.

use super::{
    certificates,
    judge::{Seen, Unit},
    syslog::unescaped,
    tools, until,
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

/// A running one.
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

    /// Starts it again, with these words.
    pub fn restart(&mut self, program: &mut Command) {
        self.child = program.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
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

/// Ports of the inputs `tls`, `relp`, `relptls`, `udp`, `tcp`; the socket is `socket`. `longest` is its maxMessageSize.
pub fn rsyslogd(longest: &str) -> (Daemon, [u16; 5]) {
    let program = tools::program("/usr/sbin/rsyslogd", "rsyslog");
    tools::program("/usr/lib/x86_64-linux-gnu/rsyslog/imrelp.so", "rsyslog-relp");
    tools::program("/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_ossl.so", "rsyslog-openssl");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ports @ [tls, relp, relptls, udp, tcp] = free_ports();
    let (work, certificates) = (dir.path().display(), certificates::directory().display());
    let rules: String = ["tls", "relp", "relptls", "udp", "tcp", "unix"]
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
input(type="imtcp" port="{tcp}" address="127.0.0.1" ruleset="tcp" streamDriver.name="ptcp" streamDriver.mode="0")
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
    let ready = || [tls, relp, relptls, tcp].into_iter().all(listens) && socket.exists();
    (Daemon::start(dir, &mut command, ready), ports)
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

/// Ports that nobody listens on.
pub fn free_ports<const N: usize>() -> [u16; N] {
    // All at once, so that they differ.
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound").port())
}

/// Whether somebody listens there.
pub fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
