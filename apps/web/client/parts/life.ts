/** The parts of the life of a task: held back, waited, ran, backed off, ran again. */
import { exactMs } from "../api/exact.ts";
import type { TaskAnswer, TreeTask } from "../api/types.ts";
import { beginOf } from "./chord.ts";
import { duration } from "./format.ts";

/** `held`: until its ETA. `between`: from the end of an attempt to the start of the next one. */
export type Kind = "held" | "waited" | "between" | "ran" | "succeeded" | "failed";

/** Times in milliseconds since 1970. */
export interface Part {
  readonly kind: Kind;
  readonly from: number;
  readonly to: number;
}

/** Shorter parts are the error of sums. */
const LEAST_MS = 0.01;

/**
 * From when it was sent to its first start, or to when it ended without one. What is not waiting time was before its ETA.
 *
 * @param waitTime null if it is not known, or while it has not started.
 */
function untilStart(begin: number, start: number, { wait_time: waitTime, eta }: Pick<TreeTask, "wait_time" | "eta">): Part[] {
  const waitsFrom = waitTime !== null ? start - waitTime * 1_000 : eta === null ? begin : Math.min(start, exactMs(eta));
  if (waitsFrom - begin <= LEAST_MS) return [{ kind: "waited", from: begin, to: start }];
  const held: Part = { kind: "held", from: begin, to: waitsFrom };
  return waitTime === null && waitsFrom === start ? [held] : [held, { kind: "waited", from: waitsFrom, to: start }];
}

/** From the first attempt to the last. @param now called only for what is not over. */
export function partsOf(
  { sent_at, eta, wait_time, attempts }: Pick<TaskAnswer, "sent_at" | "eta" | "wait_time" | "attempts">,
  now: () => number,
): Part[] {
  const parts: Part[] = [];
  let at = sent_at === null ? undefined : exactMs(sent_at);
  for (const { number: count, received_at, started_at, ended_at, outcome } of attempts) {
    const start = started_at === null ? undefined : exactMs(started_at);
    const end = ended_at === null ? (outcome === "running" ? now() : undefined) : exactMs(ended_at);
    const begin = at ?? (received_at === null ? start : exactMs(received_at));
    const waitedTo = start ?? end ?? (outcome === "waiting" ? now() : undefined);
    if (begin !== undefined && waitedTo !== undefined) {
      if (count > 1) parts.push({ kind: "between", from: begin, to: waitedTo });
      else parts.push(...untilStart(begin, waitedTo, { eta, wait_time: start === undefined ? null : wait_time }));
    }
    if (start !== undefined && end !== undefined) {
      const kind = outcome === "failure" || outcome === "lost" ? "failed" : outcome === "success" ? "succeeded" : "ran";
      parts.push({ kind, from: start, to: end });
    }
    at = end ?? start ?? at;
  }
  return parts;
}

/** When nothing more happened to a task of a tree, as far as is known. */
export function endOf(task: TreeTask, now: () => number): number {
  if (task.finished_at !== null) return exactMs(task.finished_at);
  return /^(?:STARTED|RETRY)$/.test(task.status) ? now() : beginOf(task);
}

/** Of a task of a tree, of which only the first start, the end and the last run are known. */
export function partsOfNode(task: TreeTask, now: () => number): Part[] {
  const { status, started_at, retries, duration: ran } = task;
  const [begin, end] = [beginOf(task), endOf(task, now)];
  if (started_at === null) return untilStart(begin, end, task);
  const start = exactMs(started_at);
  const before = untilStart(begin, start, task);
  if (status === "RETRY") return [...before, { kind: "between", from: start, to: end }];
  const kind = status === "FAILURE" ? "failed" : status === "SUCCESS" ? "succeeded" : "ran";
  const run = retries !== null && retries > 0 && ran !== null ? Math.max(start, end - ran * 1_000) : start;
  const earlier: Part[] = run - start > LEAST_MS ? [{ kind: "between", from: start, to: run }] : [];
  return [...before, ...earlier, { kind, from: run, to: end }];
}

const WORDS: readonly (readonly [word: string, kinds: readonly Kind[]])[] = [
  ["held back until its ETA", ["held"]],
  ["waited", ["waited"]],
  ["between attempts", ["between"]],
  ["ran", ["ran", "succeeded", "failed"]],
];

/** Such as "waited 1.3 s, ran 10 s". */
export function sumsOf(parts: readonly Part[]): string {
  return WORDS.flatMap(([word, kinds]) => {
    const own = parts.filter(({ kind }) => kinds.includes(kind));
    const length = own.reduce((sum, { from, to }) => sum + Math.max(0, to - from), 0);
    return own.length === 0 ? [] : [`${word} ${duration(length / 1_000)}`];
  }).join(", ");
}

/** The whole life as a sentence, such as "11 s: waited 1.3 s, ran 10 s"; undefined if nothing is known of it. */
export function lifeOf(parts: readonly Part[]): string | undefined {
  const [first, last] = [parts[0], parts.at(-1)];
  return first === undefined || last === undefined ? undefined : `${duration(Math.max(0, last.to - first.from) / 1_000)}: ${sumsOf(parts)}`;
}
