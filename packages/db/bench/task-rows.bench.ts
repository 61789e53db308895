import { bench, describe } from "vitest";
import { readCorpus } from "@celery-metrics-exporter/celery/testing";
import { toTaskRows } from "../src/merge/upsert.ts";

const { events } = readCorpus("celery-5.6-amqp");
const rows = toTaskRows(events);

describe("rows", () => {
  bench(`merge: ${events.length} events into ${rows.length} rows`, () => void toTaskRows(events));
  bench(`write: ${rows.length} rows as the statement's parameter`, () => void JSON.stringify(rows));
});
