/** The monitor runs as users with exactly the rights in docs/permissions.md. */
import type { Observation } from "@celery-metrics-exporter/celery";
import { ObservationOutlet } from "@celery-metrics-exporter/pipeline";
import { createLogger, startRoles, type HealthReport, type RunningRoles } from "@celery-metrics-exporter/runtime";
import {
  countingNeedsRight,
  createVhost,
  documentedCommands,
  documentedRabbitmqPermissions,
  grantDocumented,
  recordCommands,
  sendPrioritized,
  startCeleryWorker,
  startRedis,
  type CommandRecord,
  type RedisServer,
  type TestVhost,
} from "@celery-metrics-exporter/testkit";
import amqp from "amqplib";
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { monitorRole, type monitor } from "monitor";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { refusals } from "./refusals.ts";

const PASSWORD = "opensesame";
const POLL = { timeout: 30_000 };

let server: RedisServer;
let redis: Redis;
let record: CommandRecord;
const releases: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  record = await recordCommands(server.url);
  for (const block of ["redis monitor", "redis monitor's broker"]) await grantDocumented(redis, block, PASSWORD);
});
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});
afterAll(async () => {
  record?.stop();
  redis?.disconnect();
  await server?.stop();
});

function urlOf(user: string): string {
  return Object.assign(new URL(server.url), { username: user, password: PASSWORD }).href;
}

interface Running {
  readonly observations: readonly Observation[];
  readonly roles: RunningRoles;
}

async function start(brokerUrl: string, env: Readonly<Record<string, string>> = {}, publishing?: typeof monitor): Promise<Running> {
  const observations: Observation[] = [];
  const noting = monitorRole(() => (published) => {
    observations.push(...published);
    return Promise.resolve();
  });
  const settings = {
    REDIS_URL: urlOf("cme-monitor"),
    CELERY_BROKER_URL: brokerUrl,
    MONITOR_QUEUES: "mail",
    MONITOR_INTERVAL_SECONDS: "1",
    MONITOR_INSPECT_INTERVAL_SECONDS: "1",
    ...env,
  };
  const roles = await startRoles([publishing ?? noting], settings, createLogger("monitor", "silent"));
  releases.push(() => roles.stop());
  return { observations, roles };
}

async function startWorker(brokerUrl: string): Promise<void> {
  const worker = await startCeleryWorker({ brokerUrl, app: "inspected", queues: ["celery"], hostname: "w1@host" });
  releases.push(() => worker.kill());
}

function lengths({ observations }: Running): unknown {
  const newest = observations.findLast((observation) => observation.type === "queues-observed");
  return newest?.queues.map(({ name, messages }) => [name, messages]);
}

function workers({ observations }: Running): unknown {
  const newest = observations.findLast((observation) => observation.type === "workers-observed");
  return newest?.workers.map(({ hostname, queues }) => [hostname, queues]);
}

async function health({ roles }: Running): Promise<HealthReport> {
  return (await (await fetch(`${roles.healthUrl}/readyz`)).json()) as HealthReport;
}

/** How many workers it made send task events. */
async function eventsEnabled({ roles }: Running): Promise<string | undefined> {
  const text = await (await fetch(`${roles.healthUrl}/metrics`)).text();
  return /monitor_events_enabled_total\S* (\d+)/.exec(text)?.[1];
}

describe("on Redis", () => {
  it("is enough to count queues, to ask workers and to switch on their events", async () => {
    await startWorker(server.url);
    await sendPrioritized(server.url, "mail", [0, 9]);
    const running = await start(urlOf("cme-monitor-broker"), { CELERY_ENABLE_EVENTS: "true" });
    await expect.poll(() => workers(running), POLL).toEqual([["w1@host", ["celery"]]]);
    expect(await eventsEnabled(running)).toBe("1");
    await expect
      .poll(() => lengths(running), POLL)
      .toEqual([
        ["mail", 2],
        ["celery", 0],
      ]);
    expect((await health(running)).components).toMatchObject({ monitor: "active", "monitor-queues": "up", "monitor-workers": "up" });
    await running.roles.stop();
    expect(await refusals(redis)).toEqual([]);
  });

  it.each([
    ["redis monitor", "cme-monitor"],
    ["redis monitor's broker", "cme-monitor-broker"],
  ])("contains exactly the commands that are needed: %s", async (block, user) => {
    const used = await record.commandsOf(user);
    expect([...documentedCommands(block)].sort()).toEqual([...used].sort());
  });

  it("is enough to publish to an exporter that observes, and contains exactly the commands that it needs besides", async () => {
    const block = "redis monitor, for an exporter that observes";
    await grantDocumented(redis, block, PASSWORD);
    await redis.call("ACL", "SETUSER", "cme-monitor", "~{cme}:observing:*");
    const queue = new Queue("observing", { connection: redis, prefix: "{cme}" });
    releases.push(() => queue.close());
    await queue.waitUntilReady();
    const role = monitorRole((connection, { config, logger, metrics, lifecycle }) => {
      const exporters = [{ name: "observing", takes: [], observes: true, healthPort: 0 }];
      const outlet = new ObservationOutlet({ redis: connection, prefix: config.QUEUE_PREFIX, exporters, logger, metrics });
      lifecycle.defer("outlet", () => outlet.close());
      return (observations) => outlet.publish(observations);
    });
    const running = await start(urlOf("cme-monitor-broker"), {}, role);
    await expect.poll(() => queue.getWaitingCount(), POLL).toBeGreaterThan(3);
    const [job] = await queue.getWaiting();
    await job?.remove();
    const { length } = await queue.getWaiting();
    await expect.poll(() => queue.getWaitingCount(), POLL).toBeGreaterThan(length);
    await running.roles.stop();
    expect(await refusals(redis)).toEqual([]);
    const documented = [...documentedCommands("redis monitor"), ...documentedCommands(block)];
    expect(documented.sort()).toEqual([...(await record.commandsOf("cme-monitor"))].sort());
  });

  it.each([
    "LPUSH celery task",
    "RPUSH mail task",
    "DEL mail",
    "LTRIM mail 1 0",
    "EXPIRE mail 1",
    "RPOP mail",
    "GET other",
    "HGETALL unacked",
    "PUBLISH /0.celeryev x",
    "PUBLISH /1.celery.pidbox x",
    "RPUSH asking.reply.celery.pidbox x",
    "KEYS *",
    "FLUSHALL",
  ])("allows nothing else on the broker: %s", async (command) => {
    const broker = new Redis(urlOf("cme-monitor-broker"), { enableReadyCheck: false });
    const [name = "", ...args] = command.split(" ");
    await expect(broker.call(name, ...args)).rejects.toThrow("NOPERM");
    broker.disconnect();
  });
});

