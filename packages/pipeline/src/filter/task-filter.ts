/** Filters by event type, task name and queue: their settings, and the pure decision on one event. */
import { type CeleryEvent, type EventType, TASK_EVENT_TYPES, type TaskReceived, type TaskSent } from "@celery-metrics-exporter/celery";
import { list, nearest } from "@celery-metrics-exporter/runtime";
import picomatch from "picomatch";
import { z } from "zod";

const GLOBS = "Comma-separated globs (`*`, `?`, `[abc]`).";

function eventTypes({ isInclude }: { readonly isInclude: boolean }): ReturnType<typeof list> {
  return list().superRefine((patterns, context) => {
    const message = eventTypeProblem(patterns, { isInclude, matches: (pattern, type) => anyGlob([pattern])(type) });
    if (message !== undefined) context.addIssue({ code: "custom", message });
  });
}

const TYPES = "Types of your own custom events are allowed, but a misspelt type of Celery, such as `succeeded`, is an error.";
const QUEUES = "Only `task-sent` contains the queue, so a task without `task-sent` is kept.";
const ATTEMPTS =
  "Each attempt of a retried or replaced task is checked by its own name and queue. The task is dropped if all its attempts are excluded. Otherwise all of its events are kept, but metrics leave the excluded attempts out.";

export const FilterConfig = z.object({
  FILTER_EVENT_TYPES_INCLUDE: eventTypes({ isInclude: true }).describe(
    `Only events of these types are passed on. ${GLOBS} Empty: all. Names, queues and times come from \`task-sent\`, \`task-received\` and \`task-started\`: without these types, Datadog's metrics arrive a minute late and without names. ${TYPES} A list that includes none of Celery's types is an error too.`,
  ),
  FILTER_EVENT_TYPES_EXCLUDE: eventTypes({ isInclude: false }).describe(`Events of these types are dropped. ${GLOBS} ${TYPES}`),
  FILTER_TASK_NAMES_INCLUDE: list().describe(`Only tasks with these names are kept. ${GLOBS} Empty: all. ${ATTEMPTS}`),
  FILTER_TASK_NAMES_EXCLUDE: list().describe(`Tasks with these names are dropped. ${GLOBS} ${ATTEMPTS}`),
  FILTER_QUEUES_INCLUDE: list().describe(`Only tasks sent to these Celery queues are kept. ${GLOBS} Empty: all. ${QUEUES} ${ATTEMPTS}`),
  FILTER_QUEUES_EXCLUDE: list().describe(`Tasks sent to these Celery queues are dropped. ${GLOBS} ${QUEUES} ${ATTEMPTS}`),
});
export type FilterConfig = z.output<typeof FilterConfig>;

type Matcher = (text: string) => boolean;

/** The events that carry a name; only the first carries the queue. */
export type Description = TaskSent | TaskReceived;

export function isDescription(event: CeleryEvent): event is Description {
  return event.type === "task-sent" || event.type === "task-received";
}

/** What a description's own name and queue decide about its attempt; undefined if it has neither. */
export type Verdict = "excluded" | "included" | undefined;

/** Decides by what an event itself carries. Most events carry neither name nor queue: `BatchFilter` handles those. */
export class EventFilter {
  /** Whether a filter by type is set. */
  readonly filtersTypes: boolean;
  /** Whether a filter by name or queue is set, so that attempts must be remembered. */
  readonly filtersTasks: boolean;
  /** Whether a filter by queue is set. Only `task-sent` carries the queue. */
  readonly filtersQueues: boolean;
  readonly #type: Matcher;
  readonly #name: Matcher;
  readonly #queue: Matcher;

  constructor(config: FilterConfig) {
    this.#type = matcher(config.FILTER_EVENT_TYPES_INCLUDE, config.FILTER_EVENT_TYPES_EXCLUDE);
    this.#name = matcher(config.FILTER_TASK_NAMES_INCLUDE, config.FILTER_TASK_NAMES_EXCLUDE);
    this.#queue = matcher(config.FILTER_QUEUES_INCLUDE, config.FILTER_QUEUES_EXCLUDE);
    this.filtersTypes = config.FILTER_EVENT_TYPES_INCLUDE.length > 0 || config.FILTER_EVENT_TYPES_EXCLUDE.length > 0;
    this.filtersQueues = config.FILTER_QUEUES_INCLUDE.length > 0 || config.FILTER_QUEUES_EXCLUDE.length > 0;
    this.filtersTasks = this.filtersQueues || config.FILTER_TASK_NAMES_INCLUDE.length > 0 || config.FILTER_TASK_NAMES_EXCLUDE.length > 0;
  }

