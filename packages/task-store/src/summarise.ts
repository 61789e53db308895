/**
 * What there is to send of a task, from its facts alone.
 *
 * A task sends nothing before it has a completion (see `completions.ts`) that was not sent. With it go the waits of all its attempts that
 * were not sent (see `attempts.ts`): an attempt that is retried ends without a final. Only a task with very many attempts sends the waits of
 * the past ones before it ends, so that its entry stays bounded (see `forget.ts`). Attempts that a filter excludes count as sent.
 *
 * Events may still be on their way, in a batch that another process has or left behind when it was killed. So a summary says what it lacks:
 *
 *   name       no event had the task's name
 *   start      a completion that succeeded or failed has no start, or fewer starts are known than runs succeeded
 *   received   the wait of a start is not known
 *   revocation a task failed because its process got a signal, and the `task-revoked` of a termination may come
 *   certainty  a final looks like a repeat of a completion that was sent, but the start that would tell it from a further run may come
 *
 * The sender decides how long to wait. A missing `task-sent` is no lack: many tasks have none.
 */
import { Attempts, type Wait } from "./attempts.ts";
import { completionsOf, type Completion } from "./completions.ts";
import type { StartedFact } from "./fact.ts";
import { NOTHING_TO_FORGET, isLong, toForget, type Forgotten } from "./forget.ts";
import type { TaskEntry } from "./task-entry.ts";

export type Lack = "name" | "start" | "received" | "revocation" | "certainty";

/** What sending a summary changes in the task's entry. */
export interface Settlement {
  /** The fields to mark as sent: identities, so that what arrives meanwhile stays unsent. */
  readonly fields: readonly string[];
  readonly forgotten: Forgotten;
}

/** What to send of a task, and what is to be noted once it was sent. */
export interface Summary extends Settlement {
  readonly completions: readonly Completion[];
  readonly waits: readonly Wait[];
  /** The first thing that is missing, if any. */
  readonly lacks: Lack | undefined;
}

/** The latest starts of a long task that has not ended wait for its end: events of theirs may still come. */
const KEPT_STARTS = 256;

export function summarise(entry: TaskEntry): Summary {
  const { facts } = entry;
  const attempts = new Attempts(entry);
  const completions: Completion[] = [];
  const fields: string[] = [];
  let repeats = false;
  let ended = false;
  for (const { completion, finals, sent } of completionsOf(facts, attempts)) {
    if (!sent) {
      ended = true;
      if (!completion.excluded) completions.push(completion);
    } else if (finals.every((final) => final.sent)) continue;
    else repeats = true;
    for (const { field } of finals) fields.push(field);
  }
  const certain = repeats ? "certainty" : undefined;
  if (!ended && !isLong(facts)) return { completions, waits: [], lacks: certain, fields, forgotten: NOTHING_TO_FORGET };

  const starts = unsentStarts(facts.started);
  const { waits, lacksReceived } = waitsOf(ended ? starts : starts.slice(0, -KEPT_STARTS), attempts, { fields, keepsUnknown: !ended });
  const lacks = ended ? (lackOf(completions, lacksReceived) ?? certain) : certain;
  return { completions, waits, lacks, fields, forgotten: toForget(facts, fields) };
}

type Twins = readonly [StartedFact, ...StartedFact[]];

/** @param options.fields get those of the starts; of one whose wait is not known only if the task does not keep it for later. */
function waitsOf(
  starts: readonly Twins[],
  attempts: Attempts,
  { fields, keepsUnknown }: { readonly fields: string[]; readonly keepsUnknown: boolean },
): { waits: Wait[]; lacksReceived: boolean } {
  const waits: Wait[] = [];
  let lacksReceived = false;
  for (const twins of starts) {
    const wait = attempts.waitBefore(twins[0]);
    if (wait === undefined) {
      lacksReceived = true;
      if (keepsUnknown) continue;
    } else if (!attempts.ofStart(twins[0]).excluded) waits.push(wait);
    for (const { field } of twins) fields.push(field);
  }
  return { waits, lacksReceived };
}

function lackOf(completions: readonly Completion[], lacksReceived: boolean): Lack | undefined {
  if (completions.some(({ name }) => name === undefined)) return "name";
  if (completions.some(({ lacksStart }) => lacksStart)) return "start";
  if (lacksReceived) return "received";
  return completions.some(({ lacksRevocation }) => lacksRevocation) ? "revocation" : undefined;
}

/**
 * The starts whose waits were not sent, in order of time. Twins are one start, stored once with its worker's name and once without because
 * the setting for it changed: the one with the name counts.
 */
function unsentStarts(started: readonly StartedFact[]): Twins[] {
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
