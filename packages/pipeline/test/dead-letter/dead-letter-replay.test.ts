import { scaled } from "@celery-metrics-exporter/testkit";
import type { Decoded } from "@celery-metrics-exporter/celery";
import { taskFailed, taskStarted } from "@celery-metrics-exporter/celery/testing";
import { Metrics, UnavailableError, createLogger } from "@celery-metrics-exporter/runtime";
import { Queue } from "bullmq";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { BatchFilter } from "../../src/filter/batch-filter.ts";
import {
  AttemptMemory,
  DEAD_LETTER_QUEUE,
  DeadLetterReplay,
  DeadLetters,
  EXPORTERS,
  EventFilter,
  Fanout,
  FilterConfig,
  MAX_DEAD_LETTERS,
  RECEIVER,
  decodeBatch,
  lettersOfFuture,
  type DeadLetter,
  type EventBatch,
  type ReplayRedaction,
  type ReplayedLetter,
  type Selection,
} from "../../src/index.ts";
import { encodeIds } from "../../src/queue/scheduled-ids.ts";
import { privateRedis } from "../support/redis.ts";

const redis = privateRedis();
const prefix = "{cme}";
let letters: DeadLetters;
let replay: DeadLetterReplay;
let open: (DeadLetters | DeadLetterReplay | Fanout | Queue)[];

beforeEach(() => start());
afterEach(async () => {
  await Promise.all(open.map((opened) => opened.close()));
  await redis.producer.flushall();
});

function start(env: Partial<FilterConfig> = {}, redaction?: ReplayRedaction): void {
  const common = { redis: redis.producer, prefix, logger: createLogger("test", "silent"), metrics: new Metrics() };
  letters = new DeadLetters({ ...common, source: undefined });
  const fanout = new Fanout({ ...common, exporters: EXPORTERS, whenFull: "hold", highWaterEvents: 1_000_000 });
  const filter = new EventFilter({ ...FilterConfig.parse({}), ...env });
  const memory = new AttemptMemory({ ...common, owner: RECEIVER });
  const exporters = EXPORTERS.map(({ name }) => name);
  replay = new DeadLetterReplay({ ...common, exporters, filter: new BatchFilter(filter, memory), fanout, deadLetters: letters, redaction });
  open = [letters, replay, fanout];
}

async function run(selection: Selection = {}): Promise<ReplayedLetter[]> {
  const done: ReplayedLetter[] = [];
  for await (const part of replay.run(selection)) done.push(...part);
  return done;
}

function queueOf(name: string): Queue {
  const queue = new Queue(name, { connection: redis.producer, prefix });
  queue.on("error", () => {});
  open.push(queue);
  return queue;
}

async function lettersLeft(): Promise<DeadLetter[]> {
  return (await queueOf(DEAD_LETTER_QUEUE).getJobs(["wait"], 0, -1, true)).map(({ data }) => data as DeadLetter);
}

async function batchesIn(exporter: string): Promise<EventBatch[]> {
  return (await queueOf(exporter).getJobs(["wait"], 0, -1, true)).map(({ data }) => decodeBatch(data));
}

const eventsIn = async (exporter: string) => (await batchesIn(exporter)).flatMap(({ events }) => events);
const refused = (uuid: string, source = "postgres"): DeadLetter => ({ source, reason: "refused", detail: "", event: taskFailed({ uuid }) });
const numbered = (count: number): DeadLetter[] => Array.from({ length: count }, (_, index) => refused(`task-${index}`));
const undecodable: DeadLetter = { source: RECEIVER, reason: "body", detail: "", raw: "{", readAs: { contentType: "application/json" } };
const decodable: DeadLetter = { ...undecodable, reason: "content_type", raw: JSON.stringify([taskStarted({ uuid: "sent" }), 5]) };

/** Letters that no release has written. */
async function addAsTheyAre(stored: readonly unknown[]): Promise<void> {
  const jobs = stored.map((data) => ({ name: "any", data }));
  await queueOf(DEAD_LETTER_QUEUE).addBulk(jobs);
}

/** As strict about its input as the receiver's. */
function withoutResults(decoded: Decoded): Decoded {
  for (const event of decoded.events) delete (event as { result?: string }).result;
  return decoded;
}

