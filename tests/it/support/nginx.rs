//! A real nginx in front of a receiver: what it does to requests, it does as the world's most common front does.

use super::{certificates, tools, until};
use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// A running one.
pub struct Nginx {
    dir: TempDir,
    child: Child,
    /// Where it speaks HTTP/1.1 without TLS.
    pub plain: SocketAddr,
    /// Where it speaks TLS, HTTP/2 and 1.1, with the certificate `server`.
    pub tls: SocketAddr,
}

impl Nginx {
    /// With these directives in its `http` and its `server` block.
    pub fn start(http: &str, server: &str) -> Self {
        let program = tools::program("/usr/sbin/nginx", "nginx-light");
        let dir = tempfile::tempdir().expect("a temporary directory");
        // Both at a time, so that they differ.
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [plain, tls] = ports.map(|port| port.local_addr().expect("bound"));
        let text = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log info;\n\
             events {{}}\n\
             http {{ log_format short '$status $server_protocol'; access_log {at}/access.log short;\n\
             client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d; \
             scgi_temp_path {at}/e;\n\
             {http}\n\
             server {{ listen {plain}; listen {tls} ssl http2; ssl_certificate {cert}; ssl_certificate_key {key};\n\
             {server} }} }}\n",
            at = dir.path().display(),
            cert = certificates::file("server.pem").display(),
            key = certificates::file("server.key").display(),
        );
        fs::write(dir.path().join("nginx.conf"), text).expect("a fresh file");
        let child = Command::new(program)
            .arg("-c")
            .arg(dir.path().join("nginx.conf"))
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx starts");
        // Already in its guard, so that it ends also if it never listens.
        let server = Self { dir, child, plain, tls };
        until("nginx to listen", Duration::from_secs(20), || TcpStream::connect(tls).is_ok());
        server
    }

    /// Answers with this status and protocol so far.
    pub fn count(&self, status: u16, protocol: &str) -> usize {
        let log = fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        log.lines().filter(|line| *line == format!("{status} {protocol}")).count()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
