/** Why a task was revoked, in words to filter and group by. */
import type { TaskRevoked } from "@celery-metrics-exporter/events";

/** Linux's numbers, as Celery sends them. */
const SIGNALS: ReadonlyMap<string, string> = new Map([
  ["1", "SIGHUP"],
  ["2", "SIGINT"],
  ["3", "SIGQUIT"],
  ["6", "SIGABRT"],
  ["9", "SIGKILL"],
  ["10", "SIGUSR1"],
  ["12", "SIGUSR2"],
  ["14", "SIGALRM"],
  ["15", "SIGTERM"],
]);

/**
 * - `expired`: its time to start was over.
 * - `terminated (SIGTERM)`: it ran, and its process got a signal. `terminated` where none is known; what is no signal of ours as Celery sent it.
 * - `request`: somebody revoked it before it ran.
 *
 * Undefined where the event does not say.
 */
export function revokedBy({ terminated, expired, signum }: TaskRevoked): string | undefined {
  if (terminated === true) return signum === undefined ? "terminated" : `terminated (${SIGNALS.get(signum) ?? signum})`;
  if (expired === true) return "expired";
  return terminated === false || expired === false ? "request" : undefined;
}
