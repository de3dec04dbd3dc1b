//! The original's README, line by line, with Bun as it assumes.

use std::fs;

use crate::test::{Home, Tool, app, free_port, get, need};

/// A home with the README's `./src/server.ts` in it.
fn project() -> Home {
    let home = Home::new();
    home.write("src/server.ts", &fs::read_to_string(app("server.ts")).unwrap());
    home
}

/// Runs a line as a shell would split it.
#[track_caller]
fn line(home: &Home, words: &str) -> String {
    home.ok(words.split_whitespace())
}

#[test]
fn the_quick_start_works_line_by_line() {
    need!(Tool::Bun);
    let (home, port) = (project(), free_port());
    line(&home, "start ./src/server.ts --name api");
    home.online("api", 1);
    line(&home, "delete api --force");
    line(&home, &format!("start ./src/server.ts --name api --instances 4 --port {port}"));
    home.online("api", 4);
    assert_eq!(get(port, "/").unwrap().status, 200);
    for inspection in ["list", "status api", "logs api", "metrics", "list --json", "metrics --json"]
    {
        line(&home, inspection);
    }
    for change in ["restart api", "reload api"] {
        line(&home, change);
        home.online("api", 4);
        assert_eq!(get(port, "/").unwrap().status, 200, "after `{change}`");
    }
    line(&home, "stop api");
    assert!(home.pids("server.ts").is_empty());
    line(&home, "delete api --force");
    assert!(home.rows("api").is_empty());
    for care in ["daemon start", "daemon status", "ping", "daemon stop"] {
        line(&home, care);
    }
}

/// The README's example config, its port and its patience for probes aside.
#[test]
fn the_readmes_config_works() {
    need!(Tool::Bun);
    let (home, port) = (project(), free_port());
    home.write(
        "bunpilot.config.ts",
        &r"
import type { BunpilotConfig } from './src/config/types';

const config: BunpilotConfig = {
  apps: [
    {
      name: 'api-server',
      script: './src/server.ts',
      instances: 2,
      port: 3000,

      env: {
        NODE_ENV: 'production',
      },

      // Health checks
      healthCheck: {
        enabled: true,
        path: '/health',
        interval: 1_000,
        timeout: 500,
        unhealthyThreshold: 3,
      },

      // Restart policy
      maxRestarts: 15,
      maxRestartWindow: 60_000,
      minUptime: 5_000,
      backoff: { initial: 1_000, multiplier: 2, max: 30_000 },

      // Graceful shutdown
      shutdownSignal: 'SIGTERM',
      killTimeout: 8_000,
      readyTimeout: 10_000,

      // Log rotation
      logs: {
        outFile: './logs/api-out.log',
        errFile: './logs/api-err.log',
        maxSize: 10 * 1024 * 1024,  // 10 MB
        maxFiles: 5,
      },

      // Metrics
      metrics: {
        enabled: true,
        prometheus: false,
        collectInterval: 5_000,
      },

      // Clustering
      clustering: {
        enabled: true,
        strategy: 'reusePort',
        rollingRestart: { batchSize: 1, batchDelay: 2_000 },
      },
    },
  ],
};

export default config;
"
        .replace("3000", &port.to_string()),
    );
    line(&home, "start --config bunpilot.config.ts");
    home.online("api-server", 2);
    assert_eq!(get(port, "/").unwrap().status, 200);
}
