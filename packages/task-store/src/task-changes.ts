/**
 * What a batch of events adds to each task: the same merge that the script does in Redis, done in memory first, so that a batch with several
 * events of a task is one change of it. Both follow the same rules, so it makes no difference where two events meet.
 */
import { compareBytes, isTaskEvent, type CeleryEvent, type TaskEvent } from "@celery-metrics-exporter/events";
import { betterDescription, descriptionOf, type Description } from "./description.ts";
import { factOf } from "./fact-of-event.ts";
import type { FactOptions } from "./fact.ts";

/** Facts kept of each kind: those of the last attempts. */
export const KEPT_PER_KIND = 16;
/** More are cut down before the next comes: a task may have thousands of attempts in one batch, and each fact is looked for among the others. */
const MOST_FACTS = 128;

/** What to add to one task. */
export interface TaskChange {
  /** Each once. */
  readonly facts: readonly string[];
  readonly description: Description | undefined;
  /** The latest ETA in seconds since the epoch, rounded up; 0 for none. The entry must outlive it. */
  readonly etaSeconds: number;
}

interface MutableChange extends TaskChange {
  facts: string[];
  description: Description | undefined;
  etaSeconds: number;
}

/** Merges events by task id. Events that say nothing about a task, or nothing the Store needs, leave no trace. */
export function collectChanges(events: readonly CeleryEvent[], options: FactOptions): Map<string, TaskChange> {
  const changes = new Map<string, MutableChange>();
  for (const event of events) {
    if (!isTaskEvent(event)) continue;
    const fact = factOf(event, options);
    if (fact === undefined) continue;
    let change = changes.get(event.uuid);
    if (change === undefined) {
      change = { facts: [], description: undefined, etaSeconds: 0 };
      changes.set(event.uuid, change);
    }
    add(change, fact);
    change.description = betterDescription(change.description, descriptionOf(event));
    change.etaSeconds = Math.max(change.etaSeconds, etaOf(event));
  }
  for (const change of changes.values()) {
    if (change.facts.length > KEPT_PER_KIND) change.facts = latestOfEachKind(change.facts);
  }
  return changes;
}

function add(change: MutableChange, fact: string): void {
  if (change.facts.includes(fact)) return;
  if (change.facts.length === MOST_FACTS) change.facts = latestOfEachKind(change.facts);
  change.facts.push(fact);
}

function etaOf(event: TaskEvent): number {
  const eta = event.type === "task-sent" || event.type === "task-received" ? event.eta : undefined;
  return eta === undefined || eta <= 0 ? 0 : Math.ceil(eta);
}

/** The 16 latest facts of each kind. Cutting a set down to its greatest elements commutes with union, so it can be done at any time. */
function latestOfEachKind(facts: readonly string[]): string[] {
  const kinds = new Map<string, string[]>();
  for (const fact of facts) {
    const kind = fact.charAt(0);
    const others = kinds.get(kind);
    if (others === undefined) kinds.set(kind, [fact]);
    else others.push(fact);
  }
  return [...kinds.values()].flatMap((kind) => kind.sort(laterFirst).slice(0, KEPT_PER_KIND));
}

/** By instant, then by bytes. Instants are base 36 without leading zeros: the longer is the later, and of one length the greater by bytes. */
function laterFirst(a: string, b: string): number {
  return instantLength(b) - instantLength(a) || compareBytes(b, a);
}

function instantLength(fact: string): number {
  const end = fact.search(/[.|]/);
  return end === -1 ? fact.length : end;
}
