//! Real receivers and real apps: Debian's rsyslogd, nginx, redis-server.

use crate::support::{
    daemons::free_ports,
    judge::{Seen, Terms},
    ms, note,
    pair::Pair,
    syslog,
    tcp::{Death, Plan, Reading, TcpSink},
    tools, until,
    wrapper::Setup,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// A real rsyslogd: imtcp on a free port, its main queue Direct, messages as they came into a file.
struct Rsyslogd {
    dir: TempDir,
    child: Child,
    port: u16,
}

impl Rsyslogd {
    fn start() -> Self {
        Self::start_on(0)
    }

    fn start_on(port: u16) -> Self {
        let program = tools::program("/usr/sbin/rsyslogd", "rsyslog");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            r#"
global(workDirectory="{work}" maxMessageSize="64k")
module(load="imtcp")
main_queue(queue.type="Direct")
template(name="asItCame" type="string" string="<%pri%>%rawmsg-after-pri%\n")
input(type="imtcp" port="{port}" address="127.0.0.1" listenPortFileName="{port_file}")
action(type="omfile" file="{out}" template="asItCame" asyncWriting="off" ioBufferSize="256k" flushOnTXEnd="off")
"#,
            work = dir.path().display(),
            port_file = path("port"),
            out = path("out"),
        );
        fs::write(dir.path().join("rsyslog.conf"), config).expect("a fresh file");
        let child = Command::new(program)
            .args(["-n", "-f", &path("rsyslog.conf"), "-i", &path("pid")])
            .stdin(Stdio::null())
            .spawn()
            .expect("rsyslogd starts");
        // Already in its guard, so that it ends also if it never listens.
        let mut server = Self { dir, child, port };
        until("rsyslogd to listen", LIMIT, || {
            // It writes the file for a port of its own choice only.
            if port == 0 {
                let text = fs::read_to_string(server.dir.path().join("port")).unwrap_or_default();
                server.port = text.trim().parse().unwrap_or(0);
            }
            server.port != 0 && TcpStream::connect(("127.0.0.1", server.port)).is_ok()
        });
        server
    }

    fn url(&self, name: &str) -> String {
        format!("syslog+tcp://127.0.0.1:{}#name={name}", self.port)
    }

    /// Stops it (it reads what it has first) and says what it stored.
    fn collect(mut self) -> Seen {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).expect("it runs");
        self.child.wait().expect("our own child");
        let stored = fs::read(self.dir.path().join("out")).expect("its file is there");
        let messages: Vec<Vec<u8>> =
            stored.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
        syslog::seen(&messages)
    }
}

impl Drop for Rsyslogd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn rsyslogd_and_http_get_each_of_200_000_lines_while_a_third_receiver_dies_forty_times_and_loses_none() {
    let rsyslogd = Rsyslogd::start();
    let pair = Pair::start();
    let kinds = [Death::Reset, Death::Fin];
    let deaths = (0..40).map(|index| (ms(120 + index % 7 * 10), kinds[index as usize % 2])).collect();
    let mortal = TcpSink::start(Plan { reading: Reading::Normal, deaths });
    let setup = pair.setup().drain(&rsyslogd.url("rsyslogd")).drain(&mortal.url("mortal"));
    let enough = setup.path("enough");
    let options = format!("--count 200000 --rate 20000 --shape f200 --err-every 5 --until {}", enough.display());
    let run = setup.start_oracle(&options);
    until("forty deaths", Duration::from_secs(60), || mortal.deaths() == 40);
    fs::write(&enough, "").expect("a fresh file");
    let done = run.finish(Duration::from_secs(60));
    assert!(done.code() == 0 && done.record.done() >= 200_000 && mortal.connections() > 40);
    assert!(mortal.resets_with_unread() >= 15, "{} resets threw bytes away", mortal.resets_with_unread());
    done.acquit("rsyslogd", &rsyslogd.collect(), Terms { confirmed: true, ..Terms::default() });
    pair.acquit(&done);
    let facts = done.acquit("mortal", &mortal.collect(), Terms { duplicates: u64::MAX, ..Terms::default() });
    note(&format!("forty deaths: {} lines, {} duplicates", facts.lines, facts.duplicates));
}

