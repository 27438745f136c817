//! HTTP(S): one request a payload, confirmed by a 2xx.
//!
//! A request whose outcome is unknown (cut after it was written, timed out) is sent again, byte for byte and with the
//! same `Idempotency-Key`, over a fresh connection. At once, if a connection that had served before broke under it: a server
//! may close it just as a request sets out (RFC 9112 section 9.3.1; over HTTP/2 a GOAWAY says so, and a REFUSED_STREAM). What
//! a server says in so many words (a status, a stream reset for a reason of its own) is an answer, and waits its turn.
//!
//! What differs from service to service (headers, compression, what an answer means) is the format's [`Protocol`]; what
//! each status means to all of them is in [`verdict`]. The client is built at the first payload, in the drain's own
//! thread: neither start-up nor an idle process pays for it.

mod body;
mod client;
mod compress;
mod headers;
mod patience;
mod verdict;

#[cfg(test)]
mod dialect_tests;
#[cfg(test)]
mod http2_server;
#[cfg(test)]
mod http2_tests;
#[cfg(test)]
mod proxy_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

use super::{Failure, Payload, Progress, Pulse, Transport, Verdict};
use crate::{
    config::HttpTarget,
    format::{
        Protocol,
        http::{Answer as Received, Compress, Meaning, brief},
    },
    ledger::Grade,
};
use bytes::Bytes;
use client::Dialer;
use headers::Headers;
use patience::Patience;
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_ENCODING, HeaderName, LOCATION},
};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use url::Url;

/// How much of an answer is read: enough to quote, and for small ones to keep the connection. Formats whose answers speak of
/// each item get more for each.
const ANSWER_BYTES: usize = 64 << 10;
/// How long an answer's body may take where its status has said what matters.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// 307s and 308s that are followed for one payload.
const REDIRECTS: u32 = 3;
/// Second tries of a request that the peer did not look at; more of them are weather.
const UNSEEN: u32 = 2;
/// Names a payload for receivers that remove duplicates (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// See the module's documentation.
#[derive(Debug)]
pub struct Http {
    target: HttpTarget,
    protocol: &'static Protocol,
    /// None once the receiver said (415) that it takes no encoding.
    compress: Compress,
    dialer: Dialer,
    patience: Patience,
    /// A request is under way; still so at the next one if its future was dropped.
    busy: bool,
    headers: Headers,
    confirmed: u64,
    /// The last exchange left a connection that the next may reuse, or find closed.
    kept_alive: bool,
    pulse: Pulse,
}

/// What came of one request.
enum Answer {
    Taken,
    Moved(Url),
    /// 415: not this content, or not this encoding of it.
    Unreadable,
    Refused(Failure),
    /// The connection broke, or could not be made.
    Broken(reqwest::Error),
}

impl Http {
    /// Connects to nothing, and reads no file yet.
    pub fn new(target: HttpTarget, protocol: &'static Protocol) -> Self {
        let (compress, patience) = (target.compress, Patience::new(target.timeout));
        Self {
            target,
            protocol,
            compress,
            dialer: Dialer::default(),
            patience,
            busy: false,
            headers: Headers::default(),
            confirmed: 0,
            kept_alive: false,
            pulse: Pulse::default(),
        }
    }

    /// One payload, with the second tries that cost nobody anything.
    async fn deliver(&mut self, payload: &Payload) -> Result<(), Failure> {
        let mut url = self.target.url.clone();
        let mut redirects = 0;
        let mut fresh_secrets = false;
        let mut unseen = 0;
        let (mut encoding, mut body) = self.body(payload);
        loop {
            match self.request(payload, &url, encoding, &body).await? {
                Answer::Taken => return Ok(()),
                Answer::Moved(to) if redirects < REDIRECTS => {
                    redirects += 1;
                    url = to;
                }
                Answer::Moved(_) => return Err(self.failure(Verdict::Hold, "redirects in a circle")),
                // REFUSED_STREAM, and a GOAWAY in peace: the peer says that it did not look at it (RFC 9113 section 8.7).
                Answer::Broken(error) if unseen < UNSEEN && verdict::is_unseen(&error) => unseen += 1,
                Answer::Broken(error) => self.broken(&error, payload)?,
                // Credentials in files may have been rotated: read them again, once, before holding.
                Answer::Unreadable if encoding != Compress::Off => {
                    self.compress = Compress::Off;
                    (encoding, body) = self.body(payload);
                }
                Answer::Unreadable => {
                    return Err(self.failure(Verdict::Hold, "415 Unsupported Media Type: it takes no such bodies"));
                }
                Answer::Refused(_) if !fresh_secrets && self.headers.have_changed(&self.target, self.protocol) => {
                    fresh_secrets = true;
                }
                Answer::Refused(failure) => return Err(self.with_secrets(failure)),
            }
        }
    }

