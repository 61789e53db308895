/** What passes the filters, and what is remembered for it. */
import { taskReceived, taskRetried, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { loadConfig } from "@celery-metrics-exporter/runtime";
import { afterEach, describe, expect, it } from "vitest";
import { BatchFilter, openFilter } from "../../src/filter/batch-filter.ts";
import { AttemptMemory, EventFilter, FilterConfig } from "../../src/index.ts";
import type { Note, Remembered } from "../../src/filter/attempt-memory.ts";
import { privateRedis } from "../support/redis.ts";

const redis = privateRedis();
afterEach(() => redis.producer.flushall());

function memory(owner = "receiver", expirySeconds?: number): AttemptMemory {
  return new AttemptMemory({ redis: redis.producer, prefix: "{cme}", owner, ...(expirySeconds !== undefined && { expirySeconds }) });
}

function receiver(env: Record<string, string>): BatchFilter {
  return new BatchFilter(new EventFilter(loadConfig(FilterConfig, env)), memory());
}

function ttl(id: string): Promise<number> {
  return redis.producer.ttl(`{cme}:excluded:receiver:${id}`);
}

/** Recent times: the builders' fixed times are long ago, and late events are treated as possibly forgotten. */
const NOW = Date.now() / 1_000;
const at = (seconds: number) => ({ timestamp: NOW + seconds });

async function note(id: string, what: Note | undefined, owner?: string): Promise<Remembered | undefined> {
  return (await memory(owner).note(new Map([[id, what]]))).get(id);
}

async function scriptCalls(): Promise<number> {
  return Number(/cmdstat_eval:calls=(\d+)/.exec(await redis.producer.info("commandstats"))?.[1] ?? 0);
}

function excluding(event: CeleryEvent): CeleryEvent {
  return { ...event, excluded: true } as CeleryEvent;
}

/** The events of these batches that pass, one batch after the other. */
async function through(env: Record<string, string>, ...batches: readonly (readonly CeleryEvent[])[]): Promise<readonly CeleryEvent[]> {
  const filter = receiver(env);
  const passed: CeleryEvent[] = [];
  for (const batch of batches) passed.push(...(await filter.admit(batch)).events);
  return passed;
}

describe("the memory of attempts", () => {
  it("only adds, whatever comes first, each owner its own", async () => {
    await note("strange id:{x}", { marks: ["-s0"] });
    expect(await note("strange id:{x}", { marks: ["+s1", "-s0"] })).toMatchObject({ marks: ["-s0", "+s1"] });
    expect(await note("strange id:{x}", undefined)).toMatchObject({ marks: ["-s0", "+s1"] });
    expect(await note("strange id:{x}", undefined, "postgres")).toMatchObject({ marks: [] });
  });

  it("writes nothing where there is only a question", async () => {
    await note("a", undefined);
    expect(await redis.producer.keys("*")).toEqual([]);
  });

  it("returns what was set aside each time that an excluded task is kept", async () => {
    const [started, ended] = [taskStarted(), taskSucceeded({ result: "'a\\nb'\n" })];
    await note("a", { marks: ["-s0"], aside: [started] });
    await note("a", { marks: [], aside: [ended] });
    expect(await note("a", { marks: [] })).toMatchObject({ aside: [] });
    for (const keeps of ["for now", "for good"] as const) {
      expect(await note("a", { marks: ["+s1"], keeps })).toMatchObject({ aside: [started, ended] });
    }
  });

  it("sets nothing aside again with a batch that comes again, such as one that is held for hours", async () => {
    const filter = receiver({ FILTER_QUEUES_EXCLUDE: "noisy" });
    await filter.admit([{ ...taskRetried(), ...at(0) }]);
    for (let times = 0; times < 200; times += 1) await filter.admit([{ ...taskStarted(), ...at(1) }]);
    const kept = await filter.admit([
      { ...taskSent({ queue: "noisy" }), ...at(2) },
      { ...taskSent({ queue: "q1", retries: 1 }), ...at(3) },
    ]);
    expect(kept.events.filter(({ type }) => type !== "task-sent").map(({ type }) => type)).toEqual(["task-retried", "task-started"]);
  });

  it("drops what was set aside of a task that is kept and was never excluded", async () => {
    await note("a", { marks: ["?"], aside: [taskStarted()] });
    await note("a", { marks: ["+s0"], keeps: "for good" });
    expect(await note("a", { marks: ["-s1", "+s2"], keeps: "for good" })).toMatchObject({ aside: [] });
  });

  it("keeps the latest of what is set aside, and of marks those that keep, of a task with thousands of attempts", async () => {
    for (let attempt = 0; attempt < 1_200; attempt++) {
      await note("a", { marks: [`-s${attempt}`, `-r${attempt}`], aside: [taskRetried({ exception: `${attempt}` })] });
    }
    expect(await redis.producer.strlen("{cme}:excluded:receiver:a")).toBeLessThan(40_000);
    const known = await note("a", { marks: ["+s1200"], keeps: "for good" });
    expect(known?.marks).toContain("+s1200");
    expect(known?.aside.at(-1)).toMatchObject({ exception: "1199" });
  });

  it("forgets after a week, and ten minutes after a task's end; sooner if events are set aside and nothing excludes the task", async () => {
    await note("open", { marks: ["-s0"], describedAt: 1_000 });
    expect(await ttl("open")).toBeGreaterThan(6.9 * 86_400);
    await note("done", { marks: ["-s0"], describedAt: 1_000, finishedAt: 2_000 });
    expect(await ttl("done")).toBeLessThanOrEqual(600);
    await note("done", { marks: ["-r0"], describedAt: 1_500 });
    expect(await ttl("done")).toBeLessThanOrEqual(600);
    await note("done", { marks: [], describedAt: 3_000 });
    expect(await ttl("done")).toBeGreaterThan(6.9 * 86_400);
    await note("doubtful", { marks: ["?"], finishedAt: 2_000, aside: [taskSucceeded()] });
    expect(await ttl("doubtful")).toBeLessThanOrEqual(120);
    await memory("receiver", 60).note(new Map([["short", { marks: ["-s0"] }]]));
    expect(await ttl("short")).toBeLessThanOrEqual(60);
  });

  it("is locked by one holder at a time, and shows that to the others", async () => {
    await note("a", { marks: ["-s0"] });
    expect((await memory().lock(["a"], "one")).get("a")).toMatchObject({ marks: ["-s0"], isLocked: false });
    expect((await memory().lock(["a"], "two")).get("a")).toMatchObject({ isLocked: true });
    expect(await note("a", undefined)).toMatchObject({ isLocked: true });
    await memory().unlock(["a"], "two");
    expect(await note("a", undefined)).toMatchObject({ isLocked: true });
    await memory().unlock(["a"], "one");
    expect(await note("a", undefined)).toMatchObject({ marks: ["-s0"], isLocked: false });
  });

  it("leaves nothing of a lock on an unknown task", async () => {
    await memory().lock(["a"], "one");
    await memory().unlock(["a"], "one");
    expect(await redis.producer.keys("*")).toEqual([]);
  });
});

describe("the receiver's part", () => {
  const byQueue = { FILTER_QUEUES_EXCLUDE: "noisy" };
  const [sent, received, started] = [taskSent({ ...at(0), queue: "noisy" }), taskReceived(at(0.1)), taskStarted(at(0.2))];

  it("asks Redis nothing without a filter by name or queue", async () => {
    const before = await scriptCalls();
    const admitted = await receiver({ FILTER_EVENT_TYPES_EXCLUDE: "task-started" }).admit([sent, received, started]);
    expect(admitted).toEqual({ events: [sent, received], marked: [], doubtful: false });
    expect(await scriptCalls()).toBe(before);
  });

  it("asks Redis once for a batch with whole tasks, wanted and unwanted", async () => {
    const before = await scriptCalls();
    const wanted = [taskSent({ uuid: "other" }), taskStarted({ uuid: "other" })];
    expect((await receiver(byQueue).admit([sent, ...wanted, received, started])).events).toEqual(wanted);
    expect(await scriptCalls()).toBe(before + 1);
  });

  it("drops an excluded task's events, and does not mark it if none of them can have passed", async () => {
    const filter = receiver(byQueue);
    expect(await filter.admit([received, sent, started])).toEqual({ events: [], marked: [], doubtful: false });
    expect(await filter.admit([taskSucceeded(at(1)), sent])).toEqual({ events: [], marked: [], doubtful: false });
  });

  it("marks it if events have passed, and again if the batch comes again", async () => {
    const filter = receiver(byQueue);
    expect(await filter.admit([received, started])).toEqual({ events: [received, started], marked: [], doubtful: true });
    for (let time = 0; time < 2; time++) {
      expect(await filter.admit([sent])).toMatchObject({ events: [], marked: [{ id: sent.uuid }] });
    }
  });

  it("marks late tasks: it may have been forgotten that events have passed", async () => {
    expect(await receiver(byQueue).admit([{ ...sent, ...at(-300) }])).toMatchObject({ marked: [{ id: sent.uuid }] });
  });

  it("learns the name and the queue from types that are not wanted", async () => {
    const filter = receiver({
      FILTER_EVENT_TYPES_INCLUDE: "task-succeeded,task-failed",
      FILTER_TASK_NAMES_EXCLUDE: "noisy.*",
      FILTER_QUEUES_EXCLUDE: "noisy",
    });
    const excluded = ["by-name", "by-queue"];
    const described = [
      taskReceived({ ...at(0), uuid: "by-name", name: "noisy.a" }),
      taskSent({ ...at(0), uuid: "by-queue", queue: "noisy" }),
    ];
    expect(await filter.admit(described)).toEqual({ events: [], marked: [], doubtful: false });
    const wanted = [taskReceived({ uuid: "wanted" }), taskSucceeded({ uuid: "wanted" })];
    const rest = excluded.flatMap((uuid) => [taskStarted({ uuid }), taskSucceeded({ uuid, ...at(9) })]);
    expect((await filter.admit([...wanted, ...rest])).events).toEqual([wanted[1]]);
    for (const id of excluded) expect(await ttl(id)).toBeLessThanOrEqual(600);
  });

  it("remembers what is wanted for ten minutes after its end, and a week while it goes on", async () => {
    const filter = receiver(byQueue);
    await filter.admit([taskSent({ uuid: "open" }), taskSent({ uuid: "done" }), taskSucceeded({ uuid: "done" })]);
    expect(await ttl("open")).toBeGreaterThan(6.9 * 86_400);
    expect(await ttl("done")).toBeLessThanOrEqual(600);
  });
});

describe("attempts", () => {
  const dispatcher = { name: "app.dispatcher", queue: "q1" };
  const replaced = { name: "app.replaced", queue: "q2", again: true };
  const first = [taskSent({ ...dispatcher, ...at(0) }), taskReceived({ name: dispatcher.name, ...at(1) }), taskStarted(at(2))];
  const second = [
    taskSent({ ...replaced, ...at(3) }),
    taskReceived({ name: replaced.name, again: true, ...at(4) }),
    taskStarted(at(5)),
    taskSucceeded(at(6)),
  ];
  const retry = [
    taskSent({ ...dispatcher, queue: "q2", retries: 1, ...at(3) }),
    taskReceived({ name: dispatcher.name, retries: 1, ...at(4) }),
    taskSucceeded(at(6)),
  ];

  const byName = { FILTER_TASK_NAMES_EXCLUDE: "app.dispatcher" };

  it.each([byName, { FILTER_TASK_NAMES_INCLUDE: "app.replaced" }])(
    "replaced by one that is wanted: all of it passes, and the unwanted one is marked (%o)",
    async (env) => {
      const [sent, received, started] = first as [CeleryEvent, CeleryEvent, CeleryEvent];
      const whole = [excluding(sent), excluding(received), started, ...second];
      expect(await through(env, [...first, ...second])).toEqual(whole);
      await redis.producer.flushall();
      expect(await through(env, first, second)).toEqual(whole);
    },
  );

  it("retried into a queue that is not wanted: that one is marked", async () => {
    const [sent, received, ended] = retry as [CeleryEvent, CeleryEvent, CeleryEvent];
    expect(await through({ FILTER_QUEUES_EXCLUDE: "q2" }, first, retry)).toEqual([...first, excluding(sent), excluding(received), ended]);
  });

  it("is dropped as a whole if that goes for every attempt", async () => {
    const noisy = [taskSent({ ...dispatcher, queue: "q2" }), ...first.slice(1)];
    expect(await through({ FILTER_QUEUES_EXCLUDE: "q2" }, noisy, retry)).toEqual([]);
  });

  it("replaced by a chain, whose last task has another parent: the wanted attempt keeps the task", async () => {
    const last = taskSent({ name: "app.noise", parent_id: "the chain's first", ...at(3) });
    const filter = receiver({ FILTER_TASK_NAMES_EXCLUDE: "app.noise" });
    await filter.admit(first);
    const admitted = await filter.admit([last, taskSucceeded(at(4))]);
    expect(admitted.events).toEqual([excluding(last), taskSucceeded(at(4))]);
    expect(admitted.marked).toMatchObject([{ marks: expect.arrayContaining(["+s0"]) as string[] }]);
  });

  it("sent again by hand into an excluded queue, long after: no exporter has to forget the earlier life", async () => {
    const again = [taskSent({ queue: "noisy", ...at(0) }), taskReceived(at(1)), taskSucceeded(at(2))];
    expect(await receiver({ FILTER_QUEUES_EXCLUDE: "noisy" }).admit(again)).toEqual({ events: [], marked: [], doubtful: false });
  });

  it.each([
    ["is excluded", { FILTER_TASK_NAMES_INCLUDE: "w.*" }, "Report 5", 4],
    ["is not, though the name is", { FILTER_TASK_NAMES_EXCLUDE: "w.*" }, "Report 5", 0],
  ])("under a shadow name that %s: the name is that of `task-sent`", async (_, env, shadow, passing) => {
    const events = [
      taskReceived({ name: shadow, ...at(1) }),
      taskStarted(at(2)),
      taskSent({ name: "w.report", ...at(0) }),
      taskSucceeded(at(3)),
    ];
    for (let cut = 0; cut <= events.length; cut++) {
      await redis.producer.flushall();
      const filter = receiver(env);
      const batches = [await filter.admit(events.slice(0, cut)), await filter.admit(events.slice(cut))];
      const forgotten = batches.some(({ marked }) => marked.some(({ marks }) => !marks.includes("+s0")));
      const passed = forgotten ? [] : batches.flatMap((batch) => batch.events);
      expect(passed).toHaveLength(passing);
      for (const event of passed) expect(event).not.toHaveProperty("excluded");
    }
  });
});

describe("the settings", () => {
  it.each<[Record<string, string>, boolean]>([
    [{}, false],
    [{ FILTER_EVENT_TYPES_EXCLUDE: "task-retried" }, true],
    [{ FILTER_TASK_NAMES_INCLUDE: "shop.*" }, true],
    [{ FILTER_QUEUES_EXCLUDE: "mail" }, true],
  ])("%o ask for a filter: %s", (env, isOne) => {
    const options = { redis: redis.producer, prefix: "{none}", owner: "receiver" };
    expect(openFilter(loadConfig(FilterConfig, env), options) !== undefined).toBe(isOne);
  });
});
