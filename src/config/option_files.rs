//! Files that settings name, read and looked into before the app starts.

use super::problem::Problem;
use crate::errand::{PATIENCE, ask, hangs};
use rustls::pki_types::pem::PemObject;
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// A file with a private key.
pub(super) fn key_file(path: &str) -> Result<PathBuf, Problem> {
    let wrong = |what: String| Problem::new(format!("option `key`: {what}"), "name a readable file with a PEM key");
    let pem = regular_file(path).map_err(|why| wrong(format!("can't read `{path}`: {why}")))?;
    match rustls::pki_types::PrivateKeyDer::from_pem_slice(&pem) {
        Ok(_) => Ok(path.into()),
        Err(_) if memchr::memmem::find(&pem, b"ENCRYPTED").is_some() => Err(Problem::new(
            format!("option `key`: the key in `{path}` is encrypted"),
            "name a file with the bare key, as `openssl pkey -in FILE` writes it",
        )),
        Err(_) => Err(wrong(format!("no key in `{path}`"))),
    }
}

/// What is in a file of certificates.
pub(super) fn certificates(option: &str, path: &str) -> Result<Vec<u8>, Problem> {
    let pem = regular_file(path).map_err(|why| {
        Problem::new(
            format!("option `{option}`: can't read `{path}`: {why}"),
            "name a readable file of PEM certificates",
        )
    })?;
    let mark = b"-----BEGIN CERTIFICATE-----";
    match pem.windows(mark.len()).any(|window| window == mark) {
        true => Ok(pem),
        false => Err(Problem::new(
            format!("option `{option}`: no certificate in `{path}`"),
            "name a readable file of PEM certificates (`-----BEGIN CERTIFICATE-----`)",
        )),
    }
}

/// A FIFO would keep the app from starting for as long as nobody writes into it, and a device may never end.
fn open_regular(path: &str) -> Result<fs::File, String> {
    if !fs::metadata(path).map_err(|error| reason(&error))?.is_file() {
        return Err("not a regular file".into());
    }
    fs::File::open(path).map_err(|error| reason(&error))
}

/// What is in a file. A disk that hangs is not waited for: the app's start depends on it.
pub(super) fn regular_file(path: &str) -> Result<Vec<u8>, String> {
    let path = path.to_owned();
    let content = ask(PATIENCE, move || {
        let mut content = Vec::new();
        open_regular(&path)?.read_to_end(&mut content).map_err(|error| reason(&error))?;
        Ok(content)
    });
    content.unwrap_or_else(|| Err(hangs()))
}

/// Whether a path is known to be a directory; one on a disk that hangs may well be none.
pub(super) fn is_directory(path: &Path) -> bool {
    let path = path.to_owned();
    ask(PATIENCE, move || path.is_dir()).unwrap_or(false)
}

/// "No such file or directory", without "(os error 2)".
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
