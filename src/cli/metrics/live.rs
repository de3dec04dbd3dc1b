//! The dashboard: the table, drawn anew every second on a screen of its own.

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr},
};
use serde::de::IgnoredAny;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};

use super::{measurements, table};
use crate::{
    cli::{
        client::Daemon,
        failure::{Failure, Outcome},
        format,
        output::{Out, Screen, style},
        table::clipped,
    },
    control::status::AppStatus,
};

/// Time from one drawing to the next.
const REFRESH: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Shows it until the user presses `q` or Ctrl-C.
pub(super) fn run(daemon: &Daemon, name: Option<&str>, out: &mut Out) -> Outcome {
    // A name nobody has is told on the ordinary screen.
    measurements::<IgnoredAny>(daemon, name)?;
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended))
            .map_err(Failure::io("watch for signals"))?;
    }
    // Only so that the signal wakes the wait for a key.
    let resized = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGWINCH, resized).map_err(Failure::io("watch for signals"))?;
    let keys = Keys::open();
    write!(out.stdout(), "{ENTER}")?;
    let outcome = watch(daemon, name, &ended, &keys, out);
    write!(out.stdout(), "{LEAVE}")?;
    out.flush()?;
    drop(keys);
    outcome
}

fn watch(
    daemon: &Daemon,
    name: Option<&str>,
    ended: &AtomicBool,
    keys: &Keys,
    out: &mut Out,
) -> Outcome {
    while !ended.load(Ordering::Relaxed) {
        out.screen = Screen::look();
        let frame = match measurements::<Vec<AppStatus>>(daemon, name) {
            Ok(apps) => frame(&apps, out.screen)?,
            // A daemon that restarts is worth waiting for.
            Err(failure) => format!("{failure}\n"),
        };
        write!(out.stdout(), "\x1b[H{}\x1b[J", frame.replace('\n', "\x1b[K\r\n"))?;
        out.flush()?;
        if keys.quit() {
            break;
        }
    }
    Ok(())
}

/// What one drawing shows: at most as many lines as there are rows, none wider than the screen.
fn frame(apps: &[AppStatus], screen: Screen) -> Result<String, Failure> {
    let (columns, rows) = match screen {
        Screen::Terminal(columns, rows) => (usize::from(columns), usize::from(rows)),
        Screen::Piped => (80, 24),
    };
    let mut text = Vec::new();
    let head = clipped(&summary(apps), columns);
    writeln!(text, "{}{head}{0:#}", style::BOLD)?;
    table(apps).draw(columns, &mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<_> = text.lines().collect();
    let room = rows.saturating_sub(2).max(1);
    let shown = lines.get(..room.min(lines.len())).unwrap_or_default().join("\n");
    let hidden = lines.len().saturating_sub(room);
    Ok(if hidden > 0 { format!("{shown}\n… {hidden} more") } else { shown })
}

fn summary(apps: &[AppStatus]) -> String {
    let workers = || apps.iter().flat_map(|it| &it.workers);
    let online = workers().filter(|it| it.state == "online").count();
    let cpu: f64 = workers().filter_map(|it| it.cpu).map(|it| it.percentage).sum();
    let rss: u64 = workers().filter_map(|it| it.memory).map(|it| it.rss).sum();
    let (apps, workers) = (apps.len(), workers().count());
    let noun = if apps == 1 { "app" } else { "apps" };
    format!(
        "bunpilot  {apps} {noun}  {online}/{workers} online  CPU {}  RSS {}  q quits",
        format::percent(cpu),
        format::size(rss)
    )
}

/// The keyboard, giving keys as they are pressed; as it was before when dropped.
struct Keys {
    before: Option<Termios>,
}

impl Keys {
    fn open() -> Self {
        let before = io::stdin().is_terminal().then(|| tcgetattr(io::stdin()).ok()).flatten();
        if let Some(before) = &before {
            let mut now = before.clone();
            now.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            now.special_codes[SpecialCodeIndex::VMIN] = 1;
            now.special_codes[SpecialCodeIndex::VTIME] = 0;
            let _stays_as_it_was = tcsetattr(io::stdin(), OptionalActions::Now, &now);
        }
        Self { before }
    }

    /// Waits for a key, a signal or the next drawing; whether it is time to leave.
    fn quit(&self) -> bool {
        let stdin = io::stdin();
        let mut wanted = [PollFd::new(&stdin, PollFlags::IN)];
        let watched: &mut [PollFd<'_>] = if self.before.is_some() { &mut wanted } else { &mut [] };
        match poll(watched, Some(&REFRESH)) {
            Ok(1..) => {
                let mut key = [0];
                // No key, no keyboard: leave rather than spin.
                stdin
                    .lock()
                    .read(&mut key)
                    .map_or(true, |read| read == 0 || matches!(key, [b'q' | b'Q' | 3]))
            }
            Ok(0) | Err(_) => false,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _terminal_gone = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::cli::{client::read, example};

    #[test]
    fn a_frame_fits_the_screen() {
        let apps: Vec<AppStatus> = read(example::apps()).unwrap();
        let seen =
            |screen| anstream::adapter::strip_str(&frame(&apps, screen).unwrap()).to_string();
        expect![[r#"
            bunpilot  3 apps  2/3 online  CPU 24.7%  RSS 1.4 GB  q quits
            APP        │ WORKER │ PID     │ CPU % │ RSS     │ HEAP USED │ RESTARTS
            api-server │ 0      │ 4180001 │ 12.3% │ 28.1 MB │ 11.8 MB   │ 0
            api-server │ 1      │ 4180002 │ 12.3% │ 1.4 GB  │ 11.8 MB   │ 0
            mailer     │ 0      │ —       │ —     │ —       │ —         │ 3"#]]
        .assert_eq(&seen(Screen::Terminal(70, 20)));
        expect![[r#"
            bunpilot  3 apps  2/3 online …
            APP        │ WORKER │ CPU %
            … 3 more"#]]
        .assert_eq(&seen(Screen::Terminal(30, 4)));
    }
}
