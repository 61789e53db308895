/** Receiver and processors run as users with exactly the rights in docs/permissions.md. */
import { connectDatabase, deleteOldTasks, maintainPartitions } from "@celery-metrics-exporter/db";
import { readCorpus, type CorpusFrame } from "@celery-metrics-exporter/celery/testing";
import { EXPORTERS } from "@celery-metrics-exporter/pipeline";
import type { RunningRoles } from "@celery-metrics-exporter/runtime";
import { documentedCommands, freePort } from "@celery-metrics-exporter/testkit";
import amqp, { type Options } from "amqplib";
import { Worker } from "bullmq";
import { afterAll, beforeAll, expect, it } from "vitest";
import { refusals } from "./refusals.ts";
import { openScene, PREFIX, ROLE_NAMES, userOf, type Scene } from "./scene.ts";

/** Makes it necessary to remember excluded tasks, and to forget what was stored about them before. */
const EXCLUDED = "shop.mail.send";
const SETTINGS = { FILTER_TASK_NAMES_EXCLUDE: EXCLUDED, BATCH_MAX_EVENTS: "20", DATADOG_GAUGE_INTERVAL_MS: "100" };
const POLL = { timeout: 60_000, interval: 100 };
const DEAD_LETTERS_KEPT = 10_000;

const exporterNames = EXPORTERS.map(({ name }) => name);
const corpus = readCorpus("celery-5.6-amqp");
const kept = Object.entries(corpus.expected).filter(([, { name }]) => name !== EXCLUDED);

let scene: Scene;
let datadog: RunningRoles;
let postgres: RunningRoles;
let prometheusPort: number;

beforeAll(async () => {
  scene = await openScene();
  prometheusPort = await freePort();
});
afterAll(async () => {
  await scene?.close();
});

async function publish(messages: readonly { readonly body: Buffer; readonly properties?: Options.Publish }[]): Promise<void> {
  const connection = await amqp.connect(scene.vhost.url);
  const channel = await connection.createConfirmChannel();
  for (const { body, properties = { contentType: "application/json", contentEncoding: "utf-8" } } of messages) {
    channel.publish("celeryev", "task.any", body, properties);
  }
  await channel.waitForConfirms();
  await connection.close();
}

function toMessage(frame: CorpusFrame): { body: Buffer; properties: Options.Publish } {
  if (frame.transport !== "amqp") throw new Error("recorded on Redis");
  return { body: frame.body, properties: { ...frame.properties, headers: { ...frame.properties.headers } } };
}

function event(uuid: string, type = "task-received"): { body: Buffer } {
  const fields = {
    type,
    uuid,
    name: "shop.cart.total",
    hostname: "w1@host-a",
    timestamp: 1_700_000_000,
    pid: 1,
    clock: 1,
    utcoffset: 0,
    runtime: 1,
  };
  return { body: Buffer.from(JSON.stringify(fields)) };
}

/** Takes a job and dies. */
async function takeAndDie(queue: string): Promise<void> {
  const connection = scene.redis.duplicate({ maxRetriesPerRequest: null });
  const worker = new Worker(queue, undefined, { connection, prefix: PREFIX, autorun: false });
  const job = await worker.getNextJob("a process that died");
  await worker.close();
  connection.disconnect();
  expect(await scene.redis.del(`${PREFIX}:${queue}:${job?.id}:lock`)).toBe(1);
}

async function statuses(): Promise<Record<string, string>> {
  const { rows } = await scene.database.query<{ task_id: string; status: string }>("select task_id, status from celery_task");
  return Object.fromEntries(rows.map(({ task_id, status }) => [task_id, status]));
}

async function hasRow(id: string): Promise<boolean> {
  return (await statuses())[id] !== undefined;
}

/** Where the latest letters come from. */
async function sourcesOfLetters(): Promise<string[]> {
  return (await scene.queue("dead-letter").getJobs(["wait"], 0, 9)).map(({ data }) => (data as { source: string }).source);
}

/** The reasons of the latest letters. */
async function lettersKept(): Promise<string[]> {
  return (await scene.queue("dead-letter").getJobs(["wait"], 0, 9)).map(({ name }) => name).sort();
}

async function isReady({ healthUrl }: RunningRoles): Promise<string> {
  const answer = await fetch(`${healthUrl}/readyz`);
  return `${answer.status} ${await answer.text()}`;
}

