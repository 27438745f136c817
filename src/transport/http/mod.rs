//! HTTP(S): one request a payload, confirmed by a 2xx.
//!
//! A request whose outcome is unknown (cut after it was written, timed out) is sent again, byte for byte and with the
//! same `Idempotency-Key`. What each status means is in [`verdict`]. The client is built at the first payload, in the
//! drain's own thread: neither start-up nor an idle process pays for it.

mod client;
mod verdict;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

use super::{Failure, Payload, Progress, Transport, Verdict};
use crate::{
    config::{HttpTarget, Secret},
    ledger::Grade,
};
use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION},
};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use url::Url;

/// How much of an answer is read: enough to quote, and for small ones to keep the connection.
const ANSWER_BYTES: usize = 64 << 10;
/// How long an answer's body may take: its status has said what matters.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// 307s and 308s that are followed for one payload.
const REDIRECTS: u32 = 3;
/// Names a payload for receivers that remove duplicates (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// See the module's documentation.
#[derive(Debug)]
pub struct Http {
    target: HttpTarget,
    content_type: &'static str,
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
    Refused(Failure),
    /// The connection broke, or could not be made.
    Broken(reqwest::Error),
}

impl Http {
    /// Connects to nothing, and reads no file yet.
    pub fn new(target: HttpTarget, content_type: &'static str) -> Self {
        Self { target, content_type, client: None, headers: None, refused: None, confirmed: 0, kept_alive: false }
    }

    /// One payload, with the second tries that cost nobody anything.
    async fn deliver(&mut self, payload: &Payload) -> Result<(), Failure> {
        let mut url = self.target.url.clone();
        let mut redirects = 0;
        let mut fresh_secrets = false;
        loop {
            match self.request(payload, &url).await? {
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
                Answer::Refused(_) if !fresh_secrets && self.secrets_changed() => fresh_secrets = true,
                Answer::Refused(failure) => return Err(failure),
            }
        }
    }

    async fn request(&mut self, payload: &Payload, url: &Url) -> Result<Answer, Failure> {
        let headers = self.headers()?;
        let client = self.client()?;
        let request = client
            .post(url.clone())
            .headers(headers)
            .header(IDEMPOTENCY_KEY, payload.key.as_str())
            .timeout(self.target.timeout)
            .body(payload.body.clone());
        match request.send().await {
            Ok(response) => Ok(self.judge(response, url, payload.position).await),
            Err(error) => Ok(Answer::Broken(error)),
        }
    }

    async fn judge(&mut self, response: Response, url: &Url, position: u64) -> Answer {
        let status = response.status();
        let after = verdict::retry_after(response.headers(), crate::clock::stamp());
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let moved = location.and_then(|location| url.join(location).ok());
        let (text, whole) = read(response).await;
        self.kept_alive = whole;
        if status.is_success() {
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
        let reason = verdict::quote(status, &text);
        Answer::Refused(self.failure(verdict::of_status(status, after, position), &reason))
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
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
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
            if name == CONTENT_TYPE || !headers.contains_key(&name) {
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

/// The beginning of an answer's body, and whether that was all of it.
async fn read(mut response: Response) -> (Vec<u8>, bool) {
    let mut text = Vec::new();
    let whole = timeout(ANSWER_TIME, async {
        while text.len() < ANSWER_BYTES {
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
