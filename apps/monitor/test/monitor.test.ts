/** The monitor with real brokers and real Celery workers. */
import {
  createVhost,
  sendPrioritized,
  startCeleryWorker,
  startRedis,
  TcpProxy,
  type CeleryWorker,
  type CeleryWorkerOptions,
  type RedisServer,
} from "@celery-metrics-exporter/testkit";
import { Leader, Leadership } from "@celery-metrics-exporter/pipeline";
import { Health, createLogger, loadConfig } from "@celery-metrics-exporter/runtime";
import { Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Config, watched } from "../src/config.ts";
import { startMonitor, type RunningMonitor } from "./running-monitor.ts";

const aNumber: unknown = expect.any(Number);
const POLL = { timeout: 20_000 };

let server: RedisServer;
let admin: Redis;
beforeAll(async () => {
  server = await startRedis();
  admin = new Redis(server.url);
});
afterAll(async () => {
  admin?.disconnect();
  await server?.stop();
});
beforeEach(() => admin.flushall());

const releases: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

async function monitor(env: Readonly<Record<string, string>>): Promise<RunningMonitor> {
  const started = await startMonitor({ REDIS_URL: server.url, ...env });
  releases.push(() => started.stop());
  return started;
}

async function worker(options: CeleryWorkerOptions): Promise<CeleryWorker> {
  const started = await startCeleryWorker({ app: "inspected", queues: ["mail"], hostname: "w1@host", ...options });
  releases.push(() => started.kill());
  return started;
}

const BROKERS = {
  Redis: () => Promise.resolve(`${server.url}/5`),
  RabbitMQ: async (): Promise<string> => {
    const vhost = await createVhost();
    releases.push(() => vhost.drop());
    return vhost.url;
  },
} as const;