    /// Ok if the same request may go again at once.
    fn broken(&mut self, error: &reqwest::Error, payload: &Payload) -> Result<(), Failure> {
        let served_before = std::mem::take(&mut self.kept_alive);
        self.dialer.hang_up();
        let http2 = verdict::http2_reason(error);
        if http2 == Some(h2::Reason::HTTP_1_1_REQUIRED) && self.dialer.step_down() {
            return Ok(());
        }
        if served_before && verdict::is_silent_end(error) {
            return Ok(());
        }
        let (verdict, mut reason) = verdict::of_error(error, &self.target, self.patience.limit(), payload.position);
        // In TLS 1.3 a server refuses our certificate after the handshake; a reset right behind may hide that it did.
        if self.target.url.scheme() == "https" && verdict::is_silent_end(error) {
            reason += " before any answer (maybe because it wants a TLS client certificate, `#cert=` and `#key=`)";
        }
        if error.is_timeout() && !error.is_connect() {
            self.patience.in_vain();
        }
        if matches!(verdict, Verdict::Hold) {
            self.dialer.forget();
        }
        Err(self.failure(verdict, &reason))
    }

    /// The body as it travels. Made again for a retry, to the same bytes.
    fn body(&self, payload: &Payload) -> (Compress, Bytes) {
        match compress::compressed(self.compress, &payload.body) {
            Some(smaller) => (self.compress, smaller),
            None => (Compress::Off, payload.body.clone()),
        }
    }

    async fn request(
        &mut self,
        payload: &Payload,
        url: &Url,
        encoding: Compress,
        body: &Bytes,
    ) -> Result<Answer, Failure> {
        let headers = self.headers.get(&self.target, self.protocol);
        let headers = headers.map_err(|reason| self.failure(Verdict::Hold, &reason))?;
        if std::mem::replace(&mut self.busy, true) {
            self.dialer.hang_up();
            self.kept_alive = false;
        }
        let client = self.dialer.client(&self.target).map_err(|reason| self.failure(Verdict::Hold, &reason))?;
        let body = body::Told::new(body.clone(), payload.position, payload.body.len(), self.pulse.clone());
        let mut request = client
            .post(url.clone())
            .headers(headers)
            .header(IDEMPOTENCY_KEY, payload.key.as_str())
            .timeout(self.patience.limit())
            .body(reqwest::Body::wrap(body));
        for (name, value) in (self.protocol.payload_headers)(&payload.key, payload.ends.len()) {
            request = request.header(name, value);
        }
        if encoding != Compress::Off {
            request = request.header(CONTENT_ENCODING, encoding.name());
        }
        let begun = Instant::now();
        self.pulse.wait_for(format!("no answer from {}", self.endpoint()), crate::clock::now());
        let answer = match request.send().await {
            Ok(response) => {
                self.patience.answered(begun.elapsed());
                self.judge(response, url, payload).await
            }
            Err(error) => Answer::Broken(error),
        };
        self.busy = false;
        self.pulse.waited();
        Ok(answer)
    }

