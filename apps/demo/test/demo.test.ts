import {
  SHORT_LIVED,
  connectPublisher,
  findCeleryPython,
  startProgram,
  startRedis,
  startStatsdSink,
  toFrames,
  type RedisServer,
  type RunningProgram,
  type WireEvent,
} from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { simulateTask } from "../src/simulator.ts";

const TIMEOUT_MS = 170_000;
/** The built program, which `npm run demo` starts. */
const PROGRAM = fileURLToPath(new URL("../dist/bundle.js", import.meta.url));

let redis: RedisServer;
let folder: string;
const demos: RunningProgram[] = [];

beforeAll(async () => {
  redis = await startRedis();
  folder = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-test-"));
});
afterAll(async () => {
  for (const demo of demos) demo.signal("SIGKILL");
  await redis.stop();
  rmSync(folder, { recursive: true, force: true });
});

function startDemo(args: readonly string[], env: Readonly<Record<string, string>> = {}): RunningProgram {
  const demo = startProgram(process.execPath, [...SHORT_LIVED, PROGRAM, ...args], { env, folder });
  demos.push(demo);
  return demo;
}

/** Only one of them has a web page: several that start at once would find its port free. */
function startDemoOnOurRedis(args: readonly string[], env?: Readonly<Record<string, string>>): RunningProgram {
  return startDemo(["--redis", redis.url, "--broker", redis.url, ...args], env);
}

/** What the page would show, at the address that the demo writes. @throws {Error} before there is a task. */
async function tasksOfPage(output: string): Promise<string> {
  const [, address] = /^Web page: (http:\S+)$/m.exec(output) ?? [];
  if (address === undefined) throw new Error("there is no address of a web page, so far");
  expect(await (await fetch(address)).text()).toContain("<title>Celery</title>");
  const text = await (await fetch(`${address}api/v1/tasks`)).text();
  if (!text.includes('"task_id"')) throw new Error("there is no task, so far");
  return text;
}

function celery(): { DEMO_CELERY_PYTHON: string } {
  const python = findCeleryPython();
  if (python === undefined) throw new Error("found no Python with Celery");
  return { DEMO_CELERY_PYTHON: python };
}

const FOREIGN_QUEUES = ["default", "payments", "mail"];

/** Tasks that wait for their own worker: a worker that does not know them acknowledges and discards them. */
function sendForeignTasks(brokerUrl: string): void {
  const script = `
import sys
from celery import Celery
app = Celery("live", broker=sys.argv[1])
for queue in sys.argv[2:] * 2:
    app.send_task("live.bill", queue=queue)`;
  const { status, stderr } = spawnSync(celery().DEMO_CELERY_PYTHON, ["-c", script, brokerUrl, ...FOREIGN_QUEUES], { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
}

function simulateTasks(): WireEvent[][] {
  return Array.from({ length: 20 }, () => [...simulateTask(Date.now() / 1000).events]);
}

/** Events of tasks that contain the queue, only the name, or neither, with names like the demo's own or not. */
function foreignEvents(): WireEvent[][] {
  const without = (...types: string[]): WireEvent[][] =>
    simulateTasks().map((events) => events.filter(({ type }) => !types.includes(type)));
  const renamed = without("task-sent").map((events) => events.map((event) => ("name" in event ? { ...event, name: "live.bill" } : event)));
  return [...simulateTasks(), ...without("task-sent"), ...renamed, ...without("task-sent", "task-received")].filter(
    ({ length }) => length > 0,
  );
}

/** The descendants of the process `pid`. */
function descendants(pid: number): number[] {
  const { stdout } = spawnSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" });
  const pairs = stdout
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number));
  const below = (parent: number): number[] =>
    pairs.filter(([, ppid]) => ppid === parent).flatMap(([child = 0]) => [child, ...below(child)]);
  return below(pid);
}

function isAlive(pid: number): boolean {
  const { stdout } = spawnSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" });
  return stdout.trim() !== "" && !stdout.startsWith("Z");
}

