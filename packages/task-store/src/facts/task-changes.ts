/**
 * What a batch of events adds to each task. This is the same merge that the script does in Redis, done in memory first, so that several
 * events of a task in one batch become one change. Both follow the same rules, so it makes no difference where two events are merged.
 */
import { type CeleryEvent, type TaskEvent, isTaskEvent } from "@celery-metrics-exporter/celery";
import { type FactOptions, detailsOf, factOf } from "./fact.ts";
import { type StoredText, storedText } from "./texts.ts";

/** What to add to one task. */
export interface TaskChange {
  /** Without duplicates. */
  readonly facts: readonly string[];
  /** What the opt-in tags need from each fact, in the order of the facts; empty if they are off. */
  readonly details: readonly string[];
  /** Names and queues that the facts refer to, without duplicates. */
  readonly texts: readonly StoredText[];
  /** The latest ETA in seconds since the epoch, rounded up; 0 for none. The entry must not expire before it. */
  readonly etaSeconds: number;
}

interface MutableChange extends TaskChange {
  facts: string[];
  /** The facts, if there are many. */
  known: Set<string> | undefined;
  details: string[];
  texts: StoredText[];
  etaSeconds: number;
}

/** Merges events by task id. Ignores events that are not about a task, or contain nothing that the Store needs. */
export function collectChanges(events: readonly CeleryEvent[], options: FactOptions): Map<string, TaskChange> {
  const changes = new Map<string, MutableChange>();
  const hasDetails = options.keepWorker || options.keepException;
  for (const event of events) {
    if (!isTaskEvent(event)) continue;
    const fact = factOf(event, options);
    if (fact === undefined) continue;
    let change = changes.get(event.uuid);
    if (change === undefined) {
      change = { facts: [], known: undefined, details: [], texts: [], etaSeconds: 0 };
      changes.set(event.uuid, change);
    }
    if (isNew(change, fact)) {
      change.facts.push(fact);
      if (hasDetails) change.details.push(detailsOf(event, options));
    }
    if (event.type === "task-sent" || event.type === "task-received") describe(change, event);
  }
  return changes;
}

/** From so many facts on, a set is faster than the list. */
const MANY = 16;

function isNew(change: MutableChange, fact: string): boolean {
  if (change.facts.length < MANY) return !change.facts.includes(fact);
  change.known ??= new Set(change.facts);
  const { size } = change.known;
  return change.known.add(fact).size > size;
}

function describe(change: MutableChange, event: Extract<TaskEvent, { readonly type: "task-sent" | "task-received" }>): void {
  const { name, eta = 0 } = event;
  // Nothing is reported of an excluded attempt, so its texts are not needed.
  if (event.excluded !== true) {
    addText(change, name);
    if (event.type === "task-sent") addText(change, event.queue);
  }
  change.etaSeconds = Math.max(change.etaSeconds, Math.ceil(eta));
}

function addText({ texts }: MutableChange, text: string | undefined): void {
  if (text === undefined || text === "") return;
  const stored = storedText(text);
  if (!texts.includes(stored)) texts.push(stored);
}
