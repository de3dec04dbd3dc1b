// One copy of the state, whether a worker imports or requires it.
import worker from './worker.cjs';

export const {
  bunpilotReady,
  bunpilotOnShutdown,
  bunpilotOnConfigUpdate,
  bunpilotStartMetrics,
  bunpilotHeartbeat,
  bunpilotSend,
} = worker;