const anyValue = fc.jsonValue({ maxDepth: 1 });
const anyEvent = fc.record(
  {
    type: fc.oneof(fc.constantFrom("task-failed", "task-sent", "task-succeeded"), anyValue),
    uuid: fc.oneof(fc.constant("any"), anyValue),
    hostname: fc.oneof(fc.constant("w1"), anyValue),
    timestamp: fc.oneof(fc.constant(5), anyValue),
    name: anyValue,
    eta: anyValue,
    result: anyValue,
  },
  { requiredKeys: [] },
);
const anyPayload = fc.record(
  {
    v: fc.constantFrom(1, 2, 3, "x"),
    broker: fc.oneof(fc.constant("redis"), anyValue),
    texts: fc.oneof(fc.constant([]), anyValue),
    events: fc.oneof(fc.constant([]), anyValue),
    ids: fc.oneof(fc.constant(["a"]), anyValue),
  },
  { requiredKeys: ["v"] },
);
const anyLetter = fc.oneof(
  anyValue,
  fc.record(
    {
      source: fc.oneof({ weight: 8, arbitrary: fc.constantFrom(RECEIVER, "datadog", "postgres") }, { weight: 1, arbitrary: anyValue }),
      reason: fc.oneof(fc.constant("refused"), anyValue),
      event: fc.oneof(fc.constant(taskFailed({ uuid: "any" })), anyEvent, anyValue),
      raw: fc.oneof(fc.constantFrom("task-1", "[]", JSON.stringify([taskStarted({ uuid: "sent" })])), anyValue),
      readAs: fc.oneof(
        fc.constantFrom("envelope", "event", "id to process", "id to forget", {}, { contentType: "application/json" }),
        anyValue,
      ),
      payload: fc.oneof(anyPayload, anyValue),
      cut: fc.constantFrom(true, false, false, false),
    },
    { requiredKeys: ["source"] },
  ),
);

