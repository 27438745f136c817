//! The headers of requests: the format's, and the user's, which may be credentials in files.

use crate::{config::HttpTarget, format::Protocol};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// Those of all requests, and what receivers said of the credentials in them.
#[derive(Debug, Default)]
pub(super) struct Headers {
    /// None: to be (re-)read before the next request.
    current: Option<HeaderMap>,
    /// What the last 401 was the answer to: sent again, for want of anything better, if a file holds no credential any more.
    refused: Option<HeaderMap>,
    /// Why that is so, if it was not said yet.
    trouble: Option<String>,
}

impl Headers {
    /// What to send.
    ///
    /// # Errors
    /// In words: a file of a credential can't be read, or holds none, and none was ever sent.
    pub(super) fn get(&mut self, target: &HttpTarget, protocol: &Protocol) -> Result<HeaderMap, String> {
        if let Some(headers) = &self.current {
            return Ok(headers.clone());
        }
        let headers = match (read(target, protocol), &self.refused) {
            (Ok(headers), _) => headers,
            (Err(why), None) => return Err(why),
            (Err(why), Some(last)) => {
                self.trouble = Some(why);
                last.clone()
            }
        };
        self.current = Some(headers.clone());
        Ok(headers)
    }

    /// A 401 came.
    pub(super) fn refuse(&mut self) {
        self.refused = self.current.take();
    }

    /// Whether, after a 401, the files hold other credentials by now.
    pub(super) fn have_changed(&mut self, target: &HttpTarget, protocol: &Protocol) -> bool {
        let was_refused = self.current.is_none();
        was_refused
            && self.get(target, protocol).is_ok_and(|fresh| self.refused.as_ref().is_some_and(|old| fresh != *old))
    }

    /// What is wrong with a file, once.
    pub(super) fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }
}

fn read(target: &HttpTarget, protocol: &Protocol) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(protocol.content_type));
    for (name, value) in protocol.headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let own = headers.clone();
    for (name, secret) in &target.headers {
        let text = secret.value().map_err(|problem| problem.to_string())?;
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
