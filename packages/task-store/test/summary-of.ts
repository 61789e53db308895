import type { TaskEvent } from "@celery-metrics-exporter/celery";
import { summarise, type Summary } from "../src/completions/summarise.ts";
import { collectChanges } from "../src/facts/task-changes.ts";
import { parseTaskEntry, type TaskEntry } from "../src/facts/task-entry.ts";
import { expectedHash, withMarks } from "./expected-hash.ts";

/** Summarises these events of one task. Those in `sent` count as reported. */
export function summaryOf(events: readonly TaskEvent[], sent: readonly TaskEvent[] = []): Summary {
  return summarise(entryOf(events, sent));
}

/** The entry that these events of one task leave; those in `sent` count as sent. */
export function entryOf(events: readonly TaskEvent[], sent: readonly TaskEvent[] = []): TaskEntry {
  const options = { keepWorker: false, keepException: false };
  const hash = new Map([...collectChanges([...events, ...sent], options).values()].flatMap((change) => [...expectedHash(change)]));
  const reported = new Set([...collectChanges(sent, options).values()].flatMap(({ facts }) => facts));
  return parseTaskEntry(reported.size === 0 ? [...hash].flat() : [...withMarks(hash, reported)].flat());
}
