/** Passes observations to `observe`. */
import type { Observation } from "@celery-metrics-exporter/celery";
import { PermanentError, UnavailableError } from "@celery-metrics-exporter/runtime";
import { tryUntilDecided, type Attempt } from "../deliver/tries.ts";
import type { Host } from "./host.ts";

/** A single slow try may be an accident. */
const MOST_TIMEOUTS = 3;

/**
 * Resolves when the exporter has taken the observations, or has refused them so often that they are dropped and counted. They are never dead
 * letters and never held, because the next ones replace them.
 *
 * @param step runs each try. It does not count as a try of the batch, because it is no evidence about events.
 * @throws {GivenBack} if the process exits first.
 */
export async function deliverObservations(host: Host, observations: readonly Observation[], step: Attempt): Promise<void> {
  const { exporter, metrics, rules } = host;
  if (observations.length === 0) return;
  if (exporter.observe === undefined) return metrics.droppedObservations(observations.length);
  const send = (): Promise<void> => step(() => sendOnce(host, observations));
  const failure = await tryUntilDecided(send, rules, { errors: rules.maxTries, timeouts: MOST_TIMEOUTS });
  if (failure === undefined) return;
  metrics.droppedObservations(observations.length);
  // Other failures are reported already. A refusal is a bug too: it is not the data of users.
  if (failure.reason === "refused") rules.onError(failure.error);
}

/** Reports whether the sink is available. */
async function sendOnce({ exporter, metrics, rules }: Host, observations: readonly Observation[]): Promise<void> {
  const { drain, onServed, onUnavailable } = rules;
  try {
    await metrics.time("observe", async () => exporter.observe?.(observations, drain.overdue));
    onServed();
  } catch (thrown) {
    if (thrown instanceof UnavailableError) onUnavailable(thrown);
    if (thrown instanceof PermanentError && !drain.overdue.aborted) onServed();
    throw thrown;
  }
}
