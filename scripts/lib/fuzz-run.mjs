/** The process that `scripts/fuzz.mjs` watches: makes frames, checks the results, and reports its progress. */
import { isDeepStrictEqual } from "node:util";
import { toTaskRows } from "../../packages/db/dist/merge/upsert.js";
import { Fuzzer } from "../../packages/celery/dist/testing/index.js";
import { decodeBatch, encodeBatch } from "../../packages/pipeline/dist/queue/batch.js";
import { collectChanges } from "../../packages/task-store/dist/facts/task-changes.js";

/** @typedef {readonly import("../../packages/celery/dist/index.js").CeleryEvent[]} Events */

const FRAMES_PER_TURN = 100;
const REPORT_MS = 1_000;
const FACT_OPTIONS = { keepWorker: true, keepException: true };

const [seed = 0, frames = 0] = process.argv.slice(2).map(Number);
const fuzzer = new Fuzzer(seed);
try {
  let reportedAt = 0;
  while (fuzzer.tally.frames < frames) {
    const end = Math.min(frames, fuzzer.tally.frames + FRAMES_PER_TURN);
    while (fuzzer.tally.frames < end) checkBehind(fuzzer.next());
    if (end < frames && performance.now() - reportedAt < REPORT_MS) continue;
    await report();
    reportedAt = performance.now();
  }
} catch (error) {
  await report(error instanceof Error ? error.message : String(error));
}
process.disconnect();

/**
 * Converts the events further: into the payload of a job, the rows of Postgres and the facts of the Store.
 *
 * @param {Events} events
 */
function checkBehind(events) {
  const batch = { broker: "redis", events };
  const payload = JSON.stringify(encodeBatch(batch));
  // JSON has no -0.
  if (!isDeepStrictEqual(decodeBatch(JSON.parse(payload)), JSON.parse(JSON.stringify(batch))))
    throw new Error(`not the same from a payload: ${payload}`);
  JSON.stringify(toTaskRows(events));
  collectChanges(events, FACT_OPTIONS);
}

/** @param {string} [failure] */
async function report(failure) {
  global.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  await new Promise((resolve) => process.send?.({ tally: fuzzer.tally, heapBytes: heapUsed + external, failure }, resolve));
}
