//! The platform that we run on, as its variables tell: how long its stop takes, and what it calls the app.
//!
//! Pure: the environment comes in, nothing is asked. Variables that people set for a platform's command-line tools
//! (`NOMAD_ADDR`, `APTIBLE_USERNAME`, `RAILWAY_TOKEN`) are no sign of being there; each mark below is set by the platform
//! itself, in every container. Only Heroku's time is fixed; elsewhere it is a default that may have been changed, so it
//! is assumed, and no app is killed on it.

use super::{Budget, Environment};
use std::time::Duration;

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Platform {
    /// Its name.
    pub(crate) name: &'static str,
    /// The variable that gave it away.
    pub(crate) mark: &'static str,
    /// Time between its stop signal and its SIGKILL.
    pub(crate) budget: Budget,
    /// The machine, where that is not the container's own host name.
    pub(crate) host: Option<String>,
    /// The app.
    pub(crate) app: Option<String>,
    /// The dyno, task, pod, machine, allocation.
    pub(crate) instance: Option<String>,
}

impl Platform {
    /// Why the budget is what it is, as a fragment: `stated: Heroku gives so much, and DYNO is set`.
    pub(crate) fn why(&self) -> String {
        let Self { name, mark, .. } = self;
        match self.budget {
            Budget::Stated(_) => format!("stated: {name} always gives that, and {mark} is set"),
            Budget::Assumed(_) => format!("assumed: the default of {name}, as {mark} is set"),
        }
    }
}

/// A platform, how it is known, and what its variables say. Of each list, the first that is set counts.
struct Rule {
    name: &'static str,
    marks: &'static [&'static str],
    seconds: u64,
    stated: bool,
    host: &'static [&'static str],
    app: &'static [&'static str],
    instance: &'static [&'static str],
}

