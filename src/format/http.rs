//! What a format says about its HTTP dialect: where to post, with which headers, how large, and what an answer means.
//!
//! Everything here is plain data and pure functions; `transport::http` does the talking. A format overrides what differs
//! from [`Protocol::PLAIN`], which is how a webhook behaves: any 2xx is a yes, and the table of statuses in
//! `transport::http` says the rest.

use crate::transport::ItemVerdict;

/// How one format is spoken over HTTP.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// `Content-Type` of a body.
    pub content_type: &'static str,
    /// What becomes of the path of the drain's URL.
    pub path: PathRule,
    /// The query where the URL has none.
    pub query: Option<&'static str>,
    /// Header and prefix that `#token=` goes into.
    pub token: (&'static str, &'static str),
    /// The encodings that receivers take, the default first.
    pub compress: &'static [Compress],
    /// Estimated bytes of a body, before compression.
    pub bytes: usize,
    /// Items in a body.
    pub items: usize,
    /// Further headers, the same in each request.
    pub headers: &'static [(&'static str, &'static str)],
    /// Further headers that depend on the payload: its key (equal on every retry) and its number of items.
    pub payload_headers: fn(key: &str, items: usize) -> Vec<(&'static str, String)>,
    /// Bytes of an answer that an item may take; 0 where the status says it all.
    pub answer_bytes: usize,
    /// An answer may say how many items it refused, and not which ([`Ruling::all_but`]).
    pub counts_only: bool,
    /// What an answer means.
    pub judge: fn(&Answer<'_>) -> Ruling,
}

impl Protocol {
    /// A webhook.
    pub const PLAIN: Self = Self {
        content_type: "text/plain",
        path: PathRule::AsIs,
        query: None,
        token: ("authorization", "Bearer "),
        compress: &[Compress::Off, Compress::Gzip, Compress::Zstd],
        bytes: 1 << 20,
        items: 10_000,
        headers: &[],
        payload_headers: |_, _| Vec::new(),
        answer_bytes: 0,
        counts_only: false,
        judge: |_| Meaning::Status.into(),
    };

    /// The URL to post to: path and query as this dialect has them.
    pub fn complete(&self, url: &mut url::Url) {
        let path = url.path();
        let is_empty = matches!(path, "" | "/");
        match self.path {
            PathRule::IfEmpty(default) | PathRule::Suffix { empty: default, .. } if is_empty => url.set_path(default),
            PathRule::Suffix { suffix, .. } if !path.trim_end_matches('/').ends_with(suffix) => {
                let path = format!("{}{suffix}", path.trim_end_matches('/'));
                url.set_path(&path);
            }
            _ => {}
        }
        if url.query().is_none() {
            url.set_query(self.query);
        }
    }
}

/// What becomes of a drain URL's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathRule {
    /// Nothing.
    AsIs,
    /// This one stands in for an empty one.
    IfEmpty(&'static str),
    /// The path is a base: `suffix` is added if it is not there; `empty` stands in for an empty one.
    Suffix {
        /// With its slash.
        suffix: &'static str,
        /// A whole path.
        empty: &'static str,
    },
}

/// `#compress=`: the content coding of bodies, at its fastest level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// None.
    Off,
    /// RFC 1952, level 1.
    Gzip,
    /// RFC 8878, level 1.
    Zstd,
}

impl Compress {
    /// As options and `Content-Encoding` write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// An answer, as far as it was read.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// The beginning of the body.
    pub body: &'a [u8],
    /// Items in the payload that it answers.
    pub items: usize,
}

impl Answer<'_> {
    /// A 2xx.
    pub const fn is_success(&self) -> bool {
        self.status / 100 == 2
    }

    /// The body read as JSON. A byte of it that is no UTF-8 (a receiver may repeat a line in its words) must not hide what the
    /// rest says.
    ///
    /// # Errors
    /// It is none, or not what is asked for.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(&String::from_utf8_lossy(self.body))
    }
}

/// What an answer means for the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// What its status means everywhere: 2xx is a yes.
    Status,
    /// Not stored; send it again (`Retry-After` holds).
    Retry,
    /// Refused for its content: bisect.
    Reject,
    /// The endpoint or its settings are at fault.
    Hold,
    /// One verdict an item, in their order; what is to be tried again may go at once.
    Items {
        /// As many as the payload has.
        items: Vec<ItemVerdict>,
        /// No back-off: the receiver is well.
        at_once: bool,
    },
}

/// A meaning, and the reason if the receiver's own words are not the best.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What it means.
    pub meaning: Meaning,
    /// Why, in words fit for "drain NAME: {reason}".
    pub reason: Option<String>,
}

impl From<Meaning> for Ruling {
    fn from(meaning: Meaning) -> Self {
        Self { meaning, reason: None }
    }
}

impl Ruling {
    pub(crate) fn because(meaning: Meaning, reason: impl Into<String>) -> Self {
        Self { meaning, reason: Some(reason.into()) }
    }

    /// A receiver that took a payload but for `rejected` items, and does not say which (unless it is all of them): the accounts
    /// count all the same. They are exact because such payloads never mix lines and gap lines ([`Protocol::counts_only`]).
    pub(crate) fn all_but(items: usize, rejected: u64, reason: impl Into<String>) -> Self {
        let rejected = usize::try_from(rejected).unwrap_or(usize::MAX).min(items);
        let refused = if rejected < items { ItemVerdict::SomeRejected } else { ItemVerdict::Rejected };
        let mut verdicts = vec![refused; rejected];
        verdicts.resize(items, ItemVerdict::Stored);
        Self::because(Meaning::Items { items: verdicts, at_once: true }, reason)
    }
}

/// A receiver's own words, as far as a message repeats them: short, and on one line.
pub(crate) fn brief(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_completed_but_never_overridden() {
        let complete = |path: PathRule, query: Option<&'static str>, url: &str| {
            let mut url: url::Url = url.parse().unwrap();
            Protocol { path, query, ..Protocol::PLAIN }.complete(&mut url);
            url.to_string()
        };
        let push = PathRule::IfEmpty("/push");
        assert_eq!(complete(PathRule::AsIs, None, "http://h/a?b=c"), "http://h/a?b=c");
        assert_eq!(complete(push, None, "http://h"), "http://h/push");
        assert_eq!(complete(push, None, "http://h/other"), "http://h/other");
        let bulk = PathRule::Suffix { suffix: "/_bulk", empty: "/logs/_bulk" };
        assert_eq!(complete(bulk, Some("a=b"), "http://h/"), "http://h/logs/_bulk?a=b");
        assert_eq!(complete(bulk, Some("a=b"), "http://h/index/?pipeline=p"), "http://h/index/_bulk?pipeline=p");
        assert_eq!(complete(bulk, None, "http://h/index/_bulk"), "http://h/index/_bulk");
    }

    #[test]
    fn a_receivers_words_are_short_and_on_one_line() {
        assert_eq!(brief("no\nsuch\x1b[0m"), "no such [0m");
        assert_eq!(brief(&"é".repeat(9999)), "é".repeat(120));
    }

    #[test]
    fn a_count_of_refused_items_never_exceeds_the_items() {
        let Meaning::Items { items, .. } = Ruling::all_but(3, u64::MAX, "all").meaning else { panic!("no items") };
        assert_eq!(items, [ItemVerdict::Rejected; 3], "all of them is no guess");
    }
}
