/** What Datadog was told of the tasks, as the sink received it. */
import { TaskCounts, type FinalState } from "./comparison.ts";
import type { DemoSettings } from "./demo-environment.ts";
import type { StatsdSink } from "./statsd-sink.ts";

const COUNTERS: Readonly<Record<FinalState, string>> = {
  SUCCESS: "task.success_count",
  FAILURE: "task.fail_count",
  REVOKED: "task.revoked_count",
  REJECTED: "task.rejected_count",
};

type Prefixes = Pick<DemoSettings, "metricPrefix" | "queuePrefix">;

/** The demo's own tasks: those of its queues. */
export function tasksInDatadog(sink: Pick<StatsdSink, "sums">, { metricPrefix, queuePrefix }: Prefixes): TaskCounts {
  const counts = new TaskCounts();
  for (const [state, counter] of Object.entries(COUNTERS) as [FinalState, string][]) {
    for (const { taskName, queue, sum } of sink.sums(metricPrefix + counter))
      if (queue.startsWith(queuePrefix)) counts.add(taskName, state, sum);
  }
  return counts;
}
