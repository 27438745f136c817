//! One component of a drain URL: `%XX` and `${NAME}`.
//!
//! What a variable gives is data: it is never searched for variables again. `%24` is a literal `$`.

use super::{environment::Environment, problem::Problem};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;

/// Everything but the unreserved characters of RFC 3986 §2.3.
const DATA: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What may not stand in a URL as it is; the rest of what was typed is kept.
const TYPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');

/// Decodes a component, and puts variables in as they are.
pub(crate) fn expand(component: &str, what: &str, environment: &Environment) -> Result<String, Problem> {
    pieces(component, what, environment, |piece| match piece {
        Piece::Typed(typed) => percent_decode_str(typed).decode_utf8().map_err(|_| {
            Problem::new(format!("the {what} is not UTF-8 when decoded"), "percent-encode the UTF-8 bytes")
        }),
        Piece::Variable(value) => Ok(Cow::Borrowed(value)),
    })
}

/// Keeps a component encoded, and encodes what variables give.
pub(crate) fn expand_encoded(component: &str, what: &str, environment: &Environment) -> Result<String, Problem> {
    pieces(component, what, environment, |piece| match piece {
        Piece::Typed(typed) => Ok(utf8_percent_encode(typed, TYPED).into()),
        Piece::Variable(value) => Ok(utf8_percent_encode(value, DATA).into()),
    })
}

enum Piece<'a> {
    Typed(&'a str),
    Variable(&'a str),
}

fn pieces<'a>(
    component: &'a str,
    what: &str,
    environment: &'a Environment,
    take: impl Fn(Piece<'a>) -> Result<Cow<'a, str>, Problem>,
) -> Result<String, Problem> {
    let mut whole = String::new();
    let mut rest = component;
    while let Some(at) = rest.find('$') {
        let (typed, behind) = rest.split_at(at);
        check_percent(typed, what)?;
        whole += &take(Piece::Typed(typed))?;
        let Some((name, behind)) = variable(behind, what)? else {
            whole.push('$');
            rest = &behind[1..];
            continue;
        };
        let value = environment
            .text(name)
            .map_err(|_| Problem::new(format!("`${{{name}}}` is not UTF-8"), "write its value in UTF-8"))?
            .ok_or_else(|| {
                Problem::new(
                    format!("`${{{name}}}` is not set"),
                    format!("set {name} in the environment, or write `%24` for a literal `$`"),
                )
            })?;
        whole += &take(Piece::Variable(value))?;
        rest = behind;
    }
    check_percent(rest, what)?;
    whole += &take(Piece::Typed(rest))?;
    Ok(whole)
}

/// `text` begins with `$`: the name of the variable and what is behind it, or None for a `$` that is just that.
fn variable<'a>(text: &'a str, what: &str) -> Result<Option<(&'a str, &'a str)>, Problem> {
    let starts_name = |first: char| first.is_ascii_alphabetic() || first == '_';
    let Some(braced) = text.strip_prefix("${") else {
        // No shell has been here (exec-form ENTRYPOINT): `$TOKEN` would be sent as a password of six characters.
        return match text[1..].starts_with(starts_name) {
            true => Err(Problem::new(
                format!("a variable without braces in the {what}"),
                "write `${NAME}` for a variable, `%24` for a literal `$`",
            )),
            false => Ok(None),
        };
    };
    match braced.split_once('}') {
        Some((name, behind))
            if name.starts_with(starts_name)
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') =>
        {
            Ok(Some((name, behind)))
        }
        _ => Err(Problem::new(
            format!("`${{` without a variable's name and `}}` in the {what}"),
            "write `${NAME}` for a variable, `%24` for a literal `$`",
        )),
    }
}

/// A `%` that no two hexadecimal digits follow would silently be sent as it is.
fn check_percent(typed: &str, what: &str) -> Result<(), Problem> {
    let is_escape =
        |at: usize| typed.as_bytes().get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    match typed.match_indices('%').find(|&(at, _)| !is_escape(at)) {
        Some(_) => Err(Problem::new(
            format!("bad percent-encoding in the {what}"),
            "behind `%` stand two hexadecimal digits, and a literal `%` is `%25`",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment::from(&[("TOKEN", "a/b%zz${X}"), ("_2", "x")][..])
    }

    #[test]
    fn a_dollar_can_be_written() {
        assert_eq!(expand("%24{TOKEN}$1$", "path", &environment()), Ok("${TOKEN}$1$".into()));
        assert_eq!(expand_encoded("%24{TOKEN}$1$", "path", &environment()), Ok("%24{TOKEN}$1$".into()));
    }

    #[test]
    fn variables_are_put_in_once() {
        assert_eq!(expand("<${TOKEN}>%41${_2}", "path", &environment()), Ok("<a/b%zz${X}>Ax".into()));
        assert_eq!(
            expand_encoded("<${TOKEN}>%41${_2}", "path", &environment()),
            Ok("%3Ca%2Fb%25zz%24%7BX%7D%3E%41x".into())
        );
    }

    #[test]
    fn an_escape_needs_two_hexadecimal_digits() {
        for text in ["%", "a%4", "%zz", "%4${_2}", "%+1", "%é"] {
            assert!(expand(text, "path", &environment()).is_err(), "{text}");
            assert!(expand_encoded(text, "path", &environment()).is_err(), "{text}");
        }
        assert_eq!(expand("%c3%A9", "path", &environment()), Ok("é".into()));
    }
}