describe("a replay of dead letters", () => {
  it("puts each event into the queue of the exporter that refused it, and nowhere else, and removes the letter", async () => {
    await letters.add([refused("a"), refused("b", "datadog"), refused("c")]);
    expect(await run()).toEqual([
      { source: "postgres", reason: "refused", outcome: "replayed" },
      { source: "datadog", reason: "refused", outcome: "replayed" },
      { source: "postgres", reason: "refused", outcome: "replayed" },
    ]);
    expect(await eventsIn("postgres")).toEqual([taskFailed({ uuid: "a" }), taskFailed({ uuid: "c" })]);
    expect(await eventsIn("datadog")).toEqual([taskFailed({ uuid: "b" })]);
    expect(await lettersLeft()).toEqual([]);
  });

  it("hands what can be decoded now to every exporter, and buries what still cannot", async () => {
    await letters.add([decodable]);
    expect(await run()).toEqual([{ source: RECEIVER, reason: "content_type", outcome: "replayed" }]);
    for (const exporter of ["datadog", "postgres"]) expect(await eventsIn(exporter)).toEqual([taskStarted({ uuid: "sent" })]);
    expect(await lettersLeft()).toMatchObject([{ source: RECEIVER, reason: "not_an_event", raw: "5", readAs: "event" }]);
  });

  it("brings an event from the future to every exporter once its time has come, and buries those that are still ahead", async () => {
    const [past, future] = [taskStarted({ uuid: "past" }), taskStarted({ uuid: "future", timestamp: 3_999_999_999 })];
    const mixed = { ...decodable, raw: JSON.stringify([taskStarted({ uuid: "sent" }), future]) };
    await letters.add([...lettersOfFuture([past, future]), mixed]);
    expect((await run()).map(({ outcome }) => outcome)).toEqual(["replayed", "left", "replayed"]);
    for (const exporter of ["datadog", "postgres"]) expect(await eventsIn(exporter)).toEqual([past, taskStarted({ uuid: "sent" })]);
    expect(await lettersLeft()).toEqual([...lettersOfFuture([future]), ...lettersOfFuture([future])]);
  });

  it("applies the receiver's filter to what was not decoded before", async () => {
    await Promise.all(open.map((opened) => opened.close()));
    start({ FILTER_EVENT_TYPES_EXCLUDE: ["task-started"] });
    await letters.add([decodable]);
    await run();
    expect(await eventsIn("postgres")).toEqual([]);
  });

  it("gives ids to process and ids to forget, and payloads, back to their stage", async () => {
    const id = { source: "datadog", reason: "failed", detail: "" };
    await letters.add([
      { ...id, raw: "one", readAs: "id to process" },
      { ...id, raw: "two", readAs: "id to process" },
      { ...id, raw: "gone", readAs: "id to forget" },
      { ...id, reason: "payload", payload: encodeIds(["three"]) },
    ]);
    await run();
    const jobs = await queueOf("datadog-processing").getJobs(["wait"], 0, -1, true);
    expect(jobs.map(({ name, data }) => [name, data])).toEqual([
      ["ids", encodeIds(["three"])],
      ["ids", encodeIds(["one", "two"])],
    ]);
    expect(await batchesIn("datadog")).toEqual([{ broker: "dead-letter", events: [], marked: [{ id: "gone", marks: ["-s"] }] }]);
    expect(await lettersLeft()).toEqual([]);
  });

  it("leaves what is cut, unknown or still rejected, and says why", async () => {
    const cut = { ...refused("long"), event: taskFailed({ traceback: "x".repeat(50_000) }) };
    await letters.add([undecodable, refused("new"), cut, refused("x", "promtail")]);
    expect((await run()).map(({ because }) => because)).toEqual([
      "rejected again",
      undefined,
      "cut: only a part was kept",
      "of an unknown exporter",
    ]);
    expect(await lettersLeft()).toMatchObject([undecodable, { cut: true }, { source: "promtail" }]);
  });

  it("takes the oldest first, only those of a source and reason, and no more than asked for", async () => {
    await letters.add([undecodable, refused("d", "datadog"), ...numbered(250), { ...refused("other"), reason: "crash" }]);
    expect(await run({ source: "postgres", reason: "refused", limit: 205 })).toHaveLength(205);
    expect(await eventsIn("postgres")).toEqual(numbered(205).map(({ event }) => event));
    expect(await lettersLeft()).toHaveLength(2 + 45 + 1);
    expect(await run({ reason: "crash" })).toEqual([{ source: "postgres", reason: "crash", outcome: "replayed" }]);
  });

  it("changes nothing in a dry run", async () => {
    await letters.add([refused("a"), undecodable]);
    const before = await lettersLeft();
    expect(await run({ dryRun: true })).toEqual([
      { source: "postgres", reason: "refused", outcome: "replayed" },
      { source: RECEIVER, reason: "body", outcome: "left", because: "rejected again" },
    ]);
    expect(await lettersLeft()).toEqual(before);
    expect(await eventsIn("postgres")).toEqual([]);
  });

  it("leaves letters that arrive meanwhile, such as one that fails again, for the next run", async () => {
    await letters.add(numbered(150));
    let seen = 0;
    for await (const part of replay.run({})) {
      seen += part.length;
      await letters.add(part.map((_, index) => refused(`again-${index}`)));
    }
    expect(seen).toBe(150);
    expect(await lettersLeft()).toHaveLength(150);
  });

  it("keeps a letter whose event does not get into its queue: Redis is full", async () => {
    await letters.add(numbered(3));
    await redis.producer.config("SET", "maxmemory", "1");
    try {
      await expect(run()).rejects.toBeInstanceOf(UnavailableError);
    } finally {
      await redis.producer.config("SET", "maxmemory", "0");
    }
    expect(await lettersLeft()).toEqual(numbered(3));
    await run();
    expect(await eventsIn("postgres")).toHaveLength(3);
  });

  it("keeps a letter that is not in its queue yet, when others that come back fill the dead-letter queue", async () => {
    const id: DeadLetter = { source: "datadog", reason: "failed", detail: "", raw: "one", readAs: "id to process" };
    await letters.add([id, decodable]);
    await redis.producer.lpush(
      `${prefix}:${DEAD_LETTER_QUEUE}:wait`,
      ...Array.from({ length: MAX_DEAD_LETTERS - 2 }, (_, index) => `new-${index}`),
    );
    // A queue that takes nothing.
    const meta = `${prefix}:datadog-processing:meta`;
    await redis.producer.set(meta, "no hash");
    await expect(run()).rejects.toBeInstanceOf(UnavailableError);
    await redis.producer.del(meta);
    await Promise.all(open.map((opened) => opened.close()));
    start();
    await run();
    expect(await queueOf("datadog-processing").getWaitingCount()).toBe(1);
  });

  it("leaves malformed events, so that the good events beside them reach their exporter", async () => {
    const malformed = [{}, { type: "task-failed" }, "x", { ...taskFailed(), uuid: 5 }];
    await addAsTheyAre([
      ...malformed.map((event) => ({ source: "postgres", reason: "refused", detail: "", event })),
      refused("good"),
      refused("d", "datadog"),
    ]);
    const left = { source: "postgres", reason: "refused", outcome: "left", because: "not an event in the format of this release" };
    expect((await run()).slice(0, 4)).toEqual([left, left, left, left]);
    expect(await eventsIn("postgres")).toEqual([taskFailed({ uuid: "good" })]);
    expect(await eventsIn("datadog")).toEqual([taskFailed({ uuid: "d" })]);
    expect((await lettersLeft()).map(({ event }) => event)).toEqual(malformed);
  });

  it("shows only the beginning of an unknown reason", async () => {
    await addAsTheyAre([{ ...refused("a"), reason: "x".repeat(10_000) }]);
    const reasons = (await run({ dryRun: true })).map(({ reason }) => reason);
    expect(reasons).toEqual([expect.stringMatching(/^x{64}.{1,40}$/)]);
  });

  it("is not held up by a letter that is not JSON", async () => {
    await letters.add([refused("a"), refused("b")]);
    const [first = ""] = await redis.producer.lrange(`${prefix}:${DEAD_LETTER_QUEUE}:wait`, -1, -1);
    await redis.producer.hset(`${prefix}:${DEAD_LETTER_QUEUE}:${first}`, "data", "{");
    expect((await run()).map(({ outcome }) => outcome)).toEqual(["left", "replayed"]);
    expect((await run({ discard: "unreplayable" })).map(({ outcome }) => outcome)).toEqual(["discarded"]);
    expect(await queueOf(DEAD_LETTER_QUEUE).getWaitingCount()).toBe(0);
  });

  it.each<[string, ReplayRedaction | undefined]>([
    ["", undefined],
    [" with redaction", { ofSent: withoutResults, ofStored: withoutResults }],
  ])("brings back every good letter, whatever others there are, and discards the rest%s", async (_mode, redaction) => {
    await Promise.all(open.map((opened) => opened.close()));
    start({}, redaction);
    let round = 0;
    const outcomes = { replayed: 0, left: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(anyLetter, { minLength: 1, maxLength: 40 }), async (others) => {
        const uuid = `good-${round++}`;
        const good = [refused(uuid), refused(uuid, "datadog")];
        await addAsTheyAre([...others, ...good, ...others]);
        const done = await run();
        expect(done).toHaveLength(2 * others.length + 2);
        outcomes.replayed += done.filter(({ outcome }) => outcome === "replayed").length - good.length;
        outcomes.left += done.filter(({ outcome }) => outcome === "left").length;
        for (const exporter of ["datadog", "postgres"]) {
          expect((await eventsIn(exporter)).filter((event) => "uuid" in event && event.uuid === uuid)).toHaveLength(1);
        }
        await run({ discard: "unreplayable" });
        expect(await lettersLeft()).toEqual([]);
        await redis.producer.flushall();
      }),
      { seed: 20_261_129, numRuns: scaled(10, 30) },
    );
    expect(Math.min(outcomes.replayed, outcomes.left)).toBeGreaterThan(20);
  });

  it("rejects while Redis is unavailable", async () => {
    await letters.add(numbered(3));
    await run({ dryRun: true });
    await redis.server.kill();
    await vi.waitUntil(() => redis.producer.status !== "ready", { timeout: 20_000 });
    await expect(run()).rejects.toBeInstanceOf(UnavailableError);
    await redis.server.restart();
    await vi.waitUntil(() => redis.producer.status === "ready", { timeout: 20_000 });
  });
});
