/** The dashboard as the Redis users of docs/permissions.md: every route works with their rights, and uses all of them. */
import { documentedCommands, grantDocumented, recordCommands, type CommandRecord } from "@celery-metrics-exporter/testkit";
import { Worker } from "bullmq";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeEach, expect, it } from "vitest";
import { boardRoutes, type BoardRoute } from "./board-routes.ts";
import { sharedRedis, startDashboard, stopRedis, type Harness } from "./harness.ts";

const PASSWORD = "opensesame";
/** Commands that it tries and can do without. */
const OPTIONAL = /\b(info|config\|get|client\|setname|client\|setinfo|client\|list) /;

let harness: Harness;
let record: CommandRecord;

beforeEach(async () => {
  record = await recordCommands((await sharedRedis()).url);
});
afterEach(async () => {
  record.stop();
  await harness.stop();
});
afterAll(stopRedis);

async function startAs(block: string, user: string, settings: Readonly<Record<string, string>>): Promise<void> {
  const { url } = await sharedRedis();
  const admin = new Redis(url);
  await admin.script("FLUSH");
  await grantDocumented(admin, block, PASSWORD);
  // BullMQ uses newer scripts if it may read Redis' version: one of the two users may.
  if (settings["DASHBOARD_READ_ONLY"] === undefined) await admin.call("ACL", "SETUSER", user, "+info");
  await admin.call("ACL", "LOG", "RESET");
  await admin.quit();
  harness = await startDashboard({ ...settings, REDIS_URL: Object.assign(new URL(url), { username: user, password: PASSWORD }).href });
}

/** Jobs in every state and a scheduler; their ids, by the names in routes. */
async function fill(): Promise<void> {
  const queue = harness.queue("datadog");
  // BullMQ does not close a connection that was passed to it.
  const connection = harness.redis.duplicate();
  const worker = new Worker("datadog", (job) => (job.name === "bad" ? Promise.reject(new Error("bad")) : Promise.resolve()), {
    connection,
    prefix: "{cme}",
  });
  for (const name of ["bad", "good"]) await queue.add(name, {}, { jobId: name });
  await expect.poll(() => queue.getJobCountByTypes("completed", "failed"), { timeout: 20_000 }).toBe(2);
  await worker.close();
  connection.disconnect();
  for (const id of ["waits-1", "waits-2"]) await queue.add("batch", {}, { jobId: id });
  for (const id of ["later-1", "later-2"]) await queue.add("batch", {}, { jobId: id, delay: 3_600_000 });
  await queue.upsertJobScheduler("s1", { every: 3_600_000 }, { name: "batch" });
}

/** The jobs for routes with this ending. */
const JOBS: Readonly<Record<string, string>> = {
  retry: "bad",
  promote: "later-1",
  delay: "later-2",
  priority: "waits-1",
  clean: "waits-2",
};

async function routes(): Promise<BoardRoute[]> {
  const all = await boardRoutes({ queueName: "datadog", jobId: "JOB", queueStatus: "failed", schedulerId: "s1" });
  return all.map(({ method, path }) => ({ method, path: path.replace("JOB", JOBS[path.split("/").at(-1) ?? ""] ?? "good") }));
}

async function ask({ method, path }: BoardRoute): Promise<void> {
  const query = method === "GET" ? "?activeQueue=datadog&status=latest&page=1&jobsPerPage=10" : "";
  const body = JSON.stringify({ concurrency: 2, max: 10, duration: 1_000, delay: 7_200_000, priority: 3, every: 60_000 });
  const headers = { origin: harness.url, "content-type": "application/json" };
  await fetch(harness.url + path + query, method === "GET" ? {} : { method, headers, body });
}

/** Checks that nothing was refused, and that no granted right is unused. */
async function expectExactly(block: string, user: string, leftOut: ReadonlySet<string> = new Set()): Promise<void> {
  const refused = JSON.stringify(await harness.redis.call("ACL", "LOG", "128"));
  expect([...refused.matchAll(/"object":?,?"([^"]*)"/g)].map(([, name]) => `${name} `).filter((name) => !OPTIONAL.test(name))).toEqual([]);
  const used = [...(await record.commandsOf(user))].filter((command) => !leftOut.has(command));
  expect([...documentedCommands(block)].sort()).toEqual(used.sort());
}

it("read-only, without the writing commands in BullMQ's scripts", async () => {
  const block = "redis dashboard, read-only";
  await startAs(block, "cme-dashboard", {});
  await fill();
  for (const route of await routes()) await ask(route);
  const writing = new Set((await harness.redis.call("ACL", "CAT", "write")) as string[]);
  // Redis 7.0 classifies it as a write, although it only reads.
  writing.delete("lpos");
  expect([...documentedCommands(block)].filter((command) => writing.has(command))).toEqual([]);
  await expectExactly(block, "cme-dashboard", writing);
});

it("with changes", async () => {
  const block = "redis dashboard";
  await startAs(block, "cme-dashboard-admin", { DASHBOARD_READ_ONLY: "false" });
  await fill();
  const all = await routes();
  const last = /\/(empty|obliterate|remove|pause)$/;
  for (const route of [...all.filter(({ path }) => !last.test(path)), ...all.filter(({ path }) => last.test(path))]) await ask(route);
  await expectExactly(block, "cme-dashboard-admin");
});