describe.each(Object.entries(BROKERS))("on %s", (name, openBroker) => {
  it.each(["prefork", "threads", "solo"] as const)("finds a worker with the pool %s, its queues and their lengths", async (pool) => {
    const brokerUrl = await openBroker();
    const { queue, queues, worker: seen } = await monitor({ CELERY_BROKER_URL: brokerUrl, MONITOR_QUEUES: "reports" });
    await sendPrioritized(brokerUrl, "reports", [0, 0, 0]);
    const { pid } = await worker({ brokerUrl, pool, concurrency: 3, queues: ["mail", "images"] });
    await expect
      .poll(() => seen("w1@host"), POLL)
      .toMatchObject({
        hostname: "w1@host",
        queues: expect.arrayContaining(["mail", "images"]) as unknown,
        pid,
        uptime: aNumber,
        concurrency: pool === "solo" ? 1 : 3,
        prefetchCount: aNumber,
      });
    const consumers = (count: number): object => (name === "Redis" ? {} : { consumers: count });
    await expect.poll(() => queue("mail"), POLL).toEqual({ name: "mail", messages: 0, ...consumers(1) });
    expect(queue("reports")).toEqual({ name: "reports", messages: 3, ...consumers(0) });
    expect(queues()?.broker).toBe(name.toLowerCase());
    expect(queues()?.unacked).toEqual(name === "Redis" ? { messages: 0 } : undefined);
  });

  it("remembers the queues of workers that are gone", async () => {
    const brokerUrl = await openBroker();
    const first = await monitor({ CELERY_BROKER_URL: brokerUrl });
    const mail = await worker({ brokerUrl });
    await expect.poll(() => first.worker("w1@host"), POLL).toBeDefined();
    await mail.kill();
    await first.stop();
    await sendPrioritized(brokerUrl, "mail", [0, 0]);
    const second = await monitor({ CELERY_BROKER_URL: brokerUrl });
    await expect.poll(() => second.queue("mail")?.messages, POLL).toBe(2);
    await expect.poll(() => second.workers()?.workers, POLL).toEqual([]);
  });

  it("is ready although no worker has remote control", async () => {
    const brokerUrl = await openBroker();
    await worker({ brokerUrl, env: { REMOTE_CONTROL: "0" } });
    const { workers, health, metric } = await monitor({ CELERY_BROKER_URL: brokerUrl, MONITOR_QUEUES: "mail" });
    await expect.poll(() => workers()?.workers, POLL).toEqual([]);
    expect(await health()).toMatchObject({ ready: true, components: { monitor: "active", "monitor-workers": "up" } });
    expect(await metric(/monitor_polls_total\{kind="workers",outcome="ok"\}/)).toBeGreaterThan(0);
  });

  it("counts and reports replies that it cannot read, once", async () => {
    const brokerUrl = await openBroker();
    await worker({ brokerUrl, env: { TASK_SERIALIZER: "pickle", C_FORCE_ROOT: "1" } });
    await worker({ brokerUrl, hostname: "w2@host", env: { TASK_SERIALIZER: "msgpack" } });
    const { worker: seen, logs, metric, health } = await monitor({ CELERY_BROKER_URL: brokerUrl });
    await expect.poll(() => seen("w2@host")?.pid, POLL).toBeDefined();
    await expect.poll(() => metric(/monitor_replies_unreadable_total\{reason="pickle"\}/), POLL).toBeGreaterThan(3);
    expect(seen("w1@host")).toBeUndefined();
    expect(logs.filter((line) => line.includes("cannot read the reply"))).toHaveLength(1);
    expect((await health()).ready).toBe(true);
  });

  it("never publishes with MONITOR_INSPECT=false, and needs no right to", async () => {
    const brokerUrl = await openBroker();
    const messages: string[] = [];
    if (name === "Redis") {
      const listener = new Redis(brokerUrl);
      releases.push(() => listener.disconnect());
      listener.on("pmessage", (_pattern: string, channel: string) => messages.push(channel));
      await listener.psubscribe("*");
    }
    await worker({ brokerUrl });
    const { queue, observations, health, metric } = await monitor({
      CELERY_BROKER_URL: brokerUrl,
      MONITOR_QUEUES: "mail",
      MONITOR_INSPECT: "false",
    });
    await expect.poll(() => observations.length, POLL).toBeGreaterThan(3);
    expect(queue("mail")?.messages).toBe(0);
    expect(new Set(observations.map(({ type }) => type))).toEqual(new Set(["queues-observed"]));
    expect(messages.filter((channel) => channel.includes("pidbox"))).toEqual([]);
    expect(Object.keys((await health()).components)).not.toContain("monitor-control-broker");
    expect(await metric(/monitor_polls_total\{kind="workers"/)).toBe(0);
  });

  it("is active alone: others stand by, and one of them takes over", async () => {
    const brokerUrl = await openBroker();
    const env = { CELERY_BROKER_URL: brokerUrl, MONITOR_QUEUES: "mail" };
    const [first, second] = [await monitor(env), await monitor(env)];
    await expect.poll(() => first.observations.length, POLL).toBeGreaterThan(3);
    expect(second.observations).toEqual([]);
    expect((await second.health()).components["monitor"]).toBe("standby: another monitor is active");
    expect([await first.metric(/monitor_active/), await second.metric(/monitor_active/)]).toEqual([1, 0]);
    await first.stop();
    await expect.poll(() => second.queues(), POLL).toBeDefined();
    await expect.poll(() => second.workers(), POLL).toBeDefined();
    expect(await second.metric(/monitor_active/)).toBe(1);
  });
});

it("counts all priorities below a key prefix, with other names of the unacknowledged", async () => {
  const brokerUrl = `${server.url}/5`;
  await sendPrioritized(brokerUrl, "mail", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], { KEY_PREFIX: "shop:" });
  const other = new Redis(brokerUrl);
  releases.push(() => other.disconnect());
  await other.hset("shop:pending", "tag", "[]");
  const {
    queue,
    queues,
    worker: seen,
  } = await monitor({
    CELERY_BROKER_URL: brokerUrl,
    CELERY_GLOBAL_KEYPREFIX: "shop:",
    CELERY_UNACKED_KEY: "pending",
    MONITOR_QUEUES: "mail",
  });
  await expect.poll(() => queue("mail"), POLL).toEqual({ name: "mail", messages: 10, byPriority: { 0: 3, 3: 3, 6: 3, 9: 1 } });
  expect(queues()?.unacked).toEqual({ messages: 1 });
  await worker({ brokerUrl, queues: ["idle"], env: { KEY_PREFIX: "shop:" } });
  await expect.poll(() => seen("w1@host")?.queues, POLL).toEqual(["idle"]);
});

