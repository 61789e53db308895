/** Two receivers on Redis pub/sub, which stores nothing: whatever happens to the active one, the standby has the events that it had not stored. */
import { TcpProxy, seededRandom, startRedis, type RedisServer, SOAK, scaled } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { RoleProcess } from "../fleet/role-process.ts";
import { Load } from "../load/load.ts";
import { sumOf } from "../fleet/own-metrics.ts";
import { startScene, type Scene } from "./scene.ts";
import { expectMetrics, expectRows } from "./truth.ts";

const EVENTS_PER_SECOND = 2_000;
const WITHIN = { timeoutMs: 60_000 };
const WAIT = { timeout: 60_000, interval: 50 };
/** Maximum delay of a standby's probe: a standby with a slow probe counts as connected that much later, and so as having missed its messages. */
const DELAY_MS = 3_000;
const PROCESSORS = { "datadog-processor": 1, "postgres-processor": 1 } as const;

let broker: RedisServer;
let scene: Scene;
const releases: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  broker = await startRedis();
  releases.push(() => broker.stop());
});
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

async function start(receivers: number): Promise<void> {
  scene = await startScene({ brokerUrl: `${broker.url}/0`, processes: { receiver: receivers, ...PROCESSORS } });
  releases.push(() => scene.close());
}

function startLoad(): Load {
  return Load.start({ publisher: scene.publisher, eventsPerSecond: EVENTS_PER_SECOND });
}

/** Checks for every row and every sample, no more and no less. */
async function expectTheTruth(load: Load): Promise<void> {
  const truth = await load.stop();
  await expectRows(scene.database, truth, WITHIN);
  await expectMetrics(scene.sink, truth, WITHIN);
}

/** `active` or `standby`; undefined if the receiver does not answer. */
async function roleOf({ healthUrl }: RoleProcess): Promise<string | undefined> {
  try {
    const answer = await fetch(`${healthUrl}/readyz`, { signal: AbortSignal.timeout(1_000) });
    return ((await answer.json()) as { readonly components: Readonly<Record<string, string>> }).components["receiver"]?.split(":")[0];
  } catch {
    return undefined;
  }
}

/** The active receiver, once there is one among these, and the other one. */
async function pair(receivers: readonly RoleProcess[]): Promise<{ readonly active: RoleProcess; readonly standby: RoleProcess }> {
  let active: RoleProcess | undefined;
  const find = async (): Promise<boolean> => {
    const roles = await Promise.all(receivers.map(roleOf));
    active = receivers[roles.indexOf("active")];
    return active !== undefined;
  };
  await expect.poll(find, WAIT).toBe(true);
  const standby = receivers.find((receiver) => receiver !== active);
  if (active === undefined || standby === undefined) throw new Error("there must be two receivers");
  return { active, standby };
}

const becomes = (receiver: RoleProcess, role: string): Promise<void> => expect.poll(() => roleOf(receiver), WAIT).toBe(role);
const receivers = (): readonly RoleProcess[] => scene.fleet.processes("receiver");
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until a standby has reported once more that it has everything since before the oldest event that is not safe. */
async function covered(): Promise<void> {
  const redis = new Redis(scene.redis.url);
  const told = async (): Promise<string | null> => {
    const keys = await redis.keys("{cme}:receiver:*");
    const key = keys.find((name) => /:[0-9a-f]{16}$/.test(name)) ?? "";
    return redis.hget(key, "coveredUntil");
  };
  try {
    const before = await told();
    await expect.poll(told, WAIT).not.toBe(before);
    await pause(DELAY_MS);
  } finally {
    redis.disconnect();
  }
}

describe("two receivers on Redis pub/sub", () => {
  it("lose nothing and count nothing twice when the active one is killed, or stopped and continued", async () => {
    await start(2);
    const load = startLoad();
    const random = seededRandom(7);
    for (let round = 0; round < scaled(1, 10); round += 1) {
      await covered();
      await pause(scaled(0, 3_000) * random());
      const before = await pair(receivers());
      await scene.fleet.kill("receiver", before.active);
      const replacement = await scene.fleet.add("receiver");
      await becomes(before.standby, "active");
      expect(await sumOf([before.standby], "receiver_takeovers_total", { covered: "no" })).toBe(0);

      await covered();
      await pause(scaled(0, 3_000) * random());
      before.standby.child.kill("SIGSTOP");
      await becomes(replacement, "active");
      before.standby.child.kill("SIGCONT");
      await becomes(before.standby, "standby");
    }
    await expectTheTruth(load);
    expect(await sumOf(receivers(), "receiver_takeovers_total", { covered: "no" })).toBe(0);
    expect(await sumOf(receivers(), "standby_messages_dropped_total")).toBe(0);
    expect(load.events).toBeGreaterThan(10_000);
  });

  it.runIf(SOAK)("lose nothing when SIGTERM replaces them one after the other", async () => {
    await start(2);
    const load = startLoad();
    for (let round = 0; round < 6; round += 1) {
      await pause(1_000);
      const { active } = await pair(receivers());
      expect(await scene.fleet.drain("receiver", active)).toBe(0);
      await scene.fleet.add("receiver");
    }
    await expectTheTruth(load);
  });

  it.runIf(SOAK).each(["breaks", "hangs"])("lose nothing when the active one's link to the broker %s", async (fault) => {
    await start(0);
    const proxies = [await TcpProxy.start(broker.port), await TcpProxy.start(broker.port)];
    for (const proxy of proxies) releases.push(() => proxy.stop());
    // Both name the same servers in a different order, and use the first one.
    const urls = proxies.map(({ port }) => `redis://127.0.0.1:${port}/0`);
    for (const own of [urls, urls.toReversed()]) await scene.fleet.add("receiver", { CELERY_BROKER_URL: own.join(";") });
    const load = startLoad();
    await covered();
    const { active, standby } = await pair(receivers());
    const link = proxies[receivers().indexOf(active)];
    if (fault === "breaks") link?.cut();
    else link?.freeze();
    await becomes(standby, "active");
    link?.thaw();
    await becomes(active, "standby");
    await expectTheTruth(load);
  });

  // The effect of a killed Redis on the metrics does not depend on the receivers; the table shows what they enqueued.
  it.runIf(SOAK)("lose nothing while the queues' Redis is away for longer than a lease lasts", async () => {
    await start(2);
    const load = startLoad();
    for (let round = 0; round < 3; round += 1) {
      await covered();
      await scene.redis.kill();
      await pause(8_000);
      await scene.redis.restart();
      await scene.fleet.whenReady();
    }
    await expectRows(scene.database, await load.stop(), WITHIN);
    expect(await sumOf(receivers(), "messages_dropped_total")).toBe(0);
  });
});