describe.concurrent("the demo", () => {
  it(
    "stops by itself, exits 0 because all sides agree on what real Celery did, and touches nothing that the environment names",
    {
      timeout: TIMEOUT_MS,
    },
    async () => {
      const [live, agent] = await Promise.all([startRedis(), startStatsdSink()]);
      const client = new Redis(live.url);
      try {
        const servers = { CELERY_BROKER_URL: live.url, REDIS_URL: live.url, DATABASE_URL: "postgres://live:secret@127.0.0.1:9/live" };
        const settings = { EXPORTERS: "datadog", REDACT_MODE: "drop", FILTER_TASK_NAMES_EXCLUDE: "*", DATADOG_METRIC_PREFIX: "live." };
        const datadog = { DD_DOGSTATSD_URL: `udp://127.0.0.1:${agent.port}`, DD_AGENT_HOST: "127.0.0.1", DATADOG_TIMER_TYPE: "timing" };
        const celerys = { CELERY_RESULT_BACKEND: live.url, CELERY_BROKER_WRITE_URL: live.url, PGHOST: "127.0.0.1", PGPORT: "9" };
        const demo = startDemoOnOurRedis(["--seconds", "6"], { ...celery(), ...servers, ...settings, ...datadog, ...celerys });
        const shown = await vi.waitFor(() => tasksOfPage(demo.output()), { timeout: TIMEOUT_MS, interval: 200 });
        expect(shown).toMatch(/"name":"shop\.\w+"/);
        const exitCode = await demo.exitCode;
        expect(demo.errors()).toBe("");
        expect(demo.output()).toContain(
          "Ignoring CELERY_BROKER_URL, REDIS_URL, DATABASE_URL, DD_AGENT_HOST, DD_DOGSTATSD_URL in the environment",
        );
        expect(demo.output()).toMatch(/tasks sent to a worker of Celery \d|\d+ tasks sent, /);
        expect(demo.output()).toMatch(/^shop\.read_feed +(REJECTED|FAILURE) +\d+ +\d+ +\d+ +\d+$/m);
        expect(demo.output()).toMatch(
          /What Celery ran, what Datadog got, what Postgres has and what Prometheus reads agree on \d+ tasks\.\n$/,
        );
        expect(demo.output()).not.toContain("secret");
        expect(exitCode).toBe(0);
        expect(await client.keys("*")).toEqual([]);
        expect(agent.metrics).toEqual([]);
      } finally {
        await client.quit();
        await Promise.all([live.stop(), agent.close()]);
      }
    },
  );

  it("leaves the tasks of other applications on the broker alone, and out of its comparison", { timeout: TIMEOUT_MS }, async () => {
    const shared = await startRedis();
    const client = new Redis(shared.url);
    try {
      sendForeignTasks(shared.url);
      const before = await Promise.all(FOREIGN_QUEUES.map((queue) => client.lrange(queue, 0, -1)));
      expect(before.map((messages) => messages.length)).toEqual([2, 2, 2]);
      const live = { QUEUE_PREFIX: "{live}", RABBITMQ_QUEUE: "live", FILTER_TASK_NAMES_INCLUDE: "live.*", DATADOG_GRACE_MS: "500" };
      const env = { ...celery(), ...live, REDIS_URL: shared.url, CELERY_BROKER_URL: shared.url };
      const demo = startDemo(["--use-environment", "--seconds", "4", "--no-dashboard", "--no-web"], env);
      await vi.waitFor(() => expect(demo.output()).toContain("tasks sent"), { timeout: TIMEOUT_MS, interval: 100 });
      const publisher = await connectPublisher(shared.url);
      for (const events of foreignEvents()) await publisher.publish(toFrames(events));
      await publisher.close();
      expect([await demo.exitCode, demo.errors()]).toEqual([0, ""]);
      expect(demo.output()).toMatch(/agree on \d+ tasks\.\n$/);
      expect(demo.output()).not.toContain("live.");
      expect(await Promise.all(FOREIGN_QUEUES.map((queue) => client.lrange(queue, 0, -1)))).toEqual(before);
      const bindings = await client.keys("_kombu.binding.*");
      const members = await Promise.all(bindings.map((key) => client.smembers(key)));
      const left = [...(await client.keys("*")), ...members.flat()];
      expect(left.filter((name) => /cme|unacked|\{live/.test(name))).toEqual([]);
    } finally {
      await client.quit();
      await shared.stop();
    }
  });

  it("says how to call it, in its help and for unknown options", async () => {
    const help = startDemo(["--help"]);
    expect(await help.exitCode).toBe(0);
    expect(help.output()).toContain("\n\nUsage: npm run demo -- [options]\n\n");
    expect(help.output()).toContain("  --seconds <n>\n");
    const refused = startDemo(["--secons", "3"]);
    expect(await refused.exitCode).toBe(64);
    expect(refused.errors()).toContain('Did you mean "--seconds"? See npm run demo -- --help. [ERR_USAGE]');
  });

  it("needs a broker of its own, whatever the environment names", async () => {
    const demo = startDemo([], { CELERY_BROKER_URL: redis.url });
    expect(await demo.exitCode).toBe(78);
    expect(demo.errors()).toContain("--use-environment uses the one in your environment");
  });

  it("simulates Celery's events if there is no Celery", { timeout: TIMEOUT_MS }, async () => {
    const demo = startDemoOnOurRedis(["--seconds", "3", "--no-dashboard", "--no-web", "--exporters", "postgres"]);
    expect(await demo.exitCode).toBe(0);
    expect(demo.output()).toMatch(/What Celery ran and what Postgres has agree on \d+ tasks\.\n$/);
  });

  it("exits 69 if its worker does not start, with the worker's output", { timeout: TIMEOUT_MS }, async () => {
    const demo = startDemoOnOurRedis(["--exporters", "datadog", "--no-dashboard"], { DEMO_CELERY_PYTHON: "/bin/false" });
    expect(await demo.exitCode).toBe(69);
    expect(demo.errors()).toContain("DEMO_CELERY_PYTHON: /bin/false cannot import Celery");
  });
});

// A drain has 15 seconds for everything sent, so nothing runs concurrently.
describe("the demo at Ctrl-C", () => {
  it("compares as after --seconds", { timeout: TIMEOUT_MS }, async () => {
    const demo = startDemoOnOurRedis(["--no-dashboard", "--exporters", "datadog"]);
    await vi.waitFor(() => expect(demo.output()).toMatch(/[1-9]\d* events received/), { timeout: TIMEOUT_MS, interval: 200 });
    demo.signal("SIGINT");
    expect(await demo.exitCode).toBe(0);
    expect(demo.output()).toMatch(/What Celery ran and what Datadog got agree on \d+ tasks\.\n$/);
  });

  it("compares, ends every process that it started, and removes its keys", { timeout: TIMEOUT_MS }, async () => {
    const demo = startDemoOnOurRedis(["--exporters", "datadog"], celery());
    await vi.waitFor(() => expect(demo.output()).toMatch(/[1-9]\d* events received/), { timeout: TIMEOUT_MS, interval: 200 });
    const children = descendants(demo.pid);
    // Worker, its two pool processes, client, and the process that ends these if the demo cannot.
    expect(children.length).toBeGreaterThanOrEqual(5);
    demo.signal("SIGINT");
    expect(await demo.exitCode).toBe(0);
    expect(demo.output()).toMatch(/ agree on \d+ tasks\.\n$|nothing to compare\. With --seconds it waits\.\n$/);
    await vi.waitFor(() => expect(children.filter(isAlive)).toEqual([]), { timeout: 5_000 });
    const client = new Redis(redis.url);
    expect(await client.keys("{cme-demo-*")).toEqual([]);
    await client.quit();
  });
});
