/** `celery-metrics-exporter replay` as a user with exactly the rights in docs/permissions.md. */
import { taskReceived, taskStarted } from "@celery-metrics-exporter/celery/testing";
import { DeadLetters, EXPORTERS, MAX_DEAD_LETTERS, RECEIVER, encodeBatch, type DeadLetter } from "@celery-metrics-exporter/pipeline";
import { EXIT_UNAVAILABLE, Metrics, createLogger } from "@celery-metrics-exporter/runtime";
import {
  documentedCommands,
  grantDocumented,
  recordCommands,
  startRedis,
  type CommandRecord,
  type RedisServer,
} from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { refusals } from "./refusals.ts";
import { PASSWORD, PREFIX } from "./scene.ts";

const BIN = fileURLToPath(new URL("../../../apps/cli/bin/celery-metrics-exporter.js", import.meta.url));
const BLOCK = "redis replay";
const USER = "cme-replay";
const EXCLUDED = taskReceived({ uuid: "excluded", name: "shop.mail.send" });

const message = { source: RECEIVER, reason: "content_type", detail: "", readAs: { contentType: "application/json" } };
const ofDatadog = { source: "datadog", reason: "refused", detail: "" };
const ofPostgres = { source: "postgres", reason: "refused", detail: "" };
const ofPrometheus = { source: "prometheus", reason: "refused", detail: "" };
/** The `5` comes back as a new letter. */
const TO_EVERY_EXPORTER: DeadLetter = { ...message, raw: JSON.stringify([taskStarted({ uuid: "sent" }), EXCLUDED, 5]) };
const REPLAYABLE: readonly DeadLetter[] = [
  TO_EVERY_EXPORTER,
  { ...ofDatadog, event: taskStarted({ uuid: "refused" }) },
  { ...ofDatadog, payload: encodeBatch({ broker: "redis", events: [taskStarted({ uuid: "later" })] }) },
  { ...ofDatadog, raw: "one", readAs: "id to process" },
  { ...ofDatadog, payload: { v: 1, ids: ["two"] } },
  { ...ofPostgres, event: taskStarted({ uuid: "refused" }) },
  { ...ofPostgres, raw: "excluded", readAs: "id to forget" },
  { ...ofPrometheus, raw: "one", readAs: "id to process" },
];
const UNDECODABLE: DeadLetter = { ...message, raw: "{" };

let server: RedisServer;
/** A user with all rights. */
let redis: Redis;
let record: CommandRecord;
let letters: DeadLetters;

beforeAll(async () => {
  server = await startRedis();
  record = await recordCommands(server.url);
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
  letters = new DeadLetters({ redis, prefix: PREFIX, logger: createLogger("test", "silent"), metrics: new Metrics(), source: undefined });
});
beforeEach(async () => {
  await redis.flushall();
  // Forces it to send each script itself.
  await redis.script("FLUSH");
  await grantDocumented(redis, BLOCK, PASSWORD);
  await redis.call("ACL", "LOG", "RESET");
});
afterAll(async () => {
  await letters.close();
  record.stop();
  redis.disconnect();
  await server.stop();
});

interface Outcome {
  readonly exitCode: number;
  readonly output: string;
  readonly errors: string;
}

/** Runs it to its end. Redis delays its output until the record knows the connection's user, because it may disconnect sooner. */
async function replay(...args: string[]): Promise<Outcome> {
  const env = {
    PATH: process.env["PATH"],
    REDIS_URL: Object.assign(new URL(server.url), { username: USER, password: PASSWORD }).href,
    QUEUE_PREFIX: PREFIX,
    EXPORTERS: EXPORTERS.map(({ name }) => name).join(),
    FILTER_TASK_NAMES_EXCLUDE: EXCLUDED.name,
  };
  await redis.call("CLIENT", "PAUSE", "60000", "WRITE");
  let outcome: Outcome | undefined;
  const running = new Promise<Outcome>((resolve) => {
    const child = execFile(process.execPath, [BIN, "replay", ...args], { env }, (_error, output, errors) => {
      outcome = { exitCode: child.exitCode ?? -1, output, errors };
      resolve(outcome);
    });
  });
  const isConnected = async (): Promise<boolean> => String(await redis.client("LIST")).includes(`user=${USER}`);
  await expect.poll(async () => outcome !== undefined || (await isConnected()), { timeout: 60_000, interval: 20 }).toBe(true);
  await record.commandsOf(USER);
  await redis.call("CLIENT", "UNPAUSE");
  return running;
}

