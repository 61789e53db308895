/**
 * The filters' guarantee: what remains does not depend on how events are grouped into batches, or on which process gets which batch when.
 */
import { scaled } from "@celery-metrics-exporter/testkit";
import { taskReceived, taskRetried, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import type { CeleryEvent, TaskEvent } from "@celery-metrics-exporter/celery";
import { UnavailableError, loadConfig } from "@celery-metrics-exporter/runtime";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BatchFilter, openFilter } from "../../src/filter/batch-filter.ts";
import { AttemptMemory, EventFilter, FilterConfig, type EventBatch } from "../../src/index.ts";
import { HostFilter } from "../../src/filter/host-filter.ts";
import { privateRedis } from "../support/redis.ts";

const redis = privateRedis();

type Env = Record<string, string>;

function filterOf(env: Env, memory: AttemptMemory): BatchFilter {
  return new BatchFilter(new EventFilter(loadConfig(FilterConfig, env)), memory);
}

function receiverOf(env: Env, prefix: string): BatchFilter {
  return filterOf(env, new AttemptMemory({ redis: redis.producer, prefix, owner: "receiver" }));
}

function hostOf(env: Env, prefix: string): HostFilter {
  const own = openFilter(loadConfig(FilterConfig, env), { redis: redis.producer, prefix, owner: "sink:own" });
  return new HostFilter({ own, attempts: new AttemptMemory({ redis: redis.producer, prefix, owner: "sink" }) });
}

/** What an exporter stores, with the delays of a real one. */
class Sink {
  readonly rows = new Map<string, Map<string, TaskEvent>>();
  /** Whether it keeps tasks that have a `task-sent`, like exporters that take that type. */
  readonly #takesSent: boolean;

  constructor({ takesSent }: { readonly takesSent: boolean }) {
    this.#takesSent = takesSent;
  }

  async export(events: readonly CeleryEvent[]): Promise<void> {
    await pauseAtRandom();
    for (const event of events as readonly TaskEvent[]) {
      const row = this.rows.get(event.uuid) ?? new Map<string, TaskEvent>();
      this.rows.set(event.uuid, row.set(`${event.type} ${event.timestamp}`, event));
    }
    await pauseAtRandom();
  }

  async forget(ids: readonly string[]): Promise<void> {
    await pauseAtRandom();
    for (const id of ids) {
      const isSent = [...(this.rows.get(id)?.values() ?? [])].some(({ type }) => type === "task-sent");
      if (!isSent || !this.#takesSent) this.rows.delete(id);
    }
    await pauseAtRandom();
  }

  has(): Record<string, string[]> {
    return Object.fromEntries([...this.rows].map(([id, row]) => [id, [...row.keys()].toSorted()]));
  }
}

function pauseAtRandom(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.random() < 0.6 ? 0 : Math.random() * 8));
}

