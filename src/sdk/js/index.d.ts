/** Milliseconds, or a text like `30s`. */
export type Millis = number | string;

/** Bytes, or a text like `10MB`; units are powers of 1024. */
export type Bytes = number | string;

/** A configuration file: the apps to run. One app alone may stand for a file of its own. */
export interface BunpilotConfig {
  apps: AppConfig[];
  /** Where the daemon keeps its files. */
  daemon?: DaemonConfig;
}

export interface AppConfig {
  /** Letters, digits, `.`, `_` and `-`, at most 64. */
  name: string;
  /** Entry point, relative to `cwd`; or a program found on `PATH`. */
  script: string;
  /** Arguments after the script: a list, or one text split as a shell would. */
  args?: string | string[];
  /** What runs the script; `none` if it runs by itself. Chosen by extension if left out. */
  interpreter?: string | string[];
  /** Working directory, relative to the configuration file. */
  cwd?: string;
  /** How many workers run; `max` is one per CPU. Default: 1. */
  instances?: number | 'max';
  /** The port the app serves. */
  port?: number;
  env?: Record<string, string>;
  /** Environment variables by profile, added to `env` by `--env <profile>`. */
  envs?: Record<string, Record<string, string>>;
  /** Whether the app also gets the environment of whoever starts it. Default: true. */
  inheritEnv?: boolean;
  /** Whom to run as. Default: as the daemon. */
  user?: string | { uid: number; gid: number };
  /** Resource limits by name as in `prlimit(1)`. */
  limits?: Record<string, number | string>;
  /** Crashes tolerated within `maxRestartWindow` before giving up. Default: 15. */
  maxRestarts?: number;
  /** Length of the sliding window in which crashes are counted. Default: 15 minutes. */
  maxRestartWindow?: Millis;
  /** Online time after which a crash no longer counts as one in a row. Default: 30 s. */
  minUptime?: Millis;
  backoff?: BackoffConfig;
  /** Signal that asks a worker to exit. Default: `SIGTERM`. */
  shutdownSignal?: string;
  /** Longest wait between asking a worker to exit and killing it. Default: 5 s. */
  killTimeout?: Millis;
  /** Longest wait for a worker to say it is ready. Default: 30 s. */
  readyTimeout?: Millis;
  /** HTTP probes of each worker; off if left out. */
  healthCheck?: HealthCheckConfig;
  logs?: LogsConfig;
  metrics?: MetricsConfig;
  /** On by itself with several instances and a port. */
  clustering?: ClusteringConfig;
}

/** How long to wait before a crashed worker is started again. */
export interface BackoffConfig {
  /** First delay; 0 is none. Default: 1 s. */
  initial?: Millis;
  /** Growth per crash in a row. Default: 2. */
  multiplier?: number;
  /** Longest delay. Default: 30 s. */
  max?: Millis;
}

export interface HealthCheckConfig {
  enabled?: boolean;
  /** Default: `/health`. */
  path?: string;
  /** Default: 30 s. */
  interval?: Millis;
  /** Less than `interval`. Default: 5 s. */
  timeout?: Millis;
  /** Failures in a row after which a worker is replaced. Default: 3. */
  unhealthyThreshold?: number;
}

export interface LogsConfig {
  /** `/dev/null` discards standard output. */
  outFile?: string;
  /** `/dev/null` discards standard error. */
  errFile?: string;
  /** What is written of each line; `off`: nothing. Default: `raw`. */
  mode?: 'raw' | 'timestamps' | 'json' | 'off';
  /** Whether all workers of the app write to one file. Default: false. */
  merge?: boolean;
  /** Size at which a file is rotated. Default: 10 MiB. */
  maxSize?: Bytes;
  /** Rotated files kept. Default: 5. */
  maxFiles?: number;
  /** When a file is rotated whatever its size; words by the local clock. Default: never. */
  rotateEvery?: 'hourly' | 'daily' | Millis;
  /** Age after which a rotated file is removed. Default: never. */
  maxAge?: Millis;
  /** What the rotated files of one stream may take on disk together. Default: no limit. */
  maxTotalSize?: Bytes;
  /** How rotated files are packed. Default: `none`. */
  compress?: 'none' | 'gzip' | 'zstd';
  /** What to do with output while the disk is full. Default: `block`. */
  onFull?: 'block' | 'evict' | 'drop';
  /** When written bytes are forced to the disk. Default: `never`. */
  fsync?: 'never' | 'rotated';
}

export interface MetricsConfig {
  /** Default: true. */
  enabled?: boolean;
  /** Default: 9615. */
  httpPort?: number;
  /** Whether the app appears in the Prometheus exposition. Default: false. */
  prometheus?: boolean;
  /** Default: 5 s. */
  collectInterval?: Millis;
  /** Whether the exposition also carries the names of the original. Default: true. */
  compatNames?: boolean;
}

export interface ClusteringConfig {
  enabled?: boolean;
  /** Who decides which worker gets the next connection. Default: `auto`. */
  strategy?: 'auto' | 'reusePort' | 'inherit' | 'proxy';
  /** In which way the next connection is given out. Default: `leastConnections`. */
  balance?: 'leastConnections' | 'roundRobin' | 'random';
  /** How much of all connections each instance is to get, in proportion to the others. */
  weights?: number[];
  rollingRestart?: {
    /** Workers a reload replaces at a time. Default: 1. */
    batchSize?: number;
    /** Rest between two batches. Default: 1 s. */
    batchDelay?: Millis;
  };
}

export interface DaemonConfig {
  pidFile?: string;
  socketFile?: string;
  logFile?: string;
}

/** Returns `config` as it is: it is there for editors, which then know the keys. */
export declare function defineConfig<T extends BunpilotConfig | AppConfig>(config: T): T;
