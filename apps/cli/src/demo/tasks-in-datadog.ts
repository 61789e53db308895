/** What Datadog was told of the tasks, as the sink received it. */
import { TaskCounts, type FinalState } from "./comparison.ts";
import type { StatsdSink } from "./statsd-sink.ts";

const COUNTERS: Readonly<Record<FinalState, string>> = {
  SUCCESS: "task.success_count",
  FAILURE: "task.fail_count",
  REVOKED: "task.revoked_count",
  REJECTED: "task.rejected_count",
};

/** @param prefix what every metric's name begins with. */
export function tasksInDatadog(sink: Pick<StatsdSink, "countsByTaskName">, prefix: string): TaskCounts {
  const counts = new TaskCounts();
  for (const [state, counter] of Object.entries(COUNTERS) as [FinalState, string][]) {
    for (const [name, tasks] of sink.countsByTaskName(prefix + counter)) counts.add(name, state, tasks);
  }
  return counts;
}
