/** A task whose events are counted, as a process knows it. Redis may know more; then its version differs. */
import { FactCollector } from "../facts/fact.ts";
import { readBase36 } from "../facts/encoding.ts";
import type { TaskChange } from "../facts/task-changes.ts";
import type { TaskEntry } from "../facts/task-entry.ts";
import { TextCollector, fieldsOf } from "../facts/texts.ts";
import { type Contribution, NOTHING, readContribution } from "./contribution.ts";

export interface CountedTask extends TaskEntry {
  readonly facts: FactCollector;
  /** Empty if Redis does not know the task. */
  readonly version: string;
  /** What it contributes to the counts. */
  readonly contribution: Contribution;
  /** Whether its missing events are not waited for any longer. */
  readonly isFinalLook: boolean;
  /** Until when its events are forgotten, in microseconds; undefined if none are. */
  readonly past: number | undefined;
  /** When it expires in Redis, in milliseconds since the epoch; 0 if that is not known. */
  readonly expiresAt: number;
}

const NOTHING_FORGOTTEN: ReadonlyMap<string, number> = new Map();

export const UNKNOWN_TASK: CountedTask = {
  facts: new FactCollector(),
  texts: new Map(),
  size: 0,
  forgottenUntil: NOTHING_FORGOTTEN,
  version: "",
  contribution: NOTHING,
  isFinalLook: false,
  past: undefined,
  expiresAt: 0,
};

/** Reads a task from its hash: alternating fields and values. */
export function readCountedTask(hash: readonly string[]): CountedTask {
  const facts = new FactCollector();
  const texts = new TextCollector();
  const own = new Map<string, string>();
  let size = 0;
  for (let index = 0; index + 1 < hash.length; index += 2) {
    const field = hash[index] as string;
    const value = hash[index + 1] as string;
    if (field.length === 1) {
      own.set(field, value);
      continue;
    }
    size += 1;
    if (field[0] === "n") texts.add(field, value);
    else facts.add(field, value);
  }
  const past = own.get("p");
  return {
    facts,
    texts: texts.all(),
    size,
    forgottenUntil: NOTHING_FORGOTTEN,
    version: own.get("v") ?? "",
    contribution: readContribution(own.get("x") ?? ""),
    isFinalLook: own.has("d"),
    past: past === undefined ? undefined : readBase36(past, 0),
    expiresAt: 0,
  };
}

export interface Merged {
  readonly task: CountedTask;
  /** Alternating fields and values that are new. The caller may add to it. */
  readonly added: string[];
}

/** Adds what a batch contains of it. Does not change `task`. */
export function merge(task: CountedTask, { facts, details, texts }: TaskChange): Merged {
  const added: string[] = [];
  const { past } = task;
  const collected = new FactCollector(task.facts);
  for (let index = 0; index < facts.length; index += 1) {
    const fact = facts[index] as string;
    if (task.facts.has(fact) || (past !== undefined && readBase36(fact, 1) <= past)) continue;
    const value = details[index] ?? "";
    added.push(fact, value);
    collected.add(fact, value);
  }
  let ownTexts: Map<string, string> | undefined;
  for (const { key, fields } of texts) {
    if ((ownTexts ?? task.texts).has(key)) continue;
    added.push(...fields);
    ownTexts ??= new Map(task.texts);
    ownTexts.set(key, fields.length === 2 ? (fields[1] ?? "") : fields.filter((_, index) => index % 2 === 1).join(""));
  }
  if (added.length === 0) return { task, added };
  return { task: { ...task, facts: collected, texts: ownTexts ?? task.texts, size: task.size + added.length / 2 }, added };
}

/** The latest facts of a task with very many, and the texts that they refer to. */
export interface KeptPart {
  readonly task: CountedTask;
  readonly removed: readonly string[];
}

/** Fields from which a task is long, and how many of its latest facts are then kept at least. */
const LONG = 128;
const KEPT = 64;
/** By how much its events may come late without being ignored, in microseconds, unless it has so many fields that it is full. */
const LATE_WITHIN = 60e6;
const FULL = 1_024;

/**
 * What to keep of a task that has become long; undefined if that is too little less. The other events are counted for good, and whatever comes from their
 * time is ignored.
 */
export function keptPart(task: CountedTask): KeptPart | undefined {
  if (task.size <= LONG) return undefined;
  const { sent, received, started, finals, repeats } = task.facts;
  const facts = [...sent, ...received, ...started, ...finals, ...repeats];
  const instants = facts.map(({ at }) => at).toSorted((a, b) => b - a);
  const [latest = 0] = instants;
  const [last = 0] = instants.slice(KEPT);
  const past = task.size > FULL ? last : Math.min(last, latest - LATE_WITHIN);
  // In large steps, because each costs another look.
  if (instants.filter((at) => at <= past).length < KEPT) return undefined;
  const removed = facts.filter(({ at }) => at <= past).map(({ field }) => field);
  const used = new Set(
    [...sent, ...received].filter(({ at }) => at > past).flatMap((fact) => ("queue" in fact ? [fact.name, fact.queue] : [fact.name])),
  );
  for (const [key, text] of task.texts) if (!used.has(key)) removed.push(...fieldsOf(text));
  const isKept = ({ at }: { readonly at: number }): boolean => at > past;
  const kept = new FactCollector({
    sent: sent.filter(isKept),
    received: received.filter(isKept),
    started: started.filter(isKept),
    finals: finals.filter(isKept),
    repeats: repeats.filter(isKept),
  });
  const texts = new Map([...task.texts].filter(([key]) => used.has(key)));
  return { task: { ...task, facts: kept, texts, size: task.size - removed.length, past }, removed };
}