  /** Whether events of this type are wanted. */
  takesType(type: string): boolean {
    return this.#type(type);
  }

  /** Judges the attempt that an event describes, by this event alone. */
  verdictOn(event: CeleryEvent): Verdict {
    if (!isDescription(event)) return undefined;
    const { name, queue } = event as { readonly name?: string; readonly queue?: string };
    if (name === undefined && queue === undefined) return undefined;
    if (name !== undefined && !this.#name(name)) return "excluded";
    return queue !== undefined && !this.#queue(queue) ? "excluded" : "included";
  }
}

function matcher(include: readonly string[], exclude: readonly string[]): Matcher {
  const included = anyGlob(include);
  const excluded = anyGlob(exclude);
  return (text) => (include.length === 0 || included(text)) && !excluded(text);
}

/** Names and queues are not paths: `*` also matches dots and slashes (`bash`), and a leading `!` or `./` has no meaning. */
function anyGlob(patterns: readonly string[]): Matcher {
  if (patterns.length === 0) return () => false;
  return picomatch([...patterns], { bash: true, dot: true, nonegate: true });
}

// Detects filters by event type that cannot be intended, or that lose more than they seem to.

const KNOWN: readonly EventType[] = [...TASK_EVENT_TYPES, "worker-online", "worker-heartbeat", "worker-offline"];

/** Celery's states, which are often mistaken for event types. */
const OF_STATE: Readonly<Record<string, EventType>> = {
  pending: "task-sent",
  success: "task-succeeded",
  failure: "task-failed",
  retry: "task-retried",
};

/**
 * Describes what is wrong with a filter; undefined if nothing is. Types of users' own events can be anything, so an unknown type is invalid
 * only if it is one of Celery's in another spelling. An include list without any of Celery's types would let nothing through.
 *
 * @param matches whether a type matches one of the patterns.
 */
function eventTypeProblem(
  patterns: readonly string[],
  { isInclude, matches }: { readonly isInclude: boolean; readonly matches: (pattern: string, type: string) => boolean },
): string | undefined {
  const isKnown = (pattern: string): boolean => KNOWN.some((type) => matches(pattern, type));
  for (const pattern of patterns) {
    if (isKnown(pattern)) continue;
    if (/\s/.test(pattern)) return `${JSON.stringify(pattern)} contains a blank: separate event types with commas`;
    const meant = spellings(pattern).find((spelling) => isKnown(spelling));
    if (meant !== undefined) return `${pattern} is not an event type of Celery; did you mean ${meant}?`;
  }
  if (!isInclude) {
    const dropsAll = TASK_EVENT_TYPES.every((type) => patterns.some((pattern) => matches(pattern, type)));
    return dropsAll ? `${patterns.join(",")} drops every event of a task: nothing would be exported` : undefined;
  }
  if (patterns.length === 0 || patterns.some((pattern) => isKnown(pattern))) return undefined;
  return `${patterns.join(",")} includes no event type of Celery; did you mean ${nearest(patterns[0] ?? "", KNOWN)}? Known: ${KNOWN.join(", ")}`;
}

/** What only these events of a task carry. */
const TOLD_BY: readonly { readonly types: readonly EventType[]; readonly what: string }[] = [
  { types: ["task-sent", "task-received"], what: "the names of tasks and their waiting times" },
  { types: ["task-sent"], what: "queues, and waiting times from sending" },
  { types: ["task-started"], what: "waiting times, and how long failed tasks ran" },
];

/** One sentence for each thing that exporters will not know of finished tasks, because the filter drops the events that carry it. */
export function eventTypeWarnings(config: FilterConfig): string[] {
  const filter = new EventFilter(config);
  const takes = (type: string): boolean => filter.takesType(type);
  if (!takes("task-succeeded") && !takes("task-failed")) return [];
  return TOLD_BY.filter(({ types }) => !types.some((type) => takes(type))).map(
    ({ types, what }) => `the filters by event type drop ${types.join(" and ")}, so these are not known: ${what}`,
  );
}

/** Possible spellings in Celery's style: lower case, with hyphens, and prefixed with `task-` or `worker-`. */
function spellings(pattern: string): string[] {
  const plain = pattern.toLowerCase().replaceAll(/[_.:]/g, "-");
  return [
    plain,
    Object.hasOwn(OF_STATE, plain) ? (OF_STATE[plain] ?? plain) : plain,
    `task-${plain}`,
    `worker-${plain}`,
    plain.replace(/^tasks-/, "task-"),
  ];
}