describe("on RabbitMQ", () => {
  let vhost: TestVhost;
  let documentedUrl: string;
  let askingUrl: string;
  let countingUrl: string;

  beforeAll(async () => {
    vhost = await createVhost();
    const blocks = ["sh monitor", "sh monitor that never asks"].map(documentedRabbitmqPermissions);
    [documentedUrl = ""] = await vhost.createUsers(blocks);
    // What the document adds for RabbitMQ 4.3.1 and later.
    const more = (await countingNeedsRight(vhost.url)) ? "|^(celery|mail)$" : "";
    [askingUrl = "", countingUrl = ""] = await vhost.createUsers(blocks.map((block) => ({ ...block, read: `${block.read}${more}` })));
  });
  afterAll(() => vhost?.drop());

  it("asks nobody and is ready until somebody creates the exchange for replies", async () => {
    const running = await start(askingUrl);
    await expect
      .poll(async () => (await health(running)).components["monitor-workers"], POLL)
      .toMatch(/^not permitted: .*reply\.celery\.pidbox/);
    expect((await health(running)).ready).toBe(true);
    await running.roles.stop();
    // As kombu does.
    await onChannel(vhost.url, (channel) => channel.assertExchange("reply.celery.pidbox", "direct", { durable: false }));
  });

  it("is enough to count queues, to ask workers and to switch on their events", async () => {
    await startWorker(vhost.url);
    await sendPrioritized(vhost.url, "mail", [0, 9]);
    const running = await start(askingUrl, { CELERY_ENABLE_EVENTS: "true" });
    await expect.poll(() => workers(running), POLL).toEqual([["w1@host", ["celery"]]]);
    expect(await eventsEnabled(running)).toBe("1");
    await expect
      .poll(() => lengths(running), POLL)
      .toEqual([
        ["mail", 2],
        ["celery", 0],
      ]);
    expect((await health(running)).components).toMatchObject({ monitor: "active", "monitor-queues": "up", "monitor-workers": "up" });
  });

  it("is enough to count queues without asking", async () => {
    const running = await start(countingUrl, { MONITOR_INSPECT: "false" });
    await expect.poll(() => lengths(running), POLL).toEqual(expect.arrayContaining([["mail", 2]]));
    expect((await health(running)).ready).toBe(true);
  });

  it.each<[string, (channel: amqp.Channel) => unknown]>([
    ["publish a task", (channel) => channel.sendToQueue("mail", Buffer.from("task"))],
    ["publish an event", (channel) => channel.publish("celeryev", "task.sent", Buffer.from("event"))],
    ["read a task", (channel) => channel.get("mail")],
    ["delete a queue", (channel) => channel.deleteQueue("mail")],
    ["empty a queue", (channel) => channel.purgeQueue("mail")],
    ["create a queue", (channel) => channel.assertQueue("another")],
  ])("does not allow to %s", async (_what, step) => {
    await onChannel(vhost.url, (channel) => channel.assertExchange("celeryev", "topic", { durable: true }));
    await expect(onChannel(documentedUrl, step)).rejects.toThrow(/ACCESS_REFUSED/);
  });
});

/** Rejects with the error for which the broker closed the channel, if it did. */
async function onChannel(url: string, step: (channel: amqp.Channel) => unknown): Promise<void> {
  const connection = await amqp.connect(url);
  try {
    const channel = await connection.createConfirmChannel();
    const failed = new Promise<never>((_resolve, reject) => channel.on("error", reject));
    failed.catch(() => {});
    await Promise.race([failed, step(channel)]);
    await Promise.race([failed, channel.waitForConfirms()]);
  } finally {
    await connection.close();
  }
}