/** The sum of a metric's series, as Prometheus scrapes them. */
async function scraped(metric: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${prometheusPort}/metrics`)).text();
  return [...text.matchAll(new RegExp(`^${metric}\\{.*\\} (.*)$`, "gm"))].reduce((sum, [, value]) => sum + Number(value), 0);
}

it("is enough for processing events: filters, delayed jobs, takeovers, dead letters and their trimming", async () => {
  await scene.redis.lpush(`${PREFIX}:dead-letter:wait`, ...Array.from({ length: DEAD_LETTERS_KEPT }, (_, index) => `old-${index}`));
  await scene.start("receiver", { ...SETTINGS, EXPORTERS: exporterNames.join() });
  await scene.database.query("alter table celery_task add constraint no_poison check (task_id <> 'poison')");
  // In reverse order: events without a name arrive first, and are stored before it is known that they are excluded.
  await publish([...corpus.frames.map(toMessage).reverse(), event("poison"), { body: Buffer.from("no event") }]);
  await expect.poll(() => scene.redis.llen(`${PREFIX}:postgres:wait`), POLL).toBeGreaterThan(5);
  // One letter after the other: of processes that trim at the same moment, each removes one letter, and the next has nothing to trim.
  await expect.poll(lettersKept, POLL).toContain("body");
  for (const queue of exporterNames) await takeAndDie(queue);
  await scene.queue("datadog").add("batch", { v: "of a later release" });
  datadog = await scene.start("datadog-processor", SETTINGS);
  await expect.poll(lettersKept, POLL).toContain("payload");
  postgres = await scene.start("postgres-processor", { ...SETTINGS, POSTGRES_RETENTION_DAYS: "1" });

  for (const name of exporterNames.filter((other) => other !== "datadog" && other !== "postgres")) {
    await scene.queue(name).add("batch", { v: "of a later release" });
    const roles = await scene.start(`${name}-processor`, { ...SETTINGS, PROMETHEUS_PORT: String(prometheusPort) });
    await expect.poll(sourcesOfLetters, POLL).toContain(name);
    await expect.poll(() => scene.redis.llen(`${PREFIX}:${name}:wait`), POLL).toBe(0);
    expect(await isReady(roles)).toContain("200");
  }

  const wanted = Object.fromEntries(kept.map(([id, { status }]) => [id, status]));
  await expect.poll(statuses, POLL).toEqual(wanted);
  const successes = kept.filter(([, { status }]) => status === "SUCCESS").length;
  await expect.poll(() => scraped("celery_task_succeeded_total"), POLL).toBe(successes);
  await expect.poll(() => scene.sink.total("celery.task.success_count"), POLL).toBe(successes);
  await expect.poll(lettersKept, POLL).toEqual(expect.arrayContaining(["body", "payload", "refused"]));
  expect(await scene.queue("dead-letter").getWaitingCount()).toBe(DEAD_LETTERS_KEPT);
  for (const roles of [datadog, postgres]) expect(await isReady(roles)).toContain("200");
  expect(await refusals(scene.redis)).toEqual([]);
});

it("is enough for retention, of rows and of events", async () => {
  const [id] = kept[0] ?? [""];
  await scene.database.query("update celery_task set created_at = 'epoch', last_event_at = 'epoch', eta = null where task_id = $1", [id]);
  const database = await connectDatabase({ url: scene.databaseUrlOf("cme_processor") });
  expect(await deleteOldTasks(database, { olderThanDays: 1 })).toBe(1);
  const [yesterday] = (await scene.database.query<{ name: string }>("select min(inhrelid::regclass::text) as name from pg_inherits")).rows;
  await scene.database.query(`drop table ${yesterday?.name}`);
  expect(await maintainPartitions(database, 30)).toEqual({ created: 1, dropped: 0 });
  await database.close();
  expect(await hasRow(id)).toBe(false);
});

it("a revoked right on the table stops its events, loses none, and is reported", async () => {
  await scene.database.query(scene.sql("REVOKE INSERT ON celery_task FROM cme_processor"));
  const before = await scene.queue("dead-letter").getJobCountByTypes("failed", "delayed");
  await publish([event("while-revoked")]);
  await expect.poll(() => isReady(postgres), POLL).toMatch(/^503 .*permission denied for table celery_task/);
  // Returns the jobs that it could not finish.
  await postgres.stop();
  await scene.database.query(scene.sql("GRANT INSERT ON celery_task TO cme_processor"));
  // BullMQ uses other scripts if it may not read Redis' version.
  await scene.redis.call("ACL", "SETUSER", userOf("postgres-processor"), "+info");
  postgres = await scene.start("postgres-processor", SETTINGS);
  await expect.poll(() => hasRow("while-revoked"), POLL).toBe(true);
  expect(await scene.queue("dead-letter").getJobCountByTypes("failed", "delayed")).toBe(before);
});

it.each(["evalsha", "hset"])("a revoked Redis command stops events, loses none, and is reported: %s", async (command) => {
  const id = `while-${command}`;
  scene.sink.clear();
  await scene.redis.call("ACL", "SETUSER", userOf("datadog-processor"), `-${command}`);
  try {
    await publish([event(id), event(id, "task-started"), event(id, "task-succeeded")]);
    await expect.poll(() => isReady(datadog), POLL).toMatch(/^503 .*(NOPERM|The user executing the script can't run this command)/);
  } finally {
    await scene.redis.call("ACL", "SETUSER", userOf("datadog-processor"), `+${command}`);
  }
  await expect.poll(() => scene.sink.total("celery.task.success_count"), POLL).toBe(1);
  await expect.poll(() => isReady(datadog), POLL).toMatch(/^200/);
  const letters = await scene.queue("dead-letter").getJobs(["wait"], 0, 9);
  expect(letters.filter(({ data }) => JSON.stringify(data).includes(id))).toEqual([]);
});

it.each(ROLE_NAMES)("contains exactly the commands that %s needs", async (name) => {
  const used = await scene.record.commandsOf(userOf(name));
  expect([...documentedCommands(`redis ${name}`)].sort()).toEqual([...used].sort());
});
