//! A pretend client of the control socket: what it sends, what it still waits for.

use std::collections::BTreeMap;

use bunpilot::{
    control::wire::{Command, Force, Progress, Reply, Request, Target},
    world::Tidying,
};
use serde_json::{Value, json};

use super::super::luck::Luck;

/// Names clients use; `nobody` is never started.
pub(crate) const NAMES: [&str; 4] = ["web", "api", "job", "nobody"];

#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Requests under way, by id.
    open: BTreeMap<String, Progress>,
    /// Lines without an id of their own that were not refused yet.
    unnamed: u32,
    sent: u32,
    /// Nothing more comes from it.
    pub(crate) closed: bool,
}

impl Client {
    /// How many replies it waits for.
    pub(crate) fn waits(&self) -> usize {
        self.open.len() + usize::try_from(self.unnamed).unwrap()
    }

    /// A request as a line.
    pub(crate) fn ask(&mut self, name: &str, command: Command, progress: Progress) -> Vec<u8> {
        self.sent += 1;
        let id = format!("{name}-{}", self.sent);
        let line = Request { id: id.clone(), command, progress }.line();
        self.open.insert(id, progress);
        line
    }

    /// A line that is no request.
    pub(crate) fn babble(&mut self, name: &str, luck: &mut Luck) -> Vec<u8> {
        self.sent += 1;
        let id = format!("{name}-{}", self.sent);
        let named = [
            json!({ "id": id, "cmd": "fly" }),
            json!({ "id": id }),
            json!({ "id": id, "cmd": "stop" }),
            json!({ "id": id, "cmd": "list", "args": ["web"] }),
            json!({ "id": id, "cmd": 7, "args": {} }),
            json!({ "id": id, "cmd": "scale", "args": { "name": "web", "instances": -1 } }),
            json!({ "id": id, "cmd": "start", "args": { "name": "web", "config": [] } }),
            json!({ "id": id, "cmd": "scale", "args": { "name": "web", "instances": 0 } }),
            json!({ "id": id, "cmd": "signal", "args": { "name": "all", "signal": "SIGNOPE" } }),
        ];
        let mut line = if luck.percent(70) {
            self.open.insert(id, Progress::Silent);
            luck.pick(&named).to_string().into_bytes()
        } else {
            self.unnamed += 1;
            let unnamed: [&[u8]; 5] =
                [b"{}", b"{\"cmd\":\"list\"}", b"\xff\xfe{", b"{\"id\":", b"[[[[[[[["];
            luck.pick(&unnamed).to_vec()
        };
        if luck.percent(1) && self.unnamed > 0 {
            line.resize(bunpilot::control::session::LINE_MAX + 1, b'x');
        }
        line.push(b'\n');
        line
    }

    /// Takes one reply.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        let words = String::from_utf8_lossy(bytes);
        if bytes.iter().position(|it| *it == b'\n') != bytes.len().checked_sub(1) {
            return Err(format!("not one line: {words:?}"));
        }
        let Some((id, reply)) = Reply::<Value>::parse(bytes.trim_ascii()) else {
            return Err(format!("no reply: {words}"));
        };
        match (&reply, self.open.get(&id)) {
            (Reply::Chunk(_), Some(Progress::Told)) => (),
            (Reply::Done(_) | Reply::Failed(..), Some(_)) => {
                self.open.remove(&id);
            }
            (Reply::Failed(..), None) if id == "unknown" && self.unnamed > 0 => self.unnamed -= 1,
            _ => return Err(format!("nobody waits for {words}")),
        }
        Ok(())
    }
}

/// Any command; `config` makes one for an app of this name.
pub(crate) fn any_command(
    luck: &mut Luck,
    config: &mut impl FnMut(&mut Luck, &str) -> Value,
) -> Command {
    let name = (*luck.pick(&NAMES)).to_owned();
    let target = match luck.below(10) {
        0 => Target::All,
        1 => Target::Instance(name.clone(), luck.below(3)),
        _ => Target::App(name.clone()),
    };
    let force = if luck.percent(20) { Force::Kill } else { Force::Gentle };
    match luck.below(27) {
        0..7 if name != "nobody" => Command::Start {
            config: luck.percent(80).then(|| config(luck, &name)),
            config_path: luck.percent(50).then(|| format!("/srv/{name}.toml")),
            name,
        },
        0..8 => Command::Start { name, config: None, config_path: None },
        8..10 => Command::Stop(target, force),
        10..12 => Command::Restart(target, force),
        12..14 => Command::Reload { target, config: None },
        14 => Command::Reload { config: Some(config(luck, &name)), target },
        15 => Command::Delete(target, force),
        16..18 => Command::Scale { name, instances: luck.below(5) },
        18 => Command::Signal(target, "SIGHUP".to_owned()),
        19 => Command::Logs { name, lines: 5 },
        20 => Command::List,
        21 => Command::Status(target.to_string()),
        22 => Command::Metrics(luck.percent(50).then_some(name)),
        23 => Command::Exposition,
        24 => luck.pick(&[Command::Dump, Command::Ping]).clone(),
        25 => Command::Tidy(*luck.pick(&[Tidying::Flush, Tidying::Rotate]), target),
        _ => Command::Resurrect,
    }
}