async function waitingIn(queue: string): Promise<number> {
  return redis.llen(`${PREFIX}:${queue}:wait`);
}

/** Number of jobs waiting in the exporter queues. */
async function replayed(): Promise<Record<string, number>> {
  const queues = ["datadog", "datadog-processing", "postgres", "prometheus", "prometheus-processing"];
  return Object.fromEntries(await Promise.all(queues.map(async (queue) => [queue, await waitingIn(queue)] as const)));
}

/** The maximum number of letters: with one more, the oldest have to be removed. */
async function fill(): Promise<void> {
  await redis.lpush(`${PREFIX}:dead-letter:wait`, ...Array.from({ length: MAX_DEAD_LETTERS }, (_, index) => `old-${index}`));
  await letters.add([...REPLAYABLE, UNDECODABLE]);
  expect(await waitingIn("dead-letter")).toBe(MAX_DEAD_LETTERS);
}

it("is enough for a dry run", async () => {
  await fill();
  const { exitCode, output } = await replay("--dry-run");
  expect(output).toContain(`${REPLAYABLE.length} could be replayed, 1 left (1 still not readable).`);
  expect(exitCode).toBe(0);
  expect(await replayed()).toEqual({ datadog: 0, "datadog-processing": 0, postgres: 0, prometheus: 0, "prometheus-processing": 0 });
  expect(await refusals(redis)).toEqual([]);
});

// BullMQ uses other scripts if it may not read Redis' version.
it.each(["-info", "+info"])(
  "is enough for letters to every exporter, to one, to its second stage, and their trimming: %s",
  async (info) => {
    await redis.call("ACL", "SETUSER", USER, info);
    await fill();
    const { exitCode, output, errors } = await replay();
    expect(output, errors).toContain(`${REPLAYABLE.length} replayed, 1 left (1 rejected again).\n`);
    expect(exitCode).toBe(0);
    expect(await replayed()).toEqual({ datadog: 3, "datadog-processing": 2, postgres: 2, prometheus: 1, "prometheus-processing": 1 });
    expect(await redis.exists(`${PREFIX}:excluded:${RECEIVER}:${EXCLUDED.uuid}`)).toBe(1);
    expect(await waitingIn("dead-letter")).toBe(MAX_DEAD_LETTERS - REPLAYABLE.length);
    expect(await refusals(redis)).toEqual([]);
  },
);

it("contains exactly the commands that it needs", async () => {
  const used = await record.commandsOf(USER);
  expect([...documentedCommands(BLOCK)].sort()).toEqual([...used].sort());
});

it("contains exactly the keys that it needs: without one it says so, and keeps the letters", async () => {
  const rules = (await redis.call("ACL", "GETUSER", USER)) as unknown[];
  const keys = String(rules[rules.indexOf("keys") + 1]).split(" ");
  expect(keys.length).toBeGreaterThan(1);
  for (const key of keys) {
    await redis.flushall();
    await letters.add(REPLAYABLE);
    await redis.call("ACL", "SETUSER", USER, "resetkeys", ...keys.filter((other) => other !== key));
    const { exitCode, errors } = await replay();
    expect(errors, key).toMatch(/NOPERM.*keys/);
    expect(exitCode, key).toBe(EXIT_UNAVAILABLE);
    expect(await waitingIn("dead-letter"), key).toBeGreaterThanOrEqual(REPLAYABLE.length);
  }
});
