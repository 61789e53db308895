import { Redis } from "ioredis";
import { taskSent } from "@celery-metrics-exporter/celery/testing";
import { createLogger } from "@celery-metrics-exporter/runtime";
import { startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { CountTable, type Counts, TaskCounts } from "@celery-metrics-exporter/task-store";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Counting } from "../src/counting/counting.ts";
import { Expiry } from "../src/counting/expiry.ts";
import { HistogramFields } from "../src/counting/fields.ts";
import { LabelRegistry } from "../src/counting/label-registry.ts";

let server: RedisServer;
let redis: Redis;
beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

it("forgets the labels of a set that nobody uses, then its counts, and counts anew when it is used again", async () => {
  const registry = (name: string): LabelRegistry =>
    new LabelRegistry({
      redis,
      keys: { values: name, used: `${name}-used`, created: `${name}-created` },
      max: 10,
      other: ["other"],
      rememberedMs: 0,
    });
  const [labels, exceptions] = [registry("{x}:labels"), registry("{x}:exceptions")];
  const histogram = new HistogramFields("t", [1]);
  const counting = new Counting({
    labels,
    exceptions,
    hostnames: registry("{x}:hostnames"),
    hostnameLabel: "generic",
    defaultQueue: "celery",
    runtime: histogram,
    failedRuntime: histogram,
    wait: histogram,
  });
  const counts = new TaskCounts({
    redis,
    queuePrefix: "{x}",
    owner: "test",
    taskExpirySeconds: 100,
    endedExpirySeconds: 100,
    keepWorker: false,
    keepException: false,
    everyEvent: true,
    lookAt: counting.lookAt,
  });
  let active = false;
  const expiry = new Expiry({
    counts,
    labels,
    unusedSeconds: 1_000,
    taskExpirySeconds: 100,
    isActive: () => active,
    logger: createLogger("test", "silent"),
  });
  const [old, used] = [taskSent({ uuid: "old", name: "old" }), taskSent({ uuid: "used", name: "used" })];
  await counts.add([old, used]);
  const namesOf = async (): Promise<string[]> => [...(await labels.all()).values()].map(([name = ""]) => name).toSorted();
  const shown = async (): Promise<Counts> => new CountTable().read(await counts.read(), () => true);
  const sentOf = async (): Promise<number[]> => {
    const { codes, bySet } = await shown();
    return [...bySet.values()].flatMap((of) => of.get(codes.get("s")) || []).toSorted((a, b) => a - b);
  };
  expect(await namesOf()).toEqual(["old", "other", "used"]);

  const createdOf = async (): Promise<number | undefined> => (await labels.created()).get(id);
  const id = [...(await labels.all())].find(([, [name]]) => name === "old")?.[0] ?? "";
  await redis.zincrby("{x}:labels-used", -2_000, id);
  const created = await createdOf();
  expect(created).toBeGreaterThan(Date.now() / 1_000 - 60);
  await expiry.turn();
  expect(await namesOf(), "another process is active").toEqual(["old", "other", "used"]);
  active = true;
  await expiry.turn();
  expect(await namesOf()).toEqual(["other", "used"]);
  expect(await sentOf(), "still there for scrapes under way").toEqual([1, 1]);
  expect(await createdOf(), "the counts would continue").toBe(created);
  await expiry.turn();
  expect(await sentOf()).toEqual([1]);
  expect(await createdOf()).toBeUndefined();

  const waitingOf = async (): Promise<string[]> => (await shown()).gauges.map(({ code }) => code);
  expect(await waitingOf(), "these messages are from the past").toEqual([]);
  await counts.add([taskSent({ uuid: "waiting", name: "used", timestamp: Date.now() / 1_000 - 60 })]);
  await expiry.turn();
  expect(await waitingOf()).toHaveLength(1);

  await counts.add([taskSent({ uuid: "new", name: "old" })]);
  await expiry.turn();
  expect(await sentOf()).toEqual([1, 2]);
  expect(await createdOf()).toBeGreaterThanOrEqual(created ?? Infinity);
  expect(await namesOf()).toEqual(["old", "other", "used"]);
});
