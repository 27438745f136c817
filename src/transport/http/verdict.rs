//! What an answer, or the lack of one, means for the lines.

use crate::{
    config::HttpTarget,
    line::Stamp,
    transport::{Verdict, tls},
};
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
/// What hyper-util says when a proxy answers 407 to CONNECT; its error has no type that could be seen from here.
const PROXY_REFUSES: &str = "proxy authorization required";

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

/// Whether this is nginx speaking of our certificate, which it does by 400 (its own 495 and 496), not of our lines.
pub(super) fn wants_certificate(status: StatusCode, text: &[u8]) -> bool {
    const WORDS: [&str; 2] =
        ["<center>The SSL certificate error</center>", "<center>No required SSL certificate was sent"];
    status == StatusCode::BAD_REQUEST
        && WORDS.iter().any(|words| memchr::memmem::find(text, words.as_bytes()).is_some())
}

/// What a 407 means where there is a proxy.
pub(super) fn proxy_refuses(target: &HttpTarget) -> Option<String> {
    let variable = target.proxy.as_ref()?.variable;
    Some(format!("407 Proxy Authentication Required: it wants other credentials than {variable} has"))
}

/// The verdict on a request without an answer, and the reason in words.
pub(super) fn of_error(
    error: &reqwest::Error,
    target: &HttpTarget,
    limit: Duration,
    position: u64,
) -> (Verdict, String) {
    let weather = Verdict::Retry { resend_from: position, after: None };
    if error.is_builder() {
        return (Verdict::Hold, innermost(error));
    }
    if let Some(error) = cause(error) {
        return (tls::verdict(error, position), tls::why(error));
    }
    if innermost(error).contains(PROXY_REFUSES)
        && let Some(words) = proxy_refuses(target)
    {
        return (Verdict::Hold, words);
    }
    if let Some(reason) = http2_reason(error) {
        return (weather, format!("it broke the request off ({reason:?})"));
    }
    if error.is_timeout() && !error.is_connect() {
        return (weather, format!("no answer within {} s", limit.as_secs_f64()));
    }
    (weather, innermost(error))
}

/// The reason that an HTTP/2 peer gave for the end of a request or of its connection.
pub(super) fn http2_reason(error: &reqwest::Error) -> Option<h2::Reason> {
    cause::<h2::Error>(error).filter(|error| error.is_remote()).and_then(h2::Error::reason)
}

/// An HTTP/2 peer said that it did not look at the request: to send it again makes no duplicate.
pub(super) fn is_unseen(error: &reqwest::Error) -> bool {
    let Some(error) = cause::<h2::Error>(error).filter(|error| error.is_remote()) else { return false };
    match error.reason() {
        Some(h2::Reason::NO_ERROR) => error.is_go_away(),
        Some(h2::Reason::REFUSED_STREAM) => error.is_reset(),
        _ => false,
    }
}

/// The connection broke, and nobody said why: what an idle one that was closed looks like.
pub(super) fn is_silent_end(error: &reqwest::Error) -> bool {
    let spoken = http2_reason(error).is_some_and(|reason| reason != h2::Reason::NO_ERROR);
    !spoken && !error.is_timeout() && !error.is_connect() && cause::<rustls::Error>(error).is_none()
}

/// The error of this kind that is behind another.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| {
        error.downcast_ref().or_else(|| {
            // An I/O error hides what it wraps from `source`, and may wrap another.
            let wrapped = error.downcast_ref::<std::io::Error>()?.get_ref()?;
            cause(wrapped)
        })
    })
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
    // Of a page, its title.
    let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    let text = title.map_or(&*text, |(title, _)| title);
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
    fn retry_after_is_seconds_or_a_date_to_come_24() {
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
        let page = b"<html>\r\n<head><title>502 Bad\nGateway</title></head><body>nginx</body></html>";
        assert_eq!(quote(StatusCode::BAD_GATEWAY, page), "502 Bad Gateway: 502 Bad Gateway");
        assert!(quote(StatusCode::OK, &[b'x'; 9999]).len() < 150);
    }
}