async function insist<T>(attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (thrown) {
      if (!(thrown instanceof UnavailableError)) throw thrown;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

/** Does what the host does with a batch (`events-stage.ts`), without its queue. */
async function run(batch: EventBatch, host: HostFilter, sink: Sink): Promise<void> {
  await pauseAtRandom();
  const screened = await insist(() => host.screen(batch));
  if (screened.events.length > 0) await sink.export(screened.events);
  const ids = await host.leftovers(screened);
  await pauseAtRandom();
  if (ids.length > 0) await insist(() => host.forget(ids, new AbortController().signal, (excluded) => sink.forget(excluded)));
}

const FILTERS: Env = { FILTER_TASK_NAMES_EXCLUDE: "noisy.*", FILTER_QUEUES_EXCLUDE: "noisy" };
const NAMES_ONLY: Env = { FILTER_TASK_NAMES_INCLUDE: "shop.*" };
const NOW = Date.now() / 1_000;

const attempt = fc.record({
  isWanted: fc.boolean(),
  tellsBy: fc.constantFrom("name", "queue"),
  shadow: fc.constantFrom(undefined, undefined, "Report 5", "shop.other"),
  kind: fc.constantFrom("retry", "replacement", "chain", "by hand"),
  parts: fc.subarray(["received", "started", "retried", "succeeded"]),
});

const task = fc.record({
  /** Whether its clients send `task-sent`. */
  isSent: fc.constantFrom(true, true, false),
  /** Whether any other event describes its attempts. */
  isTold: fc.constantFrom(true, true, true, false),
  attempts: fc.array(attempt, { minLength: 1, maxLength: 3 }),
});
type Task = typeof task extends fc.Arbitrary<infer T> ? T : never;

/** The events of a task, and whether it is kept: if any attempt is wanted, or no event describes any. */
function historyOf({ isSent, isTold, attempts }: Task, uuid: string, byNameOnly: boolean): { events: TaskEvent[]; isKept: boolean } {
  let retries = 0;
  const verdicts: boolean[] = [];
  const events = attempts.flatMap(({ isWanted, tellsBy, shadow, kind, parts }, index): TaskEvent[] => {
    const start = NOW + index * 10;
    const byName = byNameOnly || tellsBy === "name" || !isSent;
    const name = isWanted || !byName ? "shop.cart" : "noisy.tick";
    const queue = isWanted || byName ? "celery" : "noisy";
    const isFirst = index === 0 || kind === "by hand";
    retries = isFirst || kind !== "retry" ? 0 : retries + 1;
    // If several attempts look alike, only the last can be distinguished from the first.
    const which = {
      retries,
      ...(!isFirst && kind === "replacement" && { again: true, eta: start }),
      ...(!isFirst && kind === "chain" && { parent_id: `parent-${index}` }),
    };
    // If no client sends `task-sent`, a shadow name counts as the name.
    const shown = isSent ? (shadow ?? name) : name;
    const told = isTold && (isSent || parts.includes("received"));
    if (told) verdicts.push(isWanted);
    const life: Record<string, TaskEvent> = {
      received: taskReceived({ uuid, name: shown, timestamp: start + 1, ...which }),
      started: taskStarted({ uuid, timestamp: start + 2 }),
      retried: taskRetried({ uuid, timestamp: start + 3 }),
      succeeded: taskSucceeded({ uuid, timestamp: start + 4 }),
    };
    const own = parts.filter((part) => isTold || part !== "received").flatMap((part) => life[part] ?? []);
    return isTold && isSent ? [taskSent({ uuid, name, queue, timestamp: start, ...which }), ...own] : own;
  });
  return { events, isKept: verdicts.length === 0 || verdicts.includes(true) };
}

const RECEIVERS = 3;

function scenarioOf(byNameOnly: boolean) {
  return fc.array(task, { minLength: 1, maxLength: 5 }).chain((tasks) => {
    const histories = tasks.map((drawn, index) => historyOf(drawn, `task-${index}`, byNameOnly));
    const events = histories.flatMap((history) => history.events);
    return fc.record({
      histories: fc.constant(histories),
      events: fc.shuffledSubarray(events, { minLength: events.length }),
      receivers: fc.array(fc.nat({ max: RECEIVERS - 1 }), { minLength: events.length, maxLength: events.length }),
      size: fc.integer({ min: 1, max: 5 }),
      repeats: fc.integer({ min: 0, max: 3 }),
    });
  });
}

describe("what remains", () => {
  it.each([
    ["the receiver", FILTERS, {}, true],
    ["the receiver, and the exporter takes no `task-sent`", FILTERS, {}, false],
    ["the receiver, by name only", NAMES_ONLY, {}, true],
    ["the host", {}, FILTERS, true],
    ["the host, by name only", {}, NAMES_ONLY, false],
    ["both", FILTERS, FILTERS, true],
    ["both, each another", { FILTER_QUEUES_EXCLUDE: "noisy" }, { FILTER_TASK_NAMES_EXCLUDE: "noisy.*" }, true],
  ])(
    "is all of every task with a wanted attempt and nothing of the others, in any order, with several receivers and hosts: filters of %s",
    async (title, receiverEnv, hostEnv, takesSent) => {
      let runs = 0;
      const byNameOnly = receiverEnv === NAMES_ONLY || hostEnv === NAMES_ONLY;
      await fc.assert(
        fc.asyncProperty(scenarioOf(byNameOnly), async ({ histories, events, receivers, size, repeats }) => {
          const prefix = `{${title} ${runs++}}`;
          const sink = new Sink({ takesSent });
          const jobs: Promise<void>[] = [];
          const [one, other] = [hostOf(hostEnv, prefix), hostOf(hostEnv, prefix)];
          for (const host of [one, other]) await host.screen({ broker: "redis", events: [taskSent({ uuid: "earlier", timestamp: NOW })] });
          const receive = async (number: number): Promise<void> => {
            const filter = receiverOf(receiverEnv, prefix);
            // What the receiver has seen before: with filters by name, it need not expect a `task-sent` if no client sends one.
            await filter.admit([taskSent({ uuid: "earlier", timestamp: NOW })]);
            const own = events.filter((_, index) => receivers[index] === number);
            for (let from = 0; from < own.length; from += size) {
              await pauseAtRandom();
              const batch = own.slice(from, from + size);
              // Killed before it has stored the batch, which then comes again.
              if (repeats > 1) await filter.admit(batch);
              const admitted = await filter.admit(batch);
              const host = jobs.length % 2 === 0 ? one : other;
              jobs.push(run({ broker: "redis", ...admitted }, host, sink));
              if (repeats > 2) jobs.push(run({ broker: "redis", ...admitted }, host, sink));
            }
          };
          await Promise.all(Array.from({ length: RECEIVERS }, (_, number) => receive(number)));
          await Promise.all(jobs);
          const expected = histories.filter((history) => history.isKept && history.events.length > 0);
          const whole = expected.map((history) => [
            history.events[0]?.uuid ?? "",
            history.events.map(({ type, timestamp }) => `${type} ${timestamp}`).toSorted(),
          ]);
          expect(sink.has()).toEqual(Object.fromEntries(whole));
        }),
        { numRuns: scaled(20, 60) },
      );
    },
    240_000,
  );
});
