//! How a long command goes on, one line per worker.
//!
//! On a terminal each worker has a line that grows (`spawning → starting → online`); elsewhere
//! each step is a line of its own, on standard error, so that standard output stays clean. Where
//! nobody watches that either, in a log of cron or CI, only the steps that matter are told.

use std::collections::BTreeMap;

use super::{
    failure::Outcome,
    output::{Format, Out, Screen, Steps, style},
    table::clipped,
};
use crate::control::status::Step;

/// Lines kept in motion at once; more than that is printed as it comes.
const LIVE_MAX: usize = 16;

/// The steps seen so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Workers by app, place and life.
    trails: BTreeMap<(String, u16, u32), Trail>,
    /// How many lines on the terminal are ours.
    drawn: usize,
    /// The last worker that came, or was brought, to an end.
    ended: Option<Step>,
}

#[derive(Debug, Default)]
struct Trail {
    steps: Vec<String>,
    pid: Option<i32>,
    detail: Option<String>,
}

impl Progress {
    /// Tells the reader about one step.
    pub(crate) fn show(&mut self, step: &Step, out: &mut Out) -> Outcome {
        if !matches!(step.step.as_str(), "spawning" | "starting" | "online" | "draining") {
            self.ended = Some(step.clone());
        }
        match (out.format, out.screen) {
            (Format::Json, _) => Ok(()),
            (Format::Human, Screen::Piped)
                if out.steps == Steps::Milestones && is_passing(&step.step) =>
            {
                Ok(())
            }
            (Format::Human, Screen::Piped) => plain(step, out),
            (Format::Human, Screen::Terminal(columns, rows)) => {
                self.note(step);
                self.draw(columns.into(), rows.into(), out)
            }
        }
    }

    /// The last worker that came to an end: if the command failed, that is why.
    pub(crate) fn ended(&self) -> Option<&Step> {
        self.ended.as_ref()
    }

    fn note(&mut self, step: &Step) {
        let trail =
            self.trails.entry((step.app.clone(), step.worker, step.generation)).or_default();
        if trail.steps.last() != Some(&step.step) {
            trail.steps.push(step.step.clone());
        }
        trail.pid = step.pid.or(trail.pid);
        trail.detail.clone_from(&step.detail);
    }

    fn draw(&mut self, columns: usize, rows: usize, out: &mut Out) -> Outcome {
        let live = LIVE_MAX.min(rows.saturating_sub(2)).max(1);
        let out = out.stdout();
        if self.drawn > 0 {
            write!(out, "\x1b[{}A", self.drawn)?;
        }
        for (who, trail) in &self.trails {
            writeln!(out, "\r\x1b[2K{}", line(who, trail, columns))?;
        }
        // Lines that scroll beyond reach are left as they are.
        while self.trails.len() > live && self.trails.pop_first().is_some() {}
        self.drawn = self.trails.len();
        out.flush()?;
        Ok(())
    }
}

/// Whether a step only leads to another one, or to the command's own last word.
fn is_passing(step: &str) -> bool {
    matches!(step, "spawning" | "starting" | "draining" | "stopping" | "stopped")
}

fn plain(step: &Step, out: &mut Out) -> Outcome {
    let Step { app, worker, step: state, pid, detail, .. } = step;
    let pid = pid.map(|it| format!(" (pid {it})")).unwrap_or_default();
    let detail = detail.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
    let style = style::of_state(state);
    writeln!(out.stderr(), "  {app}:{worker} {style}{state}{style:#}{pid}{detail}")?;
    Ok(())
}

fn line((app, worker, _): &(String, u16, u32), trail: &Trail, columns: usize) -> String {
    let pid = trail.pid.map(|it| format!("  pid {it}")).unwrap_or_default();
    let detail = trail.detail.as_ref().map(|it| format!("  {it}")).unwrap_or_default();
    let text = format!("  {app}:{worker}  {}{pid}{detail}", trail.steps.join(" → "));
    let style = style::of_state(trail.steps.last().map_or("", String::as_str));
    format!("{style}{}{style:#}", clipped(&text.replace('\n', " "), columns.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::cli::output::captured;

    fn step(worker: u16, step: &str, detail: Option<&str>) -> Step {
        Step {
            app: "api".into(),
            worker,
            generation: 1,
            step: step.into(),
            pid: (step != "spawning").then_some(70),
            detail: detail.map(str::to_owned),
        }
    }

    #[test]
    fn pipes_get_a_line_for_each_step_on_standard_error() {
        let (mut out, paper, errors) = captured::out(Format::Human, Screen::Piped);
        let mut progress = Progress::default();
        for it in [
            step(0, "spawning", None),
            step(0, "starting", None),
            step(0, "crashed", Some("exited with status 1")),
        ] {
            progress.show(&it, &mut out).unwrap();
        }
        assert_eq!(paper.text(), "");
        expect![[r#"
            [stderr]
              api:0 spawning
              api:0 starting (pid 70)
              api:0 crashed (pid 70): exited with status 1
        "#]]
        .assert_eq(&format!("[stderr]\n{}", errors.text()));
        assert_eq!(progress.ended().map(|it| it.worker), Some(0));
    }

    #[test]
    fn logs_get_a_line_only_for_what_matters() {
        let (mut out, paper, errors) = captured::out(Format::Human, Screen::Piped);
        out.steps = Steps::Milestones;
        let mut progress = Progress::default();
        for it in [
            step(0, "spawning", None),
            step(0, "starting", None),
            step(0, "online", None),
            step(1, "crashed", Some("exited with status 1")),
            step(0, "stopping", None),
            step(0, "stopped", Some("stop")),
        ] {
            progress.show(&it, &mut out).unwrap();
        }
        assert_eq!(paper.text(), "");
        let told = "  api:0 online (pid 70)\n  api:1 crashed (pid 70): exited with status 1\n";
        assert_eq!(errors.text(), told);
    }

    #[test]
    fn a_terminal_shows_one_growing_line_for_each_worker() {
        let (mut out, paper, errors) = captured::out(Format::Human, Screen::Terminal(60, 24));
        let mut progress = Progress::default();
        for it in [
            step(0, "spawning", None),
            step(1, "spawning", None),
            step(0, "starting", None),
            step(0, "online", None),
        ] {
            progress.show(&it, &mut out).unwrap();
        }
        assert_eq!(errors.text(), "");
        let text = paper.text().replace('\r', "");
        let lines: Vec<_> = text.lines().collect();
        let last = lines.get(lines.len() - 2..).unwrap_or_default();
        assert_eq!(last, ["  api:0  spawning → starting → online  pid 70", "  api:1  spawning"]);
    }

    #[test]
    fn a_low_terminal_is_never_scrolled_back_beyond_its_top() {
        let (mut out, _, _) = captured::out(Format::Human, Screen::Terminal(60, 6));
        let mut progress = Progress::default();
        for worker in 0..40 {
            progress.show(&step(worker, "spawning", None), &mut out).unwrap();
            assert!(progress.drawn <= 4, "{} lines", progress.drawn);
        }
    }
}
