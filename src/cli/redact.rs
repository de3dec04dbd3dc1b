//! Takes secrets out of what is shown.

use serde_json::Value;

/// Whether values of environment variables may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrets {
    /// They may not.
    Hidden,
    /// The user asked for them.
    Shown,
}

/// What stands in place of a value.
const HIDDEN: &str = "[redacted]";

/// Hides the values of the `env` of every app in `data`: an app, or a list of them.
pub(crate) fn redact(data: &mut Value, secrets: Secrets) {
    if secrets == Secrets::Shown {
        return;
    }
    if let Value::Array(apps) = data {
        apps.iter_mut().for_each(hide);
    } else {
        hide(data);
    }
}

fn hide(app: &mut Value) {
    let Some(Value::Object(config)) = app.get_mut("config") else { return };
    for (key, value) in config.iter_mut() {
        // `env`, and the profiles `env_production`, …
        if (key == "env" || key.starts_with("env_"))
            && let Value::Object(variables) = value
        {
            variables.values_mut().for_each(|it| *it = Value::String(HIDDEN.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_go_names_stay() {
        let app = json!({"name": "a", "config": {"port": 1, "env": {"KEY": "s3cret"}}});
        let hidden = json!({"name": "a", "config": {"port": 1, "env": {"KEY": "[redacted]"}}});
        let mut list = json!([app]);
        redact(&mut list, Secrets::Hidden);
        assert_eq!(list, json!([hidden]));
        let mut one = app.clone();
        redact(&mut one, Secrets::Hidden);
        assert_eq!(one, hidden);
        let mut shown = app.clone();
        redact(&mut shown, Secrets::Shown);
        assert_eq!(shown, app);
    }
}
