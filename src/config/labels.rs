//! `--label k=v`: what the lines wear beside their own names.

use super::{
    environment::Environment,
    problem::{Exit, Problem},
};
use crate::cli::Options;

/// Most labels that are taken: receivers have limits of their own, and every line pays for them.
const MOST: usize = 32;

/// Those typed, else those of the variable.
pub(super) fn read(options: &Options, environment: &Environment) -> Result<Vec<(String, String)>, Exit> {
    let mut labels = Vec::new();
    for text in &options.label {
        add(text, &mut labels).map_err(|problem| problem.of("--label"))?;
    }
    if options.label.is_empty()
        && let Some(found) = environment.variable("LASTWORD_LABEL")?
    {
        found.read(|text| add(text, &mut labels))?;
    }
    Ok(labels)
}

/// One label, or several with commas between them. A later one of the same name holds.
fn add(text: &str, labels: &mut Vec<(String, String)>) -> Result<(), Problem> {
    let right = "write it as in `env=prod`";
    for item in text.split(',').map(str::trim) {
        let Some((name, value)) = item.split_once('=') else {
            return Err(Problem::new(format!("`{item}` has no `=`"), right));
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
            return Err(Problem::new(format!("`{name}` is no name of a label"), "use letters, digits, `.`, `_`, `-`"));
        }
        if value.is_empty() || value.len() > 1024 || value.chars().any(char::is_control) {
            return Err(Problem::new(format!("label `{name}` has a bad value"), right));
        }
        labels.retain(|(known, _)| known != name);
        labels.push((name.to_string(), value.to_string()));
    }
    if labels.len() > MOST {
        return Err(Problem::new(format!("there are {} labels", labels.len()), format!("give at most {MOST}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(texts: &[&str]) -> Result<Vec<(String, String)>, String> {
        let mut labels = Vec::new();
        for text in texts {
            add(text, &mut labels).map_err(|problem| problem.to_string())?;
        }
        Ok(labels)
    }

    #[test]
    fn labels_are_names_with_values_and_the_last_one_holds() {
        let labels = added(&["env=prod,team=a=b", "env=test"]).unwrap();
        let pairs: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("team", "a=b"), ("env", "test")]);
    }

    #[test]
    fn bad_labels_are_told_with_what_would_be_right() {
        assert_eq!(added(&["env"]).unwrap_err(), "`env` has no `=`; write it as in `env=prod`");
        assert_eq!(added(&["a b=c"]).unwrap_err(), "`a b` is no name of a label; use letters, digits, `.`, `_`, `-`");
        assert_eq!(added(&["env="]).unwrap_err(), "label `env` has a bad value; write it as in `env=prod`");
    }
}
