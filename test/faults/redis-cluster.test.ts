/** The whole pipeline on a Redis Cluster: the exporter queues are on one node, the Store is on all nodes, and nodes and slots change meanwhile. */
import {
  createVhost,
  grantDocumented,
  startRedisCluster,
  type RedisCluster,
  type RedisServer,
  type TestVhost,
  SOAK,
  scaled,
} from "@celery-metrics-exporter/testkit";
import { afterEach, expect, it } from "vitest";
import type { RoleName } from "../fleet/fleet.ts";
import { Load, together } from "../load/load.ts";
import { expectAllDone } from "./queues.ts";
import { expectReadiness } from "./readiness.ts";
import { DURABLE, startSceneOn, type SceneOnRedis } from "./scene.ts";
import { expectMetrics, expectRows } from "./truth.ts";

const EVENTS_PER_SECOND = 2_000;
const MAX_EVENTS = scaled(6_000, 400_000);
const PASSWORD = "hunter2";
const WITHIN = { timeoutMs: 60_000 };
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

let vhost: TestVhost | undefined;
let scene: SceneOnRedis | undefined;

afterEach(async () => {
  await scene?.close();
  await vhost?.drop();
  scene = undefined;
  vhost = undefined;
});

const ROLES: readonly RoleName[] = ["receiver", "datadog-processor", "datadog-processor", "postgres-processor", "postgres-processor"];

/** Every role has only the rights in docs/permissions.md. */
async function start(cluster: RedisCluster): Promise<SceneOnRedis> {
  vhost = await createVhost();
  for (const node of cluster.nodes) {
    const admin = cluster.admin(node);
    for (const block of [...new Set(ROLES), "dashboard, read-only", "on a cluster, besides"])
      await grantDocumented(admin, `redis ${block}`, PASSWORD);
    admin.disconnect();
  }
  const started = await startSceneOn(cluster, { brokerUrl: vhost.url, processes: {} });
  scene = started;
  const urlOf = (role: RoleName): string => cluster.url.replace("://", `://cme-${role}:${PASSWORD}@`);
  await Promise.all(ROLES.map((role) => started.fleet.add(role, { REDIS_URL: urlOf(role) })));
  await started.fleet.whenReady();
  return started;
}

const startLoad = ({ publisher }: SceneOnRedis, seed: number): Load =>
  Load.start({ publisher, eventsPerSecond: EVENTS_PER_SECOND, maxEvents: MAX_EVENTS, seed });

/** The node with all the queues. */
async function nodeOfTheQueues({ queues }: SceneOnRedis, cluster: RedisCluster): Promise<{ slot: number; node: RedisServer }> {
  const slot = await queues.redis.cluster("KEYSLOT", "{cme}");
  const port = (await queues.redis.cluster("SLOTS")).find(([from, to]) => from <= slot && slot <= to)?.[2]?.[1];
  const node = cluster.nodes.find((candidate) => candidate.port === port);
  if (node === undefined) throw new Error("no node has the queues");
  return { slot, node };
}

async function tasksOf(cluster: RedisCluster, node: RedisServer): Promise<number> {
  const admin = cluster.admin(node);
  const keys = await admin.keys("{cme:*}:datadog:task:*");
  admin.disconnect();
  return keys.length;
}

it("creates every row and every metric, with queues on one node and a Store on all three", async () => {
  const cluster = await startRedisCluster({ args: DURABLE });
  const playing = await start(cluster);
  const load = startLoad(playing, 1);
  await pause(1_000);
  const truth = await load.stop();
  await expectRows(playing.database, truth, WITHIN);
  await expectMetrics(playing.sink, truth, WITHIN);
  await expectAllDone(playing.queues, WITHIN.timeoutMs);
  const tasks = await Promise.all(cluster.masters.map((master) => tasksOf(cluster, master)));
  expect(Math.min(...tasks)).toBeGreaterThan(0);
  expect(tasks.reduce((sum, count) => sum + count)).toBe(truth.tasks.length);
  expect(truth.events).toBeGreaterThan(EVENTS_PER_SECOND / 2);
});

it("continues on the replica that replaces the node of the queues, on command or because that one died", async () => {
  const cluster = await startRedisCluster({ args: DURABLE, replicas: 1 });
  const [first] = cluster.masters;
  const [replica] = cluster.replicas;
  if (first === undefined || replica === undefined) throw new Error("the cluster has no replica");
  const playing = await start(cluster);
  expect((await nodeOfTheQueues(playing, cluster)).node).toBe(first);
  const one = startLoad(playing, 1);
  await pause(1_500);
  const admin = cluster.admin(replica);
  await admin.cluster("FAILOVER");
  await expect.poll(async () => (await nodeOfTheQueues(playing, cluster)).node, { timeout: 10_000 }).toBe(replica);
  admin.disconnect();
  const truth = await one.stop();
  await expectRows(playing.database, truth, WITHIN);
  await expectMetrics(playing.sink, truth, WITHIN);

  // A master that dies has not replicated its last writes; now there are none of these.
  await replica.kill();
  await expectReadiness(playing.fleet.processes(), false, WITHIN.timeoutMs);
  const two = startLoad(playing, 2);
  const all = together(truth, await two.stop());
  await expectRows(playing.database, all, WITHIN);
  await expectMetrics(playing.sink, all, WITHIN);
  await expectAllDone(playing.queues, WITHIN.timeoutMs);
  await expectReadiness(playing.fleet.processes(), true, WITHIN.timeoutMs);
});

// Scripts of BullMQ that meet half-moved keys fail: their work in progress is taken over later, as after a kill.
it.runIf(SOAK)("creates every row and every metric while the queues repeatedly move to another node", async () => {
  const cluster = await startRedisCluster({ args: DURABLE });
  const playing = await start(cluster);
  const load = startLoad(playing, 3);
  for (let round = 0; round < 5; round += 1) {
    await pause(3_000);
    const { slot, node } = await nodeOfTheQueues(playing, cluster);
    const target = cluster.masters[(cluster.masters.indexOf(node) + 1) % cluster.masters.length] ?? node;
    await cluster.moveSlot(slot, target);
    await expect.poll(async () => (await nodeOfTheQueues(playing, cluster)).node, { timeout: 10_000 }).toBe(target);
  }
  const truth = await load.stop();
  await expectRows(playing.database, truth, WITHIN);
  await expectMetrics(playing.sink, truth, WITHIN);
  await expectAllDone(playing.queues, WITHIN.timeoutMs);
});
