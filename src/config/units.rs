//! Durations, sizes, switches and addresses: small strict parsers. What they do not know is an error, never a guess.

use super::problem::Problem;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

/// Units of time in milliseconds, largest first: a duration names each at most once, in this order.
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Far beyond any use, and far from where adding to an `Instant` overflows.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// `30s`, `1m30s`, `500ms`; a plain number is seconds. At most 365 d.
pub(crate) fn duration(text: &str) -> Result<Duration, Problem> {
    let wrong = || {
        Problem::new(format!("`{text}` is not a duration"), "write it as in `30s`, `1m30s`, `500ms` or `30` (seconds)")
    };
    let time = match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Duration::from_secs(text.parse().map_err(|_| wrong())?),
        false => Duration::from_millis(milliseconds(text).ok_or_else(wrong)?),
    };
    if time > LONGEST {
        return Err(Problem::new(format!("`{text}` is too long"), "the longest duration is `365d`"));
    }
    Ok(time)
}

fn milliseconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut units = TIME_UNITS.as_slice();
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at(letters);
        let at = units.iter().position(|&(name, _)| name == unit)?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(units[at].1)?)?;
        units = &units[at + 1..];
        rest = behind;
    }
    Some(sum)
}

/// `65536`, `64KiB`, `64K` (1,024 each) or `64kB` (1,000 each), in the manner of coreutils.
pub(crate) fn size(text: &str) -> Result<u64, Problem> {
    let wrong =
        || Problem::new(format!("`{text}` is not a size"), "write it as in `65536` (bytes), `64KiB` or `32MiB`");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)
}

/// A size between two limits, both allowed.
pub(crate) fn size_between(text: &str, least: u64, most: u64) -> Result<usize, Problem> {
    let bytes = size(text)?;
    let range = || format!("it goes from `{}` to `{}`", human_size(least), human_size(most));
    if bytes < least {
        return Err(Problem::new(format!("`{text}` is too small"), range()));
    }
    match usize::try_from(bytes) {
        Ok(fits) if bytes <= most => Ok(fits),
        _ => Err(Problem::new(format!("`{text}` is too large"), range())),
    }
}

/// The shortest exact spelling that [`size`] reads back.
pub(crate) fn human_size(bytes: u64) -> String {
    match bytes {
        0 => "0".into(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => bytes.to_string(),
    }
}

/// `on` or `off`, with the usual synonyms.
pub(crate) fn switch(text: &str) -> Result<bool, Problem> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err(Problem::new(format!("`{text}` is not a switch"), "write `on` or `off`")),
    }
}

/// `127.0.0.1:8080`, `[::1]:8080`, or a port alone, which is on loopback; `off` is None. Port 0 is any free one.
pub(crate) fn address(text: &str) -> Result<Option<SocketAddr>, Problem> {
    if text == "off" {
        return Ok(None);
    }
    if let Ok(port) = text.trim_start_matches(':').parse::<u16>() {
        return Ok(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
    }
    text.parse().map(Some).map_err(|_| {
        Problem::new(format!("`{text}` is not an address"), "write IP:PORT, as in `127.0.0.1:8080`, a port, or `off`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, milliseconds) in [
            ("30", 30_000),
            ("0", 0),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1s500ms", 1_500),
            ("1d2h3m4s5ms", 93_784_005),
            ("90m", 5_400_000),
            ("365d", 31_536_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "s", "1.5s", "-1s", "30 s", "1s1m", "1s1s", "10x", "1m30", "30S", "∞", "99999999999999999999"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("366d").unwrap_err().to_string(), "`366d` is too long; the longest duration is `365d`");
        assert!(duration("18446744073709551615h").is_err());
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("64k", 65_536),
            ("64K", 65_536),
            ("64kB", 64_000),
            ("2MiB", 2 << 20),
            ("1GiB", 1 << 30),
            ("1GB", 1_000_000_000),
            ("7b", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
            assert_eq!(size(&human_size(bytes)), Ok(bytes), "{text}");
        }
        for text in ["", "KiB", "-1", "1.5MiB", "64 KiB", "64TiB", "99999999999999999999", "18446744073709551615KiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_outside_its_limits_names_them() {
        assert_eq!(size_between("1KiB", 1024, 4096), Ok(1024));
        assert_eq!(size_between("4KiB", 1024, 4096), Ok(4096));
        for (text, word) in [("1023", "small"), ("4097", "large"), ("0", "small")] {
            let problem = size_between(text, 1024, 4096).unwrap_err().to_string();
            assert_eq!(problem, format!("`{text}` is too {word}; it goes from `1KiB` to `4KiB`"));
        }
    }

    #[test]
    fn addresses_default_to_loopback() {
        assert_eq!(address("off"), Ok(None));
        assert_eq!(address("8080").unwrap().unwrap().to_string(), "127.0.0.1:8080");
        assert_eq!(address(":0").unwrap().unwrap().to_string(), "127.0.0.1:0");
        assert_eq!(address("[::1]:80").unwrap().unwrap().to_string(), "[::1]:80");
        assert!(address("localhost:80").is_err());
        assert!(address("65536").is_err());
    }
}