    async fn judge(&mut self, response: Response, url: &Url, payload: &Payload) -> Answer {
        let status = response.status();
        let after = verdict::retry_after(response.headers(), crate::clock::stamp());
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let moved = location.and_then(|location| url.join(location).ok());
        let (limit, time) = match self.protocol.answer_bytes {
            0 => (ANSWER_BYTES, ANSWER_TIME),
            each => (ANSWER_BYTES + each * payload.ends.len(), self.patience.limit()),
        };
        let (text, whole) = read(response, limit, time).await;
        self.kept_alive = whole;
        let received = Received { status: status.as_u16(), body: &text, items: payload.ends.len() };
        let ruling = (self.protocol.judge)(&received);
        if status.is_success() && ruling.meaning == Meaning::Status {
            return Answer::Taken;
        }
        // Credentials are for one origin (scheme, host and port) alone, and only these two keep the method.
        let may_follow = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
        let points_to = moved.as_ref().map(|to| match to.origin() {
            // Of its path nothing is shown: it may repeat a credential of ours.
            origin if origin == url.origin() => {
                "another path there, which the URL is to name: a POST is sent there after 307 and 308 alone".into()
            }
            origin => brief(&origin.ascii_serialization()),
        });
        if let Some(to) = moved.filter(|to| may_follow && to.origin() == url.origin()) {
            return Answer::Moved(to);
        }
        if status == StatusCode::UNAUTHORIZED {
            self.headers.refuse();
        }
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            return Answer::Unreadable;
        }
        let by_proxy = verdict::proxy_refuses(&self.target).filter(|_| status.as_u16() == 407);
        let redirects = points_to.filter(|_| status.is_redirection());
        let redirects = redirects.map(|origin| format!("{status}: it points to {origin}"));
        let reason = ruling.reason.or(by_proxy).or(redirects).unwrap_or_else(|| verdict::quote(status, &text));
        let verdict = match ruling.meaning {
            Meaning::Status if verdict::wants_certificate(status, &text) => {
                self.dialer.forget();
                Verdict::Hold
            }
            Meaning::Status => verdict::of_status(status, after, payload.position),
            Meaning::Retry => Verdict::Retry { resend_from: payload.position, after },
            Meaning::Reject => Verdict::Reject,
            Meaning::Hold => Verdict::Hold,
            Meaning::Items { items, at_once } => {
                Verdict::Items { items, after: if at_once { Some(Duration::ZERO) } else { after } }
            }
        };
        Answer::Refused(self.failure(verdict, &reason))
    }

    /// What came of a request, and of the files that were read because of it.
    fn with_secrets(&mut self, mut failure: Failure) -> Failure {
        if let Some(why) = self.headers.trouble() {
            failure.reason += &format!(" (what a file held before is sent: {why})");
        }
        failure
    }

    fn failure(&self, verdict: Verdict, reason: &str) -> Failure {
        Failure { verdict, reason: format!("{}: {reason}", self.endpoint()) }
    }

    /// Host and port, and by what proxy.
    fn endpoint(&self) -> String {
        let url = &self.target.url;
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let way = self.target.proxy.as_ref().map(|proxy| format!(" by the proxy {proxy}")).unwrap_or_default();
        format!("{host}{port}{way}")
    }
}

/// What an answer to a request to `http://logs.example:81/in` comes to: a yes, another URL, or a failure.
#[cfg(any(test, fuzzing))]
pub(crate) async fn judged(
    protocol: &'static Protocol,
    response: Response,
    payload: &Payload,
) -> Result<Option<Url>, Failure> {
    let url = Url::parse("http://logs.example:81/in").expect("a URL");
    let target = HttpTarget { timeout: Some(Duration::from_secs(1)), ..HttpTarget::new(url.clone()) };
    let mut http = Http::new(target, protocol);
    match http.judge(response, &url, payload).await {
        Answer::Taken => Ok(None),
        Answer::Moved(to) => Ok(Some(to)),
        Answer::Unreadable => Err(http.failure(Verdict::Hold, "415")),
        Answer::Refused(failure) => Err(failure),
        Answer::Broken(error) => Err(http.failure(Verdict::Hold, &verdict::innermost(&error))),
    }
}

/// The beginning of an answer's body, and whether that was all of it.
async fn read(mut response: Response, limit: usize, time: Duration) -> (Vec<u8>, bool) {
    let mut text = Vec::new();
    let whole = timeout(time, async {
        while text.len() < limit {
            match response.chunk().await {
                Ok(Some(chunk)) => text.extend_from_slice(&chunk),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        false
    });
    let whole = whole.await.unwrap_or(false);
    (text, whole)
}

impl Transport for Http {
    const REPEATABLE: bool = true;

    fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    async fn send(&mut self, payload: &Payload) -> Result<(), Failure> {
        self.deliver(payload).await?;
        self.confirmed = payload.end();
        Ok(())
    }

    fn progress(&mut self, _now: Instant) -> Option<Progress> {
        Some(Progress { epoch: 1, upto: self.confirmed, grade: Grade::Confirmed })
    }

    async fn watch(&mut self) -> Result<(), Failure> {
        std::future::pending().await
    }

    async fn finish(&mut self, _deadline: Instant) -> Result<(), Failure> {
        Ok(())
    }
}
