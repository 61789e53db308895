/** Filters by event type, task name and queue: their settings, and the pure decision on one event. */
import type { CeleryEvent } from "@celery-metrics-exporter/events";
import { list } from "@celery-metrics-exporter/runtime";
import picomatch from "picomatch";
import { z } from "zod";

const GLOBS = "Comma-separated globs (`*`, `?`, `[abc]`).";

export const FilterConfig = z.object({
  FILTER_EVENT_TYPES_INCLUDE: list().describe(`Only events of these types are passed on. ${GLOBS} Empty: all.`),
  FILTER_EVENT_TYPES_EXCLUDE: list().describe(`Events of these types are dropped. ${GLOBS}`),
  FILTER_TASK_NAMES_INCLUDE: list().describe(`Only tasks of these names are kept. ${GLOBS} Empty: all.`),
  FILTER_TASK_NAMES_EXCLUDE: list().describe(`Tasks of these names are dropped. ${GLOBS}`),
  FILTER_QUEUES_INCLUDE: list().describe(
    `Only tasks sent to these queues are kept. ${GLOBS} Empty: all. Only \`task-sent\` tells the queue: a task without one is kept.`,
  ),
  FILTER_QUEUES_EXCLUDE: list().describe(
    `Tasks sent to these queues are dropped. ${GLOBS} Only \`task-sent\` tells the queue: a task without one is kept.`,
  ),
});
export type FilterConfig = z.output<typeof FilterConfig>;

type Matcher = (text: string) => boolean;

/** Decides by what an event itself tells. Most events tell neither name nor queue: see `BatchFilter` for those. */
export class EventFilter {
  /** Whether a filter by name or queue is set, so that excluded tasks have to be remembered. */
  readonly filtersTasks: boolean;
  readonly #type: Matcher;
  readonly #name: Matcher;
  readonly #queue: Matcher;

  constructor(config: FilterConfig) {
    this.#type = matcher(config.FILTER_EVENT_TYPES_INCLUDE, config.FILTER_EVENT_TYPES_EXCLUDE);
    this.#name = matcher(config.FILTER_TASK_NAMES_INCLUDE, config.FILTER_TASK_NAMES_EXCLUDE);
    this.#queue = matcher(config.FILTER_QUEUES_INCLUDE, config.FILTER_QUEUES_EXCLUDE);
    this.filtersTasks = [
      config.FILTER_TASK_NAMES_INCLUDE,
      config.FILTER_TASK_NAMES_EXCLUDE,
      config.FILTER_QUEUES_INCLUDE,
      config.FILTER_QUEUES_EXCLUDE,
    ].some((globs) => globs.length > 0);
  }

  /** Whether events of this type are wanted. */
  takesType(type: string): boolean {
    return this.#type(type);
  }

  /** Whether the event names its task or queue, and that is not wanted: none of the task's events are. */
  excludesTask(event: CeleryEvent): boolean {
    const { name, queue } = event as { readonly name?: string; readonly queue?: string };
    return (name !== undefined && !this.#name(name)) || (queue !== undefined && !this.#queue(queue));
  }
}

function matcher(include: readonly string[], exclude: readonly string[]): Matcher {
  const included = anyGlob(include);
  const excluded = anyGlob(exclude);
  return (text) => (include.length === 0 || included(text)) && !excluded(text);
}

/** Names and queues are no paths: `*` matches dots and slashes alike (`bash`), and `!` and `./` in front mean nothing. */
function anyGlob(patterns: readonly string[]): Matcher {
  if (patterns.length === 0) return () => false;
  return picomatch([...patterns], { bash: true, dot: true, nonegate: true });
}
