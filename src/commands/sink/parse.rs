//! What came, understood as far as it can be: NDJSON objects and RFC 5424 messages as lastword sends them, any other text as it is.

use super::Source;
use crate::line::Part;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

/// One line that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// How it came.
    pub source: Source,
    /// `stdout`, `stderr`, or `lastword` for a gap line; in syslog the MSGID.
    pub stream: Option<String>,
    /// The run that it is from.
    pub run: Option<String>,
    /// Its number in the run.
    pub seq: Option<u64>,
    /// Its place in an over-long line.
    pub part: Option<Part>,
    /// In a gap line: how many lines were lost.
    pub lost: Option<u64>,
    /// The text, byte for byte as the app wrote it, without its newline.
    pub text: Vec<u8>,
    /// The whole line or message as it came.
    pub raw: Vec<u8>,
}

impl Received {
    /// A line of which nothing is known but its text.
    pub fn text_only(source: Source, text: Vec<u8>) -> Self {
        Self { source, stream: None, run: None, seq: None, part: None, lost: None, raw: text.clone(), text }
    }

    /// Reads a line of NDJSON; what is not an object with a message is a text.
    pub fn from_json_line(source: Source, line: &[u8]) -> Self {
        let mut received = Self::text_only(source, line.to_vec());
        let Ok(value) = serde_json::from_slice::<Value>(line) else { return received };
        let word = |name: &str| value.get(name).and_then(Value::as_str);
        let number = |name: &str| value.get(name).and_then(Value::as_u64);
        let exact = word("message_base64").and_then(|text| BASE64_STANDARD.decode(text).ok());
        if let Some(text) = exact.or_else(|| word("message").map(|text| text.as_bytes().to_vec())) {
            received.text = text;
        }
        received.stream = word("stream").map(str::to_owned);
        received.run = word("run").map(str::to_owned);
        received.seq = number("seq");
        received.lost = number("lost");
        let place = number("part").and_then(|number| u32::try_from(number).ok());
        received.part = place.map(|number| Part { number, last: value.get("last") == Some(&Value::Bool(true)) });
        received
    }

    /// Reads an RFC 5424 message; of one that has just a priority (RFC 3164 and the like), all behind that is the text.
    pub fn from_syslog(source: Source, message: &[u8]) -> Self {
        let mut received = Self::text_only(source, message.to_vec());
        let Some(rest) = after_priority(message) else { return received };
        received.text = rest.to_vec();
        let mut fields = rest.splitn(7, |&byte| byte == b' ');
        let header: [&[u8]; 6] = std::array::from_fn(|_| fields.next().unwrap_or_default());
        let Some(rest) = fields.next().filter(|_| header[0] == b"1") else { return received };
        let Some((params, text)) = structured_data(rest) else { return received };
        received.text = text.to_vec();
        received.stream = Some(String::from_utf8_lossy(header[5]).into_owned()).filter(|msgid| msgid != "-");
        let param = |name: &str| params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        received.run = param("run").map(str::to_owned);
        received.seq = param("seq").and_then(|seq| seq.parse().ok());
        received.lost = param("lost").and_then(|lost| lost.parse().ok());
        let place = param("part").and_then(|number| number.parse().ok());
        received.part = place.map(|number| Part { number, last: param("last") == Some("1") });
        received
    }
}

fn after_priority(message: &[u8]) -> Option<&[u8]> {
    let rest = message.strip_prefix(b"<")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=3).contains(&digits).then_some(())?;
    rest[digits..].strip_prefix(b">")
}

type Params = Vec<(String, String)>;

/// All parameters of all elements (RFC 5424 §6.3), and the text behind them.
fn structured_data(mut rest: &[u8]) -> Option<(Params, &[u8])> {
    let mut params = Params::new();
    if let Some(after) = rest.strip_prefix(b"-") {
        rest = after;
    }
    while let Some(element) = rest.strip_prefix(b"[") {
        let name_end = element.iter().position(|byte| b" ]".contains(byte))?;
        rest = &element[name_end..];
        while let Some(param) = rest.strip_prefix(b" ") {
            let equals = param.iter().position(|&byte| byte == b'=')?;
            let name = String::from_utf8_lossy(&param[..equals]).into_owned();
            let (value, after) = param_value(param[equals + 1..].strip_prefix(b"\"")?)?;
            params.push((name, value));
            rest = after;
        }
        rest = rest.strip_prefix(b"]")?;
    }
    match rest {
        [] => Some((params, rest)),
        [b' ', text @ ..] => Some((params, text)),
        _ => None,
    }
}

