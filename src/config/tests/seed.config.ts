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
        interval: 10_000,
        timeout: 5_000,
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

  daemon: {
    pidFile: './bunpilot.pid',
    socketFile: './bunpilot.sock',
    logFile: './logs/bunpilot-daemon.log',
  },
};

export default config;
