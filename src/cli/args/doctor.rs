//! What may follow `bunpilot doctor`.

use std::path::PathBuf;

use clap::Args;

use crate::config::Engine;

const LEVELS: &str = "\
ok    as it should be
note  all works, another way than it could
warn  it will hurt one day
bad   bunpilot cannot do its work, or an app of the file cannot start

Exit status: 0 if nothing is bad, else 1; 78 if the config file is wrong.
Run it as the user, and in the place, the daemon runs in: rights are tried, not guessed.";

/// `doctor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = LEVELS)]
pub(crate) struct Doctor {
    /// Config file: look also whether its apps can start here
    pub(crate) file: Option<PathBuf>,
    /// What evaluates a TypeScript or JavaScript config file: `builtin`, `bun` or `node`
    #[arg(long, value_name = "RUNTIME", default_value_t)]
    pub(crate) config_runtime: Engine,
}
