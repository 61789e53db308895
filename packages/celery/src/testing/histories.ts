/**
 * Random task histories (fast-check), for rules that hold regardless of order, repetition and batching.
 *
 * They are nastier than Celery: two or three workers report on one task, clocks stand still, fields are missing, attempts overlap, a task fails
 * twice, and equal events differ in their fields.
 */
import * as fc from "fast-check";
import type { TaskEvent } from "../model/event.ts";
import {
  SENT_AT,
  taskFailed,
  taskReceived,
  taskRejected,
  taskRetried,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "./builders.ts";

const id = fc.constantFrom("task-a", "task-b", "task-c");
const worker = fc.constantFrom("w1@host-a", "w2@host-b", "w3@host-c");
const client = fc.constantFrom("gen1@client", "gen2@client");
/** A coarse clock, so that many events share an instant; some instants have microseconds. */
const instant = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 12 }).map((quarter) => SENT_AT + quarter / 4) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 3_000_000 }).map((microseconds) => Math.round(SENT_AT * 1e6 + microseconds) / 1e6) },
);
/** The exception of a run whose process was told to exit. */
const EXIT = "SystemExit(-241)";
const text = fc.constantFrom("", "1", "'a'", "'été ✓'", "(1, 2)", "{'k': None}", "x".repeat(80));

/** The description of a task in an event; each field may be missing. */
const told = {
  name: fc.constantFrom("shop.cart.total", "shop.mail.send", "shop.billing.charge.with.a.name.that.is.longer.than.sixty.four.characters"),
  args: text,
  kwargs: text,
  root_id: id,
  parent_id: fc.constantFrom("parent-1", "parent-2"),
  retries: fc.integer({ min: 0, max: 3 }),
  eta: instant,
  expires: instant,
};
const description = fc.record(told, { requiredKeys: [] });
const sentDescription = fc.record({ ...told, queue: fc.constantFrom("celery", "mail") }, { requiredKeys: [] });
const revocation = fc.record(
  { terminated: fc.boolean(), expired: fc.boolean(), signum: fc.constantFrom("15", "SIGKILL") },
  { requiredKeys: [] },
);
const rejection = fc.record({ requeue: fc.boolean() }, { requiredKeys: [] });
const failure = fc.record({ exception: fc.oneof(text, fc.constant(EXIT)), traceback: text }, { requiredKeys: [] });
const success = fc.record({ result: text, runtime: fc.double({ min: 0, max: 5, noNaN: true }) }, { requiredKeys: [] });

type Where = Readonly<{ uuid: string; hostname: string; timestamp: number }>;

function where(hostname: fc.Arbitrary<string>): fc.Arbitrary<Where> {
  return fc.record({ uuid: id, hostname, timestamp: instant });
}

function of<Fields>(
  fields: fc.Arbitrary<Fields>,
  build: (fields: Fields & Where) => TaskEvent,
  hostname: fc.Arbitrary<string> = worker,
): fc.Arbitrary<TaskEvent> {
  return fc.tuple(fields, where(hostname)).map(([own, common]) => build({ ...own, ...common }));
}

const nothing = fc.constant({});

/** One isolated event. Built without the builders' defaults, so that a field that is not drawn is missing. */
const looseEvent: fc.Arbitrary<TaskEvent> = fc.oneof(
  of(sentDescription, (fields) => ({ type: "task-sent", ...fields }), client),
  of(description, (fields) => ({ type: "task-received", ...fields })),
  of(nothing, (fields) => ({ type: "task-started", ...fields })),
  of(success, (fields) => ({ type: "task-succeeded", ...fields })),
  of(failure, (fields) => ({ type: "task-failed", ...fields, ...(fields.exception === EXIT && { exited: true }) })),
  of(failure, (fields) => ({ type: "task-retried", ...fields })),
  of(revocation, (fields) => ({ type: "task-revoked", ...fields })),
  of(rejection, (fields) => ({ type: "task-rejected", ...fields })),
);

/** How an attempt ends; some end twice, some never. */
const ending: fc.Arbitrary<(common: Where) => TaskEvent[]> = fc.constantFrom(
  (common: Where) => [taskSucceeded(common)],
  (common: Where) => [taskFailed(common)],
  (common: Where) => [taskFailed(common), taskFailed({ ...common, timestamp: common.timestamp + 0.002 })],
  (common: Where) => [taskFailed(common), taskRejected(common)],
  (common: Where) => [taskSucceeded(common), taskFailed(common)],
  (common: Where) => [taskRetried(common)],
  (common: Where) => [taskRejected({ ...common, requeue: true })],
  (common: Where) => [taskRevoked({ ...common, terminated: true, signum: "15" })],
  (common: Where) => [
    taskRevoked({ ...common, terminated: true, signum: "15" }),
    taskFailed({ ...common, timestamp: common.timestamp + 0.005, exception: EXIT, exited: true }),
  ],
  () => [],
);

/** One run of a task as Celery reports it, starting with `task-sent`. */
const attempt: fc.Arbitrary<TaskEvent[]> = fc
  .record({ where: where(worker), client, retries: fc.integer({ min: 0, max: 2 }), ending, isSent: fc.boolean() })
  .map(({ where: common, client: hostname, retries, ending: end, isSent }) => {
    const { timestamp } = common;
    const sent = isSent ? [taskSent({ ...common, hostname, retries })] : [];
    return [
      ...sent,
      taskReceived({ ...common, timestamp: timestamp + 0.25, retries }),
      taskStarted({ ...common, timestamp: timestamp + 0.5 }),
      ...end({ ...common, timestamp: timestamp + 1 }),
    ];
  });

/** Up to about 40 events of up to three tasks on up to three workers. */
export const taskHistories: fc.Arbitrary<TaskEvent[]> = fc
  .array(
    fc.oneof(
      attempt,
      looseEvent.map((event) => [event]),
    ),
    { minLength: 1, maxLength: 12 },
  )
  .map((parts) => parts.flat());

/** The same events in any order. */
export function shuffled<T>(events: readonly T[]): fc.Arbitrary<T[]> {
  return fc.shuffledSubarray([...events], { minLength: events.length });
}

/** The same events, followed by some of them again. */
export function doubled<T>(events: readonly T[]): fc.Arbitrary<T[]> {
  return fc.subarray([...events]).map((again) => [...events, ...again]);
}

/** The same events in order, split into batches. */
export function split<T>(events: readonly T[]): fc.Arbitrary<T[][]> {
  return fc.array(fc.boolean(), { minLength: events.length, maxLength: events.length }).map((starts) => {
    const batches: T[][] = [];
    for (const [index, event] of events.entries()) {
      const last = batches.at(-1);
      if (last === undefined || starts[index] === true) batches.push([event]);
      else last.push(event);
    }
    return batches;
  });
}

/** A history, and one possible at-least-once delivery of it: repeated, out of order, in batches. */
export interface Delivery {
  readonly history: readonly TaskEvent[];
  readonly batches: readonly (readonly TaskEvent[])[];
}

export const deliveries: fc.Arbitrary<Delivery> = taskHistories.chain((history) =>
  doubled(history)
    .chain((events) => shuffled(events))
    .chain((events) => split(events))
    .map((batches) => ({ history, batches })),
);
