/** Tells the manager that this worker serves. */
export declare function bunpilotReady(): void;

/**
 * Runs `handler` when the manager, SIGTERM or SIGINT ends this worker, then exits with 0.
 *
 * Several handlers run side by side. If one fails the exit status is 1.
 */
export declare function bunpilotOnShutdown(handler: () => void | Promise<void>): void;

/** Calls `handler` with the app's new configuration whenever it changes. */
export declare function bunpilotOnConfigUpdate(handler: (config: unknown) => void): void;

/**
 * Reports memory, CPU time and event-loop lag to the manager.
 *
 * @param interval milliseconds between two reports, 5000 if left out
 */
export declare function bunpilotStartMetrics(interval?: number): void;

/**
 * Says that the event loop turns. From the first time on a worker that stops saying so is taken
 * for hung and replaced.
 *
 * @param interval milliseconds between two heartbeats, 10000 if left out
 */
export declare function bunpilotHeartbeat(interval?: number): void;

/** Sends `data`, anything JSON can hold, on a channel of your own. */
export declare function bunpilotSend(channel: string, data: unknown): void;
