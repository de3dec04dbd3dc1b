//! What may follow `bunpilot logs`.

use clap::Args;

use crate::{control::wire::Target, logs::query::Lines};

const EXAMPLES: &str = "\
Times: 10m, 2h30m, \"10 minutes ago\", 10:00, today, \"yesterday 22:00\", \"2026-11-24 10:00\",
  2026-11-24T10:00:00Z; without a zone they are local.

Examples:
  bunpilot logs -f                             follow all apps
  bunpilot logs api worker:2 -n 200            the last 200 lines of each file, in order
  bunpilot logs api --since 10m -g 'error|warn'
  bunpilot logs api --previous                 what its workers said before they were restarted
  bunpilot logs api --since today --json | jq .message";

/// `logs`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "flags as clap knows them")]
pub(crate) struct Logs {
    /// Apps: `app` or `app:instance`; all apps if left out
    #[arg(value_name = "APP", value_parser = super::target)]
    pub(crate) targets: Vec<Target>,
    /// Go on printing what comes
    #[arg(short, long, overrides_with = "no_follow")]
    pub(crate) follow: bool,
    /// End after the last line, as it is without `--follow`
    #[arg(long, alias = "nostream", overrides_with = "follow")]
    no_follow: bool,
    /// How many of the last lines to print, of each worker and stream: 50, or `all` with `--since`
    #[arg(short = 'n', long, value_name = "N|all", value_parser = lines)]
    pub(crate) lines: Option<Lines>,
    /// Only lines of this time or later
    #[arg(short = 'S', long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) since: Option<String>,
    /// Only lines of before this time
    #[arg(short = 'U', long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) until: Option<String>,
    /// Only standard error
    #[arg(long, conflicts_with = "out")]
    pub(crate) err: bool,
    /// Only standard output
    #[arg(long)]
    pub(crate) out: bool,
    /// Only lines in which this regular expression matches; several: any of them
    #[arg(short = 'g', long, value_name = "PATTERN", allow_hyphen_values = true)]
    pub(crate) grep: Vec<String>,
    /// Only lines in which no pattern of `--grep` matches
    #[arg(long, alias = "invert-match", requires = "grep")]
    pub(crate) invert: bool,
    /// Patterns match small and capital letters alike; without this, only those without capitals
    #[arg(short = 'i', long)]
    pub(crate) ignore_case: bool,
    /// Make what this regular expression matches stand out
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    pub(crate) highlight: Vec<String>,
    /// Only these workers
    #[arg(short, long, value_name = "N")]
    pub(crate) worker: Vec<u16>,
    /// Only what was written before each worker's last start
    #[arg(short, long, conflicts_with = "follow")]
    pub(crate) previous: bool,
    /// Show when each line was written
    #[arg(short, long, alias = "timestamp")]
    pub(crate) timestamps: bool,
    /// Times are in UTC, those shown and those given
    #[arg(long)]
    pub(crate) utc: bool,
    /// Do not show whose line it is
    #[arg(long)]
    pub(crate) no_prefix: bool,
    /// Every byte as it stands in the files, and nothing else
    #[arg(long, conflicts_with_all = ["timestamps", "highlight"])]
    pub(crate) raw: bool,
}

fn lines(text: &str) -> Result<Lines, &'static str> {
    if text == "all" {
        return Ok(Lines::All);
    }
    text.parse().map(Lines::Last).or(Err("give a whole number, or `all`"))
}