#[test]
fn a_restart_of_rsyslogd_loses_no_line() {
    let rsyslogd = Rsyslogd::start();
    let (port, stored) = (rsyslogd.port, rsyslogd.dir.path().join("out"));
    let setup = Setup::new().drain(&rsyslogd.url("rsyslogd")).stop_timeout(10);
    let mut run = setup.start_oracle("--rate 5000 --shape f200 --on-term goodbye:300");
    run.wrote(5000);
    until("rsyslogd to store lines", LIMIT, || fs::metadata(&stored).is_ok_and(|data| data.len() > 0));
    let mut seen = rsyslogd.collect();
    run.wrote(run.record().done() + 5000);
    let second = Rsyslogd::start_on(port);
    run.stop();
    let done = run.finish(Duration::from_secs(10));
    let after = second.collect();
    assert!(!seen.units.is_empty() && !after.units.is_empty(), "both must have got lines");
    seen.units.extend(after.units);
    seen.gaps.extend(after.gaps);
    done.acquit("rsyslogd", &seen, Terms { duplicates: u64::MAX, ..Terms::default() });
    done.acquit_passthrough();
}

#[test]
fn nginx_says_its_last_words_after_a_quit() {
    let nginx = tools::program("/usr/sbin/nginx", "nginx-light");
    tools::root();
    for pid1 in [false, true] {
        let pair = Pair::start();
        let setup = pair.setup().pid1(pid1).stop_timeout(10);
        let [port] = free_ports();
        let config = setup.path("nginx.conf");
        let text = format!(
            "daemon off; worker_processes 2; pid {dir}/nginx.pid; error_log /dev/stderr notice;\n\
             events {{}}\n\
             http {{ access_log /dev/stdout; client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; \
             fastcgi_temp_path {dir}/c; uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;\n\
             server {{ listen 127.0.0.1:{port}; location / {{ return 200 hello; }} }} }}\n",
            dir = config.parent().expect("a directory").display(),
        );
        fs::write(&config, text).expect("a fresh file");
        let mut run = setup.start(&[nginx, "-c", &config.display().to_string()]);
        until("nginx to listen", LIMIT, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        for number in 0..50 {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("nginx listens");
            let request = format!("GET /number-{number} HTTP/1.0\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("nginx reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("nginx answers");
            assert!(answer.ends_with("hello"), "{answer}");
        }
        // The image's STOPSIGNAL.
        run.signal(Signal::SIGQUIT);
        let done = run.finish(Duration::from_secs(10));
        assert_eq!(done.code(), 0, "{}", done.err());
        let accesses = String::from_utf8_lossy(&done.stdout).matches("GET /number-").count();
        assert_eq!(accesses, 50);
        pair.acquit_foreign(&done, &["GET /number-49", "gracefully shutting down", "exit"]);
    }
}

#[test]
fn redis_says_its_last_words_after_a_term() {
    let redis = tools::program("/usr/bin/redis-server", "redis-server");
    for pid1 in [false, true] {
        let pair = Pair::start();
        let setup = pair.setup().pid1(pid1).stop_timeout(10);
        let dir = setup.path("").display().to_string();
        let socket = setup.path("redis.sock");
        let words = [redis, "--port", "0", "--save", "", "--dir", &dir, "--unixsocket", &socket.display().to_string()];
        let mut run = setup.start(&words);
        until("redis to be ready", LIMIT, || {
            String::from_utf8_lossy(&run.stdout()).contains("The server is now ready") || socket.exists()
        });
        crate::support::pause(ms(50));
        run.stop();
        let done = run.finish(Duration::from_secs(10));
        assert_eq!(done.code(), 0, "{}", done.err());
        pair.acquit_foreign(&done, &["Received SIGTERM scheduling shutdown", "ready to exit, bye bye"]);
    }
}