it("asks through another control exchange", async () => {
  const brokerUrl = `${server.url}/5`;
  await worker({ brokerUrl, env: { CONTROL_EXCHANGE: "shop" } });
  const { worker: seen } = await monitor({ CELERY_BROKER_URL: brokerUrl, CELERY_CONTROL_EXCHANGE: "shop" });
  await expect.poll(() => seen("w1@host"), POLL).toBeDefined();
});

it("asks a few seconds after the last time at the earliest, however many workers come online", async () => {
  const brokerUrl = `${server.url}/5`;
  const env = { CELERY_BROKER_URL: brokerUrl, MONITOR_INSPECT_INTERVAL_SECONDS: "3600" };
  const { observations } = await monitor(env);
  const askedAt = (): number[] => observations.filter(({ type }) => type === "workers-observed").map(({ timestamp }) => timestamp);
  const mark = setInterval(() => void admin.set("{cme}:monitor:online", "1"), 50);
  releases.push(() => clearInterval(mark));
  await expect.poll(() => askedAt().length, { timeout: 60_000 }).toBeGreaterThanOrEqual(4);
  const pauses = askedAt().map((at, index, all) => at - (all[index - 1] ?? Number.NEGATIVE_INFINITY));
  expect(Math.min(...pauses)).toBeGreaterThan(4.9);
});

it("leaves the mark of a new worker to the one that is active, and asks when it is active itself", async () => {
  const env = { CELERY_BROKER_URL: `${server.url}/5`, REDIS_URL: server.url, MONITOR_INSPECT_INTERVAL_SECONDS: "3600" };
  const logger = createLogger("monitor", "silent");
  const leadership = new Leadership({ redis: admin, prefix: "{cme}", stream: watched(loadConfig(Config, env)), role: "monitor" });
  const other = new Leader({ leadership, role: "monitor", health: new Health().component("monitor"), logger });
  releases.push(() => other.stop());
  await other.start();
  const { health, observations } = await monitor(env);
  expect((await health()).components["monitor"]).toBe("standby: another monitor is active");
  await admin.set("{cme}:monitor:online", "1");
  // It would take the mark at the next of its turns, which come every second.
  await sleep(3_000);
  expect(await admin.exists("{cme}:monitor:online")).toBe(1);
  expect(observations).toEqual([]);
  await other.stop();
  await expect.poll(() => observations.some(({ type }) => type === "workers-observed"), POLL).toBe(true);
  expect(await admin.exists("{cme}:monitor:online")).toBe(0);
});

it("retries while the broker is away, is not ready meanwhile, and continues", async () => {
  const proxy = await TcpProxy.start(server.port);
  releases.push(() => proxy.stop());
  const { observations, health, metric } = await monitor({
    CELERY_BROKER_URL: `redis://127.0.0.1:${proxy.port}/5`,
    MONITOR_QUEUES: "mail",
  });
  await expect.poll(() => observations.length, POLL).toBeGreaterThan(1);
  await proxy.stop();
  await expect.poll(async () => (await health()).components["monitor-queues"], POLL).toMatch(/broker is unavailable/);
  expect((await health()).ready).toBe(false);
  expect(await metric(/monitor_polls_total\{kind="queues",outcome="failed"\}/)).toBeGreaterThan(2);
  const before = observations.length;
  await proxy.restart();
  await expect.poll(() => observations.length, POLL).toBeGreaterThan(before);
  await expect.poll(async () => (await health()).ready, POLL).toBe(true);
});

it("is ready and says what is missing if it may not ask the workers", async () => {
  await admin.call(
    "ACL",
    "SETUSER",
    "counts-only",
    "reset",
    "on",
    ">secret",
    "resetchannels",
    "~*",
    "+llen",
    "+hlen",
    "+zrange",
    "+select",
  );
  const url = server.url.replace("://", "://counts-only:secret@");
  const { health, logs, metric } = await monitor({ CELERY_BROKER_URL: `${url}/5`, MONITOR_QUEUES: "mail" });
  await expect.poll(async () => (await health()).components["monitor-workers"], POLL).toMatch(/^not permitted: NOPERM .*command/);
  expect((await health()).ready).toBe(true);
  await expect.poll(() => metric(/monitor_polls_total\{kind="workers",outcome="denied"\}/), POLL).toBeGreaterThan(2);
  expect(logs.filter((line) => line.includes("ask the workers"))).toHaveLength(1);
});
