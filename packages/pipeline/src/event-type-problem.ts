/** Filters by event type that cannot be meant, or cost more than they seem to. */
import { TASK_EVENT_TYPES, type EventType } from "@celery-metrics-exporter/events";
import { nearest } from "@celery-metrics-exporter/runtime";

const KNOWN: readonly EventType[] = [...TASK_EVENT_TYPES, "worker-online", "worker-heartbeat", "worker-offline"];

/** Celery's states, which are often taken for types. */
const OF_STATE: Readonly<Record<string, EventType>> = {
  pending: "task-sent",
  success: "task-succeeded",
  failure: "task-failed",
  retry: "task-retried",
};

/**
 * What is wrong with a filter; undefined if nothing is. Types of users' own events can be anything, so an unknown one is only refused if it is one
 * of Celery's written in another way. A list that includes none of Celery's types would let nothing through.
 *
 * @param matches whether a type matches one of the patterns.
 */
export function eventTypeProblem(
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

/** What only these events of a task tell. */
const TOLD_BY: readonly { readonly types: readonly EventType[]; readonly what: string }[] = [
  { types: ["task-sent", "task-received"], what: "the names of tasks and their waiting times" },
  { types: ["task-sent"], what: "queues, and waiting times from sending" },
  { types: ["task-started"], what: "waiting times, and how long failed tasks ran" },
];

/** What exporters will not know of tasks whose ends they are given, as the filter drops the events that tell it. One sentence for each. */
export function eventTypeWarnings(takes: (type: string) => boolean): string[] {
  if (!takes("task-succeeded") && !takes("task-failed")) return [];
  return TOLD_BY.filter(({ types }) => !types.some((type) => takes(type))).map(
    ({ types, what }) => `the filters by event type drop ${types.join(" and ")}, so these are not known: ${what}`,
  );
}

/** As Celery would write it: in lower case, with hyphens, and with what it is about in front. */
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
