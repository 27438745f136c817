//! The headers of requests: the format's, and the user's, which may be credentials in files.

use crate::{
    config::{HttpTarget, Secret},
    format::Protocol,
};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// All but those of one payload.
///
/// # Errors
/// In words: a file of a credential can't be read, or does not fit into a header.
pub(super) fn read(target: &HttpTarget, protocol: &Protocol) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(protocol.content_type));
    for (name, value) in protocol.headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let own = headers.clone();
    for (name, secret) in &target.headers {
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
