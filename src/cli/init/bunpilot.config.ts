// bunpilot reads this file by itself: `bunpilot start`. `bunpilot config check` shows what it means,
// `bunpilot config schema` lists every key. Durations are milliseconds or text like '30s'.

export default {
  apps: [
    {
      name: 'my-app',
      script: './server.mjs',
      port: 3000,

      // More workers share the port; 'max' is one per CPU.
      instances: 1,

      env: {
        NODE_ENV: 'production',
      },

      // Added by `bunpilot start --env staging`.
      // envs: { staging: { NODE_ENV: 'staging' } },

      // Replace a worker that answers badly three times in a row.
      // healthCheck: { path: '/health', interval: '30s', timeout: '5s', unhealthyThreshold: 3 },

      // After 15 crashes in 15 minutes, give up.
      maxRestarts: 15,
      maxRestartWindow: '15m',
      backoff: { initial: '1s', multiplier: 2, max: '30s' },

      // How a worker is asked to leave, and how long it may take.
      shutdownSignal: 'SIGTERM',
      killTimeout: '5s',

      // logs: { mode: 'timestamps', merge: true, rotateEvery: 'daily', maxFiles: 14, compress: 'zstd' },
      // metrics: { prometheus: true, httpPort: 9615 },
      // clustering: { strategy: 'reusePort', rollingRestart: { batchSize: 1, batchDelay: '1s' } },
    },
  ],
};
