//! Commands about the files of a project: `init`, `config check`, `config schema`, `sdk install`.

use std::{io::Write, path::Path, rc::Rc};

use serde_json::json;

use super::{
    args::{ConfigCommand, SdkCommand},
    config::{self, Form},
    failure::{Failure, Outcome, Verdict},
    init,
    output::{Format, Out, look},
    sdk::{self, What},
};
use crate::{
    config::{Base, Engine, Host, Look},
    platform::host::{Machine, caller},
};

/// `bunpilot init`.
pub(crate) fn init(out: &mut Out) -> Outcome {
    let base = here()?;
    let path = base.env.get("PATH").map_or("", String::as_str);
    let mut said = Vec::new();
    init::init(&base.cwd, path, &Machine, &mut said)
        .map_err(|error| Failure::Local(error.to_string()))?;
    tell("init", &said, out)
}

/// `bunpilot sdk …`.
pub(crate) fn sdk(command: &SdkCommand, out: &mut Out) -> Outcome {
    let SdkCommand::Install { folder, js, python } = command;
    let what = match (js, python) {
        (true, _) => What::Js,
        (_, true) => What::Python,
        (false, false) => What::Detect,
    };
    let folder = match folder {
        Some(folder) => folder.clone(),
        None => here()?.cwd,
    };
    let mut said = Vec::new();
    sdk::install(&folder, what, &mut said).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|it| format!(": {it}"));
        Failure::Local(format!("{error}{}", cause.unwrap_or_default()))
    })?;
    tell("sdk-installed", &said, out)
}

fn tell(action: &str, said: &[u8], out: &mut Out) -> Outcome {
    let said = String::from_utf8_lossy(said);
    match out.format {
        Format::Human => said.lines().try_for_each(|line| out.ok(line)),
        Format::Json => {
            let messages: Vec<_> = said.lines().collect();
            out.json(&json!({ "action": action, "messages": messages }))
        }
    }
}

/// `bunpilot config …`.
pub(crate) fn config(command: ConfigCommand, out: &mut Out) -> Outcome {
    match command {
        ConfigCommand::Schema => Ok(config::print_schema(out.stdout())?),
        ConfigCommand::Check { file, config_runtime } => {
            check(file.as_deref(), config_runtime, out)
        }
    }
}

fn check(file: Option<&Path>, engine: Engine, out: &mut Out) -> Outcome {
    let base = here()?;
    let host: Rc<dyn Host> = Rc::new(Machine);
    let verdict = match out.format {
        Format::Human => {
            config::check(file, engine, &base, &host, Form::Human, look(), out.both())?
        }
        Format::Json => {
            let mut wrong = Vec::new();
            let streams: (&mut dyn Write, &mut dyn Write) = (out.stdout(), &mut wrong);
            let verdict =
                config::check(file, engine, &base, &host, Form::Json, Look::Plain, streams)?;
            if verdict == config::Verdict::Bad {
                let text = String::from_utf8_lossy(&wrong).trim().to_owned();
                return Err(Failure::config(text));
            }
            verdict
        }
    };
    match verdict {
        config::Verdict::Good => Ok(()),
        config::Verdict::Bad => Err(Failure::Told(Verdict::Config)),
    }
}

fn here() -> Result<Base, Failure> {
    caller(None).map_err(Failure::io("find the current folder"))
}