const fn assumed(name: &'static str, seconds: u64, marks: &'static [&'static str]) -> Rule {
    Rule { name, marks, seconds, stated: false, host: &[], app: &[], instance: &[] }
}

/// In this order: some run their containers on Kubernetes or Nomad, and Aptible's are close to plain Docker.
const RULES: [Rule; 9] = [
    // devcenter.heroku.com/articles/dyno-shutdown-behavior: 30 seconds, not configurable. HEROKU_APP_NAME is there with
    // the dyno metadata feature.
    Rule { stated: true, app: &["HEROKU_APP_NAME"], instance: &["DYNO"], ..assumed("Heroku", 30, &["DYNO"]) },
    Rule {
        app: &["RENDER_SERVICE_NAME"],
        instance: &["RENDER_INSTANCE_ID"],
        ..assumed("Render", 30, &["RENDER", "RENDER_INSTANCE_ID"])
    },
    Rule {
        app: &["RAILWAY_SERVICE_NAME"],
        instance: &["RAILWAY_REPLICA_ID"],
        ..assumed("Railway", 3, &["RAILWAY_REPLICA_ID", "RAILWAY_SERVICE_ID", "RAILWAY_PROJECT_ID"])
    },
    // Stopped with INT, as on Nomad. INT is a stop everywhere.
    Rule {
        app: &["FLY_APP_NAME"],
        instance: &["FLY_MACHINE_ID", "FLY_ALLOC_ID"],
        ..assumed("Fly", 5, &["FLY_APP_NAME", "FLY_MACHINE_ID", "FLY_ALLOC_ID"])
    },
    Rule { app: &["K_SERVICE"], instance: &["K_REVISION"], ..assumed("Cloud Run", 10, &["K_SERVICE"]) },
    // The address ends with the container's number (docs.aws.amazon.com, "task metadata endpoint").
    assumed("ECS", 30, &["ECS_CONTAINER_METADATA_URI_V4", "ECS_CONTAINER_METADATA_URI"]),
    // aptible.com/docs/aptible-metadata-variables.
    assumed("Aptible", 10, &["APTIBLE_PROCESS_TYPE", "APTIBLE_PROCESS_INDEX", "APTIBLE_CONTAINER_SIZE"]),
    Rule {
        app: &["NOMAD_TASK_NAME", "NOMAD_JOB_NAME"],
        instance: &["NOMAD_ALLOC_ID"],
        ..assumed("Nomad", 5, &["NOMAD_ALLOC_ID", "NOMAD_TASK_NAME"])
    },
    // A pod's host name is its own name. NODE_NAME and POD_NAME are what people usually call the downward API's fields.
    Rule {
        host: &["NODE_NAME"],
        instance: &["POD_NAME", "HOSTNAME"],
        ..assumed("Kubernetes", 30, &["KUBERNETES_SERVICE_HOST"])
    },
];

/// The platform, if a variable gives it away.
pub(crate) fn detect(environment: &Environment) -> Option<Platform> {
    let is_set = |name: &&&str| environment.raw(name).is_some();
    let (rule, mark) = RULES.iter().find_map(|rule| Some((rule, *rule.marks.iter().find(is_set)?)))?;
    let first = |names: &[&str]| names.iter().find_map(|name| word(environment, name));
    let time = Duration::from_secs(rule.seconds);
    Some(Platform {
        name: rule.name,
        mark,
        budget: if rule.stated { Budget::Stated(time) } else { Budget::Assumed(time) },
        host: first(rule.host),
        app: first(rule.app),
        instance: match rule.name {
            "ECS" => word(environment, mark).and_then(|address| last_part(&address)),
            "Aptible" => process(environment),
            _ => first(rule.instance),
        },
    })
}

/// A value that can be a name: one word.
fn word(environment: &Environment, name: &str) -> Option<String> {
    let value = environment.text(name).ok().flatten()?.trim();
    let is_word = !value.is_empty() && !value.chars().any(|letter| letter.is_whitespace() || letter.is_control());
    is_word.then(|| value.to_owned())
}

fn last_part(address: &str) -> Option<String> {
    address.trim_end_matches('/').rsplit('/').next().filter(|part| !part.is_empty()).map(str::to_owned)
}

/// `web.0`, in the manner of a dyno's name.
fn process(environment: &Environment) -> Option<String> {
    let kind = word(environment, "APTIBLE_PROCESS_TYPE")?;
    Some(match word(environment, "APTIBLE_PROCESS_INDEX") {
        Some(index) => format!("{kind}.{index}"),
        None => kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Platform {
        detect(&Environment::from(variables)).unwrap_or_else(|| panic!("{variables:?} is no platform"))
    }

    fn assumed(seconds: u64) -> Budget {
        Budget::Assumed(Duration::from_secs(seconds))
    }

    #[test]
    fn every_platform_is_known_by_its_variables_and_has_its_time() {
        let stated = Budget::Stated(Duration::from_secs(30));
        for (variable, name, budget) in [
            ("DYNO", "Heroku", stated),
            ("APTIBLE_PROCESS_TYPE", "Aptible", assumed(10)),
            ("APTIBLE_CONTAINER_SIZE", "Aptible", assumed(10)),
            ("KUBERNETES_SERVICE_HOST", "Kubernetes", assumed(30)),
            ("ECS_CONTAINER_METADATA_URI", "ECS", assumed(30)),
            ("ECS_CONTAINER_METADATA_URI_V4", "ECS", assumed(30)),
            ("FLY_APP_NAME", "Fly", assumed(5)),
            ("FLY_MACHINE_ID", "Fly", assumed(5)),
            ("K_SERVICE", "Cloud Run", assumed(10)),
            ("RENDER", "Render", assumed(30)),
            ("RAILWAY_PROJECT_ID", "Railway", assumed(3)),
            ("NOMAD_ALLOC_ID", "Nomad", assumed(5)),
        ] {
            let platform = found(&[(variable, "x")]);
            assert_eq!((platform.name, platform.mark, platform.budget), (name, variable, budget));
        }
    }

    #[test]
    fn a_desk_and_a_desk_with_the_platforms_tools_are_no_platform() {
        let tools = ["NOMAD_ADDR", "NOMAD_TOKEN", "APTIBLE_USERNAME", "RAILWAY_TOKEN", "FLY_API_TOKEN", "HOSTNAME"];
        let tools = tools.map(|name| (name, "x"));
        assert_eq!(detect(&Environment::from(&tools[..])), None);
        assert_eq!(detect(&Environment::from(&[("DYNO", "")][..])), None, "an empty variable is an unset one");
    }

    #[test]
    fn names_come_from_the_environment() {
        let names = |variables: &[(&str, &str)]| {
            let Platform { host, app, instance, .. } = found(variables);
            [host, app, instance].map(|name| name.unwrap_or_else(|| "-".into())).join(" ")
        };
        assert_eq!(names(&[("DYNO", "web.1"), ("HEROKU_APP_NAME", "shop")]), "- shop web.1");
        assert_eq!(names(&[("APTIBLE_PROCESS_TYPE", "web"), ("APTIBLE_PROCESS_INDEX", "2")]), "- - web.2");
        let pod = [("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("HOSTNAME", "shop-7d4-x")];
        assert_eq!(names(&pod), "- - shop-7d4-x");
        let downward = [pod[0], pod[1], ("POD_NAME", "shop-7d4-y"), ("NODE_NAME", "node-3")];
        assert_eq!(names(&downward), "node-3 - shop-7d4-y");
        assert_eq!(names(&[("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4/ab12-34/")]), "- - ab12-34");
        assert_eq!(names(&[("FLY_APP_NAME", "shop"), ("FLY_MACHINE_ID", "e784")]), "- shop e784");
        assert_eq!(names(&[("K_SERVICE", "shop"), ("K_REVISION", "shop-00001")]), "- shop shop-00001");
        assert_eq!(names(&[("NOMAD_ALLOC_ID", "a1"), ("NOMAD_JOB_NAME", "shop")]), "- shop a1");
        assert_eq!(names(&[("DYNO", "web.1"), ("HEROKU_APP_NAME", "two words")]), "- - web.1", "no name: not used");
    }

    #[test]
    fn a_platform_on_kubernetes_is_known_as_itself() {
        assert_eq!(found(&[("KUBERNETES_SERVICE_HOST", "x"), ("K_SERVICE", "shop")]).name, "Cloud Run");
        assert_eq!(found(&[("KUBERNETES_SERVICE_HOST", "x"), ("RENDER", "true")]).name, "Render");
    }

    #[test]
    fn the_reason_is_a_plain_fragment() {
        assert_eq!(found(&[("DYNO", "web.1")]).why(), "stated: Heroku always gives that, and DYNO is set");
        assert_eq!(found(&[("RENDER", "true")]).why(), "assumed: the default of Render, as RENDER is set");
    }
}