fn param_value(rest: &[u8]) -> Option<(String, &[u8])> {
    let mut value = Vec::new();
    let mut bytes = rest.iter().enumerate();
    while let Some((index, &byte)) = bytes.next() {
        match byte {
            b'"' => return Some((String::from_utf8_lossy(&value).into_owned(), &rest[index + 1..])),
            b'\\' if rest.get(index + 1).is_some_and(|next| b"\"\\]".contains(next)) => {
                value.extend(bytes.next().map(|(_, &escaped)| escaped));
            }
            _ => value.push(byte),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format::{
            Encoder, Format, Gap,
            syslog::{Framing, escaped},
            testing::*,
        },
        ledger::{Loss, Losses},
    };
    use proptest::prelude::*;

    fn matches(received: &Received, text: &[u8], owned: &Owned) -> Result<(), TestCaseError> {
        prop_assert_eq!(&received.text, text);
        prop_assert_eq!(received.seq, Some(owned.seq));
        prop_assert_eq!(received.stream.as_deref(), Some(owned.stream.name()));
        prop_assert_eq!(received.run.as_deref(), Some("0197-b7"));
        prop_assert_eq!(received.part, owned.part);
        prop_assert_eq!(received.lost, None);
        Ok(())
    }

    proptest! {
        #[test]
        fn every_unit_that_we_send_is_understood(owned in any_unit()) {
            let (mut json, mut syslog) = (Vec::new(), Vec::new());
            Encoder::new(Format::Ndjson, origin()).encode(&owned.unit(), &mut json);
            Encoder::new(Format::Syslog(Framing::Datagram), origin()).encode(&owned.unit(), &mut syslog);
            matches(&Received::from_json_line(Source::Http, &json), &owned.text, &owned)?;
            // Shown as it travels.
            let text = escaped(Framing::Datagram, &owned.text);
            matches(&Received::from_syslog(Source::Tcp, &syslog), &text, &owned)?;
        }

        #[test]
        fn nothing_that_comes_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), text in hostile_text()) {
            for line in [&bytes, &text, &[b"<13>1 - - - - - ", &text[..]].concat(), &[b"{\"message\":", &bytes[..]].concat()] {
                prop_assert_eq!(&Received::from_json_line(Source::Http, line).raw, line);
                prop_assert_eq!(&Received::from_syslog(Source::Udp, line).raw, line);
            }
        }
    }

    #[test]
    fn a_gap_line_tells_its_count() {
        let mut lost = Losses::default();
        lost.add(Loss::Overflow, 12);
        let gap = Gap { lost, first: TIME, last: TIME, among: 0 };
        let (mut json, mut syslog) = (Vec::new(), Vec::new());
        Encoder::new(Format::Ndjson, origin()).encode_gap(&gap, &mut json);
        Encoder::new(Format::Syslog(Framing::Datagram), origin()).encode_gap(&gap, &mut syslog);
        for received in [Received::from_json_line(Source::Http, &json), Received::from_syslog(Source::Tcp, &syslog)] {
            assert_eq!(received.lost, Some(12));
            assert_eq!(received.stream.as_deref(), Some("lastword"));
            assert_eq!(received.text, gap.message().as_bytes());
        }
    }

    #[test]
    fn escaped_values_are_read_back() {
        let mut odd = origin();
        odd.run = "a\"b\\c]d".into();
        let mut syslog = Vec::new();
        Encoder::new(Format::Syslog(Framing::Datagram), odd.clone()).encode(&unit(7, b"[x] \"y\""), &mut syslog);
        let received = Received::from_syslog(Source::Tcp, &syslog);
        assert_eq!((received.run, received.text), (Some(odd.run), b"[x] \"y\"".to_vec()));
    }

    #[test]
    fn other_senders_are_shown_as_they_are() {
        let text = |message: &[u8]| Received::from_syslog(Source::Tcp, message).text;
        assert_eq!(text(b"<13>Jan  2 03:04:05 web shop[1]: hi"), b"Jan  2 03:04:05 web shop[1]: hi");
        assert_eq!(text(b"<13>1 - - - - - - hi"), b"hi");
        assert_eq!(text(b"<13>1 - - - - - -"), b"");
        assert_eq!(text(b"no priority"), b"no priority");
        assert_eq!(Received::from_json_line(Source::Http, b"[1,2]").text, b"[1,2]");
        assert_eq!(Received::from_json_line(Source::Http, br#"{"msg":"x"}"#).text, br#"{"msg":"x"}"#);
    }
}
