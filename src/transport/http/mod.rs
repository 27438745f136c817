//! HTTP(S): one request a payload, confirmed by a 2xx.
//!
//! A request whose outcome is unknown (cut after it was written, timed out) is sent again, byte for byte and with the
//! same `Idempotency-Key`. What differs from service to service (headers, compression, what an answer means) is the
//! format's [`Protocol`]; what each status means to all of them is in [`verdict`]. The client is built at the first payload,
//! in the drain's own thread: neither start-up nor an idle process pays for it.

mod client;
mod compress;
mod verdict;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

use super::{Failure, Payload, Progress, Transport, Verdict};
use crate::{
    config::{HttpTarget, Secret},
    format::{
        Protocol,
        http::{Answer as Received, Compress, Meaning},
    },
    ledger::Grade,
};
use bytes::Bytes;
use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION},
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
/// Names a payload for receivers that remove duplicates (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// See the module's documentation.
#[derive(Debug)]
pub struct Http {
    target: HttpTarget,
    protocol: &'static Protocol,
    /// None once the receiver said (415) that it takes no encoding.
    compress: Compress,
    client: Option<Client>,
    /// None: to be (re-)read before the next request.
    headers: Option<HeaderMap>,
    /// What a 401 was the answer to.
    refused: Option<HeaderMap>,
    confirmed: u64,
    /// The last exchange left a connection that the next may reuse, or find closed.
    kept_alive: bool,
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
        let compress = target.compress;
        Self { target, protocol, compress, client: None, headers: None, refused: None, confirmed: 0, kept_alive: false }
    }

    /// One payload, with the second tries that cost nobody anything.
    async fn deliver(&mut self, payload: &Payload) -> Result<(), Failure> {
        let mut url = self.target.url.clone();
        let mut redirects = 0;
        let mut fresh_secrets = false;
        let (mut encoding, mut body) = self.body(payload);
        loop {
            match self.request(payload, &url, encoding, &body).await? {
                Answer::Taken => return Ok(()),
                Answer::Moved(to) if redirects < REDIRECTS => {
                    redirects += 1;
                    url = to;
                }
                Answer::Moved(_) => return Err(self.failure(Verdict::Hold, "redirects in a circle")),
                // A server may close an idle connection just as a request sets out: RFC 9112 section 9.3.1.
                Answer::Broken(error) if self.kept_alive && !error.is_timeout() && !error.is_connect() => {
                    self.kept_alive = false;
                }
                Answer::Broken(error) => {
                    self.kept_alive = false;
                    let (verdict, reason) = verdict::of_error(&error, self.target.timeout, payload.position);
                    return Err(self.failure(verdict, &reason));
                }
                // Credentials in files may have been rotated: read them again, once, before holding.
                Answer::Unreadable if encoding != Compress::Off => {
                    self.compress = Compress::Off;
                    (encoding, body) = self.body(payload);
                }
                Answer::Unreadable => {
                    return Err(self.failure(Verdict::Hold, "415 Unsupported Media Type: it takes no such bodies"));
                }
                Answer::Refused(_) if !fresh_secrets && self.secrets_changed() => fresh_secrets = true,
                Answer::Refused(failure) => return Err(failure),
            }
        }
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
        let headers = self.headers()?;
        let client = self.client()?;
        let mut request = client
            .post(url.clone())
            .headers(headers)
            .header(IDEMPOTENCY_KEY, payload.key.as_str())
            .timeout(self.target.timeout)
            .body(body.clone());
        for (name, value) in (self.protocol.payload_headers)(&payload.key, payload.ends.len()) {
            request = request.header(name, value);
        }
        if encoding != Compress::Off {
            request = request.header(CONTENT_ENCODING, encoding.name());
        }
        match request.send().await {
            Ok(response) => Ok(self.judge(response, url, payload).await),
            Err(error) => Ok(Answer::Broken(error)),
        }
    }

    async fn judge(&mut self, response: Response, url: &Url, payload: &Payload) -> Answer {
        let status = response.status();
        let after = verdict::retry_after(response.headers(), crate::clock::stamp());
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let moved = location.and_then(|location| url.join(location).ok());
        let (limit, time) = match self.protocol.answer_bytes {
            0 => (ANSWER_BYTES, ANSWER_TIME),
            each => (ANSWER_BYTES + each * payload.ends.len(), self.target.timeout),
        };
        let (text, whole) = read(response, limit, time).await;
        self.kept_alive = whole;
        let received = Received { status: status.as_u16(), body: &text, items: payload.ends.len() };
        let ruling = (self.protocol.judge)(&received);
        if status.is_success() && ruling.meaning == Meaning::Status {
            return Answer::Taken;
        }
        if matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
            && let Some(to) = moved.filter(|to| to.origin() == url.origin())
        {
            return Answer::Moved(to);
        }
        if status == StatusCode::UNAUTHORIZED {
            self.refused = self.headers.take();
        }
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            return Answer::Unreadable;
        }
        let reason = ruling.reason.unwrap_or_else(|| verdict::quote(status, &text));
        let verdict = match ruling.meaning {
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

    fn client(&mut self) -> Result<Client, Failure> {
        if self.client.is_none() {
            let client = client::build(&self.target).map_err(|reason| self.failure(Verdict::Hold, &reason))?;
            self.client = Some(client);
        }
        self.client.clone().ok_or_else(|| self.failure(Verdict::Hold, "no client"))
    }

    fn headers(&mut self) -> Result<HeaderMap, Failure> {
        if let Some(headers) = &self.headers {
            return Ok(headers.clone());
        }
        let headers = self.read_headers().map_err(|reason| self.failure(Verdict::Hold, &reason))?;
        self.headers = Some(headers.clone());
        Ok(headers)
    }

    /// After a 401: whether the files hold other credentials by now.
    fn secrets_changed(&mut self) -> bool {
        let (Some(refused), Ok(headers)) = (self.refused.take(), self.headers()) else { return false };
        headers != refused
    }

    fn read_headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.protocol.content_type));
        for (name, value) in self.protocol.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let own = headers.clone();
        for (name, secret) in &self.target.headers {
            let text = match secret {
                Secret::Value(value) => value.clone(),
                Secret::File { path, prefix } => {
                    let value = std::fs::read_to_string(path)
                        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                    format!("{prefix}{}", value.trim())
                }
            };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name} is no header name"))?;
            let mut value = HeaderValue::from_bytes(text.as_bytes())
                .map_err(|_| format!("the value of {name} is not fit for a header"))?;
            value.set_sensitive(true);
            // A user's header takes the place of ours.
            if own.contains_key(&name) || !headers.contains_key(&name) {
                headers.insert(name, value);
            } else {
                headers.append(name, value);
            }
        }
        Ok(headers)
    }

    fn failure(&self, verdict: Verdict, reason: &str) -> Failure {
        let url = &self.target.url;
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Failure { verdict, reason: format!("{host}{port}: {reason}") }
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
    let (headers, timeout) = (Vec::new(), Duration::from_secs(1));
    let target = HttpTarget { url: url.clone(), headers, ca_pem: None, timeout, compress: Compress::Off };
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
