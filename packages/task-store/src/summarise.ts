/**
 * What there is to send of a task, from its facts alone.
 *
 * A task sends nothing before it has a completion (see `completions.ts`) that was not sent. With it go the waits of all its attempts that
 * were not sent (see `attempts.ts`): an attempt that is retried ends without a final.
 *
 * Events may still be on their way, in a batch that another process has or left behind when it was killed. So a summary says what it lacks:
 *
 *   name      no event told the task's name
 *   start     a completion that succeeded or failed has no start
 *   received  the wait of a start cannot be told
 *   certainty a final looks like a repeat of a completion that was sent, but the start that would tell it from a further run may come
 *
 * Whoever sends it decides how long to wait. A missing `task-sent` is no lack: many tasks have none.
 */
import { waitBefore, type Wait } from "./attempts.ts";
import { completionsOf, type Completion } from "./completions.ts";
import type { StartedFact } from "./fact.ts";
import type { TaskEntry } from "./task-entry.ts";

export type Lack = "name" | "start" | "received" | "certainty";

/** What to send of a task, and which facts then count as sent. */
export interface Summary {
  readonly name: string | undefined;
  readonly queue: string | undefined;
  readonly completions: readonly Completion[];
  readonly waits: readonly Wait[];
  /** The first thing that is missing, if any. */
  readonly lacks: Lack | undefined;
  /** The fields to mark as sent afterwards: identities, so that what arrives meanwhile stays unsent. */
  readonly fields: readonly string[];
}

export function summarise({ name, queue, facts }: TaskEntry): Summary {
  const completions: Completion[] = [];
  const waits: Wait[] = [];
  const fields: string[] = [];
  let repeats = false;
  for (const { completion, finals, sent } of completionsOf(facts)) {
    if (!sent) completions.push(completion);
    else if (finals.every((final) => final.sent)) continue;
    else repeats = true;
    for (const { field } of finals) fields.push(field);
  }
  if (completions.length === 0) return { name, queue, completions, waits, lacks: repeats ? "certainty" : undefined, fields };

  let lacksReceived = false;
  for (const twins of unsentStarts(facts.started)) {
    const wait = waitBefore(twins[0], facts);
    if (wait === undefined) lacksReceived = true;
    else waits.push(wait);
    for (const { field } of twins) fields.push(field);
  }
  const lacks = lackOf(name, completions, lacksReceived) ?? (repeats ? "certainty" : undefined);
  return { name, queue, completions, waits, lacks, fields };
}

function lackOf(name: string | undefined, completions: readonly Completion[], lacksReceived: boolean): Lack | undefined {
  if (name === undefined) return "name";
  if (completions.some(({ lacksStart }) => lacksStart)) return "start";
  return lacksReceived ? "received" : undefined;
}

/**
 * The starts whose waits were not sent, in order of time. Twins are one start, stored once with its worker's name and once without because
 * the setting for it changed: the one with the name stands.
 */
function unsentStarts(started: readonly StartedFact[]): [StartedFact, ...StartedFact[]][] {
  const [only, ...others] = started;
  if (only === undefined || others.length === 0) return only === undefined || only.sent ? [] : [[only]];
  const starts = new Map<string, [StartedFact, ...StartedFact[]]>();
  for (const start of started.toSorted((a, b) => a.at - b.at || (a.field < b.field ? 1 : -1))) {
    const twins = starts.get(`${start.at} ${start.host}`);
    if (twins === undefined) starts.set(`${start.at} ${start.host}`, [start]);
    else twins.push(start);
  }
  return [...starts.values()].filter((twins) => !twins.some(({ sent }) => sent));
}
