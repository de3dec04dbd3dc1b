//! "Did you mean …?" for names of apps.

use super::client::Daemon;
use crate::control::wire::Target;

/// Closeness (Jaro-Winkler, 0 to 1) from which a name is worth suggesting.
const CLOSE: f64 = 0.75;

/// How many apps are named to a user whose app is like none of them.
const NAMED_MAX: usize = 8;

/// The known app the user may have meant, in words.
pub(crate) fn names(daemon: &Daemon, target: &Target) -> Option<String> {
    let (Target::App(name) | Target::Instance(name, _)) = target else { return None };
    // Without a list there is nothing to suggest; the error itself will be told.
    let apps = daemon.apps(&Target::All).unwrap_or_default();
    let known: Vec<_> = apps.iter().map(|it| it.name.as_str()).collect();
    match closest(name, &known) {
        Some(close) => Some(format!("did you mean `{close}`?")),
        None if known.is_empty() => Some("no app is known; see `bunpilot start --help`".to_owned()),
        None if known.len() <= NAMED_MAX => Some(format!("there is `{}`", known.join("`, `"))),
        None => Some("`bunpilot list` shows those there are".to_owned()),
    }
}

fn closest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|it| (strsim::jaro_winkler(&name.to_lowercase(), &it.to_lowercase()), *it))
        .filter(|(closeness, it)| *closeness >= CLOSE && *it != name)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, it)| it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_close_names_are_suggested() {
        let known = ["api-server", "mailer", "worker"];
        assert_eq!(closest("api-sever", &known), Some("api-server"));
        assert_eq!(closest("API", &known), Some("api-server"));
        assert_eq!(closest("mialer", &known), Some("mailer"));
        assert_eq!(closest("database", &known), None);
        assert_eq!(closest("x", &[]), None);
    }
}
