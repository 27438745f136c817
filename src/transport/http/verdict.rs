//! What an answer, or the lack of one, means for the lines.

use crate::{line::Stamp, transport::Verdict};
use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use std::{
    error::Error,
    time::{Duration, UNIX_EPOCH},
};

/// Characters of an answer that a message quotes.
const QUOTE: usize = 120;

/// The verdict on a status that is not a success.
pub(super) fn of_status(status: StatusCode, after: Option<Duration>, position: u64) -> Verdict {
    match status.as_u16() {
        501 | 505 => Verdict::Hold,
        408 | 425 | 429 | 500.. => Verdict::Retry { resend_from: position, after },
        413 => Verdict::Split,
        // The endpoint, its address or our credentials are at fault, not the lines.
        401..=405 | 407 | 410 | 411 | 414 | 415 | 421 | 426 | 431 => Verdict::Hold,
        400..500 => Verdict::Reject,
        _ => Verdict::Hold,
    }
}

/// The verdict on a request without an answer, and the reason in words.
pub(super) fn of_error(error: &reqwest::Error, limit: Duration, position: u64) -> (Verdict, String) {
    let weather = Verdict::Retry { resend_from: position, after: None };
    if error.is_builder() {
        return (Verdict::Hold, innermost(error));
    }
    if chain(error).any(is_certificate) {
        return (Verdict::Hold, format!("TLS: {}", innermost(error)));
    }
    if error.is_timeout() && !error.is_connect() {
        return (weather, format!("no answer within {} s", limit.as_secs_f64()));
    }
    (weather, innermost(error))
}

/// Whether the peer's certificate, or ours, was refused: no retry mends that.
fn is_certificate(error: &(dyn Error + 'static)) -> bool {
    // An I/O error hides what it wraps from `source`, and may wrap another.
    if let Some(wrapped) = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref()) {
        return is_certificate(wrapped);
    }
    matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
}

/// The text of the first cause. The outer ones name the URL, and repeat.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let Some(first) = chain(error).last() else { return String::new() };
    match first.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
        Some(errno) => nix::errno::Errno::from_raw(errno).desc().to_lowercase(),
        None => first.to_string(),
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// `Retry-After` (RFC 9110 section 10.2.3) in seconds or as a date. None if it is absent, past, or neither.
pub(super) fn retry_after(headers: &HeaderMap, now: Stamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
            date.checked_sub(Duration::from_nanos(u64::try_from(now.0).ok()?))?
        }
    };
    (!wait.is_zero()).then_some(wait)
}

/// `503 Service Unavailable: the beginning of the answer`, on one line.
pub(super) fn quote(status: StatusCode, text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * QUOTE)]);
    let words: Vec<_> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line: String = words.join(" ").chars().take(QUOTE).collect();
    let status = status.to_string().replace(" <unknown status code>", "");
    if line.is_empty() { status } else { format!("{status}: {line}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn every_status_has_its_verdict() {
        let name = |status: u16| match of_status(StatusCode::from_u16(status).unwrap(), None, 7) {
            Verdict::Retry { resend_from: 7, after: None } => "retry",
            Verdict::Retry { .. } => "wrong",
            Verdict::Split => "split",
            Verdict::Reject => "reject",
            Verdict::Hold => "hold",
            Verdict::Items { .. } => "wrong",
        };
        let hold =
            [301, 302, 303, 304, 307, 308, 401, 402, 403, 404, 405, 407, 410, 411, 414, 415, 421, 426, 431, 501, 505];
        let retry = [408, 425, 429, 500, 502, 503, 504, 507, 520, 529, 599];
        for status in 300..=599 {
            let expect = match status {
                413 => "split",
                _ if hold.contains(&status) || status < 400 => "hold",
                _ if retry.contains(&status) || status >= 500 => "retry",
                _ => "reject",
            };
            assert_eq!(name(status), expect, "{status}");
        }
        assert_eq!([name(400), name(406), name(409), name(422)], ["reject"; 4]);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_to_come() {
        let now = Stamp(784_111_777_000_000_000); // Sun, 06 Nov 1994 08:49:37 GMT
        let parse = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(parse("3"), Some(3));
        assert_eq!(parse(" 120 "), Some(120));
        assert_eq!(parse("1000000000"), Some(1_000_000_000), "whoever waits clamps");
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        for nothing in ["0", "-1", "soon", "", "1.5", "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:00:00 GMT"]
        {
            assert_eq!(parse(nothing), None, "{nothing:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn answers_are_quoted_short_and_on_one_line() {
        assert_eq!(
            quote(StatusCode::BAD_REQUEST, b" no\r\n\tsuch\x1b[0m index\n"),
            "400 Bad Request: no such [0m index"
        );
        assert_eq!(quote(StatusCode::from_u16(599).unwrap(), b""), "599");
        assert!(quote(StatusCode::OK, &[b'x'; 9999]).len() < 150);
    }
}
