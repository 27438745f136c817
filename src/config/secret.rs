//! Credentials: given as they are, or in files, which are read again when a receiver refuses what they held.

use super::{drain_options::is_header_value, option_files::regular_file, problem::Problem};

/// What stands before the path of a file.
const FROM_FILE: &str = "file:";

/// A credential that fits into a header. Its value never shows in `Debug`.
#[derive(Clone)]
pub enum Secret {
    /// Given directly or through `${NAME}`.
    Value(String),
    /// Read from a file before the first request, and again after a 401.
    File {
        /// Where it is.
        path: String,
        /// What stands before it in the header (`Bearer `).
        prefix: String,
    },
}

impl Secret {
    /// A value, or `file:PATH`: a regular file that has to be readable now, and to hold a credential. `what` names it in
    /// complaints.
    pub(crate) fn parse(value: &str, prefix: &str, what: &str) -> Result<Self, Problem> {
        if let Some(path) = value.strip_prefix(FROM_FILE) {
            read(path).map_err(|problem| problem.within(what))?;
            return Ok(Self::File { path: path.into(), prefix: prefix.into() });
        }
        match is_header_value(value) {
            true => Ok(Self::Value(format!("{prefix}{value}"))),
            false => {
                Err(Problem::new(format!("{what} can't stand in a header"), "use printable ASCII, without line breaks"))
            }
        }
    }

    /// What goes into the header, as it is now.
    ///
    /// # Errors
    /// If its file is not what [`Secret::parse`] asks for.
    pub(crate) fn value(&self) -> Result<String, Problem> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::File { path, prefix } => Ok(format!("{prefix}{}", read(path)?)),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The one line that a file holds, without the white space around it.
fn read(path: &str) -> Result<String, Problem> {
    let content = regular_file(path)
        .map_err(|why| Problem::new(format!("can't read `{path}`: {why}"), "name a readable file behind `file:`"))?;
    let wrong =
        |why: &str| Err(Problem::new(format!("`{path}` {why}"), "write the credential into it, alone on one line"));
    let text = content.trim_ascii();
    match std::str::from_utf8(text) {
        _ if text.is_empty() => wrong("is empty"),
        _ if text.contains(&b'\n') => wrong("has several lines"),
        Ok(text) if is_header_value(text) => Ok(text.to_owned()),
        _ => wrong("holds what can't stand in a header"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn parse(value: &str) -> Result<Secret, String> {
        Secret::parse(value, "Bearer ", "option `bearer`").map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_file_of_a_secret_must_be_readable() {
        for (path, why) in [("/nowhere/t", "no such file or directory"), ("/tmp", "not a regular file")] {
            assert_eq!(
                parse(&format!("file:{path}")).unwrap_err(),
                format!("option `bearer`: can't read `{path}`: {why}; name a readable file behind `file:`")
            );
        }
    }

    #[test]
    fn a_file_of_a_secret_holds_one_line_that_fits_into_a_header() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token").to_string_lossy().into_owned();
        for (content, why) in [
            (&b""[..], "is empty"),
            (b" \n\n", "is empty"),
            (b"t0p\nt1p\n", "has several lines"),
            (b"# token\r\nt0p\r\n", "has several lines"),
            (b"t\0p\n", "holds what can't stand in a header"),
            (b"t\xffp", "holds what can't stand in a header"),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(
                parse(&format!("file:{path}")).unwrap_err(),
                format!("option `bearer`: `{path}` {why}; write the credential into it, alone on one line")
            );
        }
        fs::write(&path, "\tt0p \r\n").unwrap();
        let secret = parse(&format!("file:{path}")).unwrap();
        assert_eq!(secret.value(), Ok("Bearer t0p".to_owned()));
        fs::write(&path, "t1p").unwrap();
        assert_eq!(secret.value(), Ok("Bearer t1p".to_owned()), "read again");
        fs::write(&path, "").unwrap();
        assert!(secret.value().is_err());
    }
}
