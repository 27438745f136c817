//! Certificates for the tests, made by openssl once a run.

use super::tools;
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};
use tempfile::TempDir;

/// A directory with `ca.pem`, and signed by it `server` (for localhost, collector.test, hosts.test and 127.0.0.1), `expired` and `client`; `other` is
/// a root of its own. Each has a `.pem` and a `.key`.
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<TempDir> = OnceLock::new();
    DIRECTORY.get_or_init(make).path()
}

/// A file in it.
pub fn file(name: &str) -> PathBuf {
    directory().join(name)
}

fn make() -> TempDir {
    let openssl = tools::program("/usr/bin/openssl", "openssl");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let script = format!(
        r#"
set -eu
cd '{dir}'
key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
for root in ca other; do
    {openssl} req -x509 $key -keyout $root.key -out $root.pem -days 30 -subj /CN=$root
done
sign() {{
    {openssl} req $key -keyout $1.key -out $1.csr -subj /CN=$1
    printf 'subjectAltName=DNS:localhost,DNS:collector.test,DNS:hosts.test,IP:127.0.0.1\n' >$1.ext
    {openssl} x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $1.pem -extfile $1.ext -days $2
}}
sign server 30
sign client 30
sign expired -1
"#,
        dir = dir.path().display(),
    );
    let output = Command::new("sh").args(["-c", &script]).output().expect("sh starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    dir
}

/// The SHA-256 of a certificate, as openssl prints it.
pub fn fingerprint(name: &str) -> String {
    let output = Command::new(tools::program("/usr/bin/openssl", "openssl"))
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(file(name))
        .output()
        .expect("openssl starts");
    let text = String::from_utf8(output.stdout).expect("openssl prints text");
    text.trim().rsplit_once('=').unwrap_or_else(|| panic!("no fingerprint: {text}")).1.to_owned()
}
