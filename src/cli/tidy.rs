//! `bunpilot flush` and `rotate`: log files are emptied, or put aside.

use serde_json::Value;

use super::{
    args,
    client::Daemon,
    failure::Outcome,
    format,
    home::Home,
    output::{Format, Out},
    suggest,
};
use crate::{
    control::wire::{Command, Target},
    world::Tidying,
};

/// Runs it.
pub(crate) fn run(home: &Home, what: Tidying, args: args::Tidy, out: &mut Out) -> Outcome {
    let target = args.target.unwrap_or(Target::All);
    let daemon = Daemon::of(home);
    let command = Command::Tidy(what, target.clone());
    let data = match daemon.order(command, &mut |_| Ok(())) {
        Ok(data) => data.unwrap_or_default(),
        Err(failure) if failure.is_no_such_app() => {
            return Err(failure.hint(suggest::names(&daemon, &target)));
        }
        Err(failure) => return Err(failure),
    };
    if out.format == Format::Json {
        return out.json(&data);
    }
    tell(what, &target, &data, out)
}

fn tell(what: Tidying, target: &Target, data: &Value, out: &mut Out) -> Outcome {
    let number = |key| data.get(key).and_then(Value::as_u64).unwrap_or(0);
    if data.get("apps").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return out.warn("no app is known");
    }
    let (count, late) = (number("files"), number("atLineEnd"));
    match what {
        Tidying::Flush if count == 0 => out.ok(format_args!("\"{target}\": nothing to flush")),
        Tidying::Flush => {
            let freed = format::size(number("freedBytes"));
            out.ok(format_args!("\"{target}\" flushed: {}, {freed} freed", files(count)))
        }
        Tidying::Rotate if (count, late) == (0, 0) => {
            out.ok(format_args!("\"{target}\": nothing to rotate"))
        }
        Tidying::Rotate => {
            let late = match late {
                0 => String::new(),
                late => format!(", {late} more as soon as the line being written ends"),
            };
            out.ok(format_args!("\"{target}\" rotated: {}{late}", files(count)))
        }
    }
}

fn files(count: u64) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}
