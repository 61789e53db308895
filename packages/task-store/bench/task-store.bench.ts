import { bench, describe } from "vitest";
import { readCorpus } from "@celery-metrics-exporter/celery/testing";
import { summarise } from "../src/completions/summarise.ts";
import { collectChanges } from "../src/facts/task-changes.ts";
import { parseTaskEntry } from "../src/facts/task-entry.ts";

const OPTIONS = { keepWorker: false, keepException: false };
const { events } = readCorpus("celery-5.6-amqp");
/** What Redis holds of a task once it has all its facts. */
const entries = [...collectChanges(events, OPTIONS).values()].map(({ facts, texts }) => [
  ...texts.flatMap(({ fields }) => fields),
  ...facts.flatMap((fact) => [fact, ""]),
]);

describe("the Store", () => {
  bench(`merge: ${events.length} events into ${entries.length} tasks`, () => void collectChanges(events, OPTIONS));
  bench(`read: ${entries.length} tasks`, () => {
    for (const entry of entries) parseTaskEntry(entry);
  });
  const parsed = entries.map((entry) => parseTaskEntry(entry));
  bench(`summarise: ${parsed.length} tasks`, () => {
    for (const entry of parsed) summarise(entry);
  });
});
