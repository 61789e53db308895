/**
 * Processes killed at each point between two steps. The tests hold the steps from outside: by revoking a right in Redis, by a lock in
 * PostgreSQL, or by a relay that withholds what the receiver sends to the broker. The Datadog processor has its own test, in its folder.
 */
import { TcpProxy, createVhost, type TestVhost } from "@celery-metrics-exporter/testkit";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { RoleName } from "../fleet/fleet.ts";
import type { RoleProcess } from "../fleet/role-process.ts";
import { prepareBurst, publishBurst, together, type Truth } from "../load/load.ts";
import { sumOf } from "../fleet/own-metrics.ts";
import { expectAllDone } from "./queues.ts";
import { startScene, type Scene } from "./scene.ts";
import { expectMetrics, expectRows } from "./truth.ts";

const WITHIN = { timeoutMs: 60_000 };
const HELD = { timeout: 30_000, interval: 50 };
const EVENTS = 400;
const EXCLUDED_NAME = "shop.sync";
/** A role's rights in Redis, as a separate user. */
const ALL_KEYS = "~*";

let vhost: TestVhost;
let relay: TcpProxy;
let scene: Scene;
let truth: Truth = { tasks: [], events: 0 };
let seed = 0;

beforeAll(async () => {
  vhost = await createVhost();
  relay = await TcpProxy.start(Number(new URL(vhost.url).port));
  scene = await startScene({
    brokerUrl: vhost.url,
    processes: {},
    // Everything published at once must be one batch: events that a killed receiver had not stored would arrive after the grace for late events.
    env: {
      FILTER_TASK_NAMES_EXCLUDE: EXCLUDED_NAME,
      BATCH_MAX_MS: "2000",
      BATCH_MAX_EVENTS: "10000",
      BATCH_MAX_BYTES: "10000000",
      // What a rejected task lacks never arrives, and all its other events are in its batch.
      DATADOG_INCOMPLETE_WAIT_MS: "2000",
    },
  });
  for (const role of ["receiver", "postgres-processor"] as const) await allow(role, ALL_KEYS);
  await Promise.all([start("receiver"), start("postgres-processor"), start("datadog-processor")]);
});
beforeEach(async () => {
  await scene.fleet.whenReady();
});
afterAll(async () => {
  await scene.close();
  await relay.stop();
  await vhost.drop();
});

/** Each role has its own user in Redis. */
async function allow(role: RoleName, ...keys: readonly string[]): Promise<void> {
  await scene.queues.redis.call("ACL", "SETUSER", role, "on", ">secret", "resetkeys", ...keys, "&*", "+@all");
}

async function start(role: RoleName): Promise<RoleProcess> {
  const redisUrl = new URL(scene.redis.url);
  if (role !== "datadog-processor") [redisUrl.username, redisUrl.password] = [role, "secret"];
  return scene.fleet.add(role, { REDIS_URL: redisUrl.href, CELERY_BROKER_URL: relay.inFrontOf(vhost.url) });
}

async function publish(): Promise<void> {
  seed += 1;
  const { tasks, events, frames } = prepareBurst(EVENTS, seed);
  await publishBurst(scene.publisher, { tasks, events, frames });
  truth = together(truth, { tasks: tasks.filter(({ name }) => name !== EXCLUDED_NAME), events });
}

/** Kills the process that is held, releases the hold, and starts another process. */
async function replace(role: RoleName, letGo: () => Promise<void>): Promise<void> {
  await scene.fleet.kill(role);
  await letGo();
  await start(role);
}

async function expectTruth(): Promise<void> {
  await expectRows(scene.database, truth, WITHIN);
  await expectMetrics(scene.sink, truth, WITHIN);
  await expectAllDone(scene.queues, WITHIN.timeoutMs);
}

/** Checks that what the receiver had not acknowledged was redelivered. */
async function expectRedelivered(): Promise<void> {
  await expect.poll(() => sumOf(scene.fleet.processes("receiver"), "messages_redelivered_total"), HELD).toBeGreaterThan(0);
}

describe("a receiver killed", () => {
  it("when only one exporter queue has the batch", async () => {
    const { queues } = scene;
    const [datadog, postgres] = [await queues.added("datadog"), await queues.added("postgres")];
    await allow("receiver", "~{cme}:[^p]*", "~cme:*");
    await publish();
    await expect.poll(() => queues.added("datadog"), HELD).toBeGreaterThan(datadog);
    expect(await queues.added("postgres")).toBe(postgres);
    await replace("receiver", () => allow("receiver", ALL_KEYS));
    await expectTruth();
    await expectRedelivered();
  });

  it("when the filter has stored what it excluded, and no queue has the batch", async () => {
    const { queues } = scene;
    const [datadog, postgres] = [await queues.added("datadog"), await queues.added("postgres")];
    const remembered = await excludedBy("receiver");
    await allow("receiver", "~{cme}:[^dp]*", "~cme:*");
    await publish();
    await expect.poll(() => excludedBy("receiver"), HELD).toBeGreaterThan(remembered);
    expect([await queues.added("datadog"), await queues.added("postgres")]).toEqual([datadog, postgres]);
    await replace("receiver", () => allow("receiver", ALL_KEYS));
    await expectTruth();
    await expectRedelivered();
  });

  it("when everything is stored, but not acknowledged", async () => {
    const remembered = await excludedBy("receiver");
    relay.muteClients();
    await publish();
    await expect.poll(() => excludedBy("receiver"), HELD).toBeGreaterThan(remembered);
    await replace("receiver", () => Promise.resolve(relay.thaw()));
    await expectTruth();
    await expectRedelivered();
  });
});

describe("a postgres processor killed", () => {
  it("before its statement", async () => {
    const { database, queues } = scene;
    const lock = await database.connect();
    await lock.query("begin; lock table celery_task in access exclusive mode");
    await publish();
    await expect.poll(() => statementsHeld(), HELD).toBeGreaterThan(0);
    await replace("postgres-processor", async () => {
      // Otherwise the server would run the statement of the killed process.
      await lock.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
      );
      await lock.query("rollback");
      lock.release(true);
      expect((await queues.active("postgres")).length).toBeGreaterThan(0);
      await queues.expireLocks("postgres");
    });
    await expectTruth();
  });

  it("after its statement, before the job is done", async () => {
    const { queues } = scene;
    // When a job ends, it is added to the set of completed or failed jobs.
    await allow("postgres-processor", "~{cme}:[^p]*", "~{cme}:postgres:[^cf]*");
    await publish();
    await expectRows(scene.database, truth, WITHIN);
    expect((await queues.active("postgres")).length).toBeGreaterThan(0);
    await replace("postgres-processor", async () => {
      await allow("postgres-processor", ALL_KEYS);
      await queues.expireLocks("postgres");
    });
    await expectTruth();
  });
});

async function excludedBy(owner: string): Promise<number> {
  return (await scene.queues.redis.keys(`{cme}:excluded:${owner}:*`)).length;
}

async function statementsHeld(): Promise<number> {
  const { rows } = await scene.database.query<{ held: number }>(
    "select count(*)::int as held from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
  );
  return rows[0]?.held ?? 0;
}
