/** Lost and stuck tasks, attempts and events: what is derived from what Celery reported. */
import {
  taskFailed,
  taskReceived,
  taskRetried,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
  workerHeartbeat,
} from "@celery-metrics-exporter/celery/testing";
import {
  connectDatabase,
  mergeListened,
  mergeWorkerEvents,
  migrate,
  rollUp,
  upsertTasks,
  type Database,
} from "@celery-metrics-exporter/db";
import { createLogger, startRoles, type RunningRoles } from "@celery-metrics-exporter/runtime";
import { createDatabase, type TestDatabase } from "@celery-metrics-exporter/testkit";
import { sql } from "drizzle-orm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { webRole } from "../src/web.ts";

/** A busy machine takes long to create an embedded database. */
const TIMEOUT_MS = 120_000;
const W1 = { hostname: "w1@host-a" };
const W2 = { hostname: "w2@host-b" };
/** The time of the scene, which each database has anew. */
let now = 0;
const ago = (seconds: number) => ({ timestamp: now - seconds });

/** Received, as of so many seconds ago, and started half a second later. */
function begun(uuid: string, seconds: number, worker: { hostname: string }, name = "shop.pay") {
  return [taskReceived({ uuid, name, ...worker, ...ago(seconds) }), taskStarted({ uuid, ...worker, ...ago(seconds - 0.5) })];
}

const sceneEvents = () => [
  ...begun("lost", 60, W1),
  taskReceived({ uuid: "lost-waiting", name: "shop.mail", ...W1, ...ago(50) }),
  ...begun("running", 62, W2),
  ...Array.from({ length: 30 }, (_, index) => `done-${index}`).flatMap((uuid) => [
    ...begun(uuid, 700, W2, "shop.quick"),
    taskSucceeded({ uuid, ...W2, ...ago(699), runtime: 0.5 }),
  ]),
  ...begun("stuck", 300, W2, "shop.quick"),
  ...begun("young", 5, W2, "shop.quick"),
  ...begun("redelivered", 600, W1),
  ...begun("redelivered", 500, W2),
  taskSucceeded({ uuid: "redelivered", ...W2, ...ago(499), runtime: 0.5 }),
  taskSent({ uuid: "retried", name: "shop.pay", queue: "soon", retries: 0, hostname: "gen@host", ...ago(601) }),
  ...begun("retried", 600, W2),
  taskRetried({ uuid: "retried", ...W2, ...ago(599), exception: "Refused('card 4242')", traceback: "Traceback of 4242" }),
  taskSent({ uuid: "retried", name: "shop.pay", queue: "later", retries: 1, again: true, hostname: "gen@host", ...ago(598.9) }),
  taskReceived({ uuid: "retried", name: "shop.pay", retries: 1, ...W2, ...ago(590) }),
  taskStarted({ uuid: "retried", ...W2, ...ago(589) }),
  taskFailed({ uuid: "retried", ...W2, ...ago(588), exception: "Declined('card 4242')", traceback: "Traceback 2 of 4242" }),
  taskReceived({ uuid: "expired", name: "shop.pay", ...W2, ...ago(400) }),
  taskRevoked({ uuid: "expired", ...W2, ...ago(399), expired: true }),
  ...begun("replaced", 600, W2, "shop.first"),
  taskSent({ uuid: "replaced", name: "shop.second", queue: "q2", retries: 0, again: true, hostname: "gen@host", ...ago(598) }),
  taskReceived({ uuid: "replaced", name: "shop.second", retries: 0, again: true, ...W2, ...ago(597) }),
  taskStarted({ uuid: "replaced", ...W2, ...ago(596) }),
  taskSucceeded({ uuid: "replaced", ...W2, ...ago(595), runtime: 1 }),
];

interface Task {
  readonly task_id: string;
  readonly status: string;
  readonly lost: boolean;
  readonly stuck: boolean;
  readonly revoked_by: string | null;
  readonly attempts: readonly { readonly [field: string]: unknown }[];
}

interface Events {
  readonly items: readonly { readonly type: string; readonly exception: string | null; readonly again: boolean }[];
  readonly history: string | null;
  readonly truncated: boolean;
}

describe.each(["PostgreSQL", "PGlite"])("on %s", (kind) => {
  let created: TestDatabase | undefined;
  let database: Database;
  let running: RunningRoles;
  let url = "";

  beforeAll(async () => {
    created = kind === "PGlite" ? undefined : await createDatabase();
    const databaseUrl = created?.url ?? "pglite:memory";
    if (created !== undefined) await migrate(databaseUrl);
    database = await connectDatabase({ url: databaseUrl });
    now = Date.now() / 1_000;
    await upsertTasks(database, sceneEvents(), "unusual");
    await mergeWorkerEvents(database, [workerHeartbeat({ ...W1, ...ago(45) })], now - 45);
    await mergeWorkerEvents(database, [workerHeartbeat({ ...W2, ...ago(0) })], now);
    await mergeListened(database, [{ type: "listened", source: "broker", since: now - 1_000, timestamp: now }]);
    await rollUp(database, { all: true });
    const env = { DATABASE_URL: databaseUrl, WEB_PORT: "0", HEALTH_PORT: "0", WEB_REQUEST_TIMEOUT_SECONDS: "30" };
    running = await startRoles([webRole((opened) => (url = `${opened}/api/v1`))], env, createLogger("web", "silent"));
  }, TIMEOUT_MS);
  afterAll(async () => {
    await running?.stop();
    await database?.close();
    await created?.drop();
  });

  async function get<T>(path: string): Promise<T> {
    const answer = await fetch(`${url}/${path}`);
    const body = (await answer.json()) as T;
    expect(answer.status, JSON.stringify(body)).toBe(200);
    return body;
  }

  async function idsOf(query: string): Promise<string[]> {
    return (await get<{ items: Task[] }>(`tasks?${query}`)).items.map(({ task_id }) => task_id);
  }

  async function states(silentHours: number): Promise<string[]> {
    const { items } = await get<{ items: { name: string; state: string }[] }>(`workers?silent_hours=${silentHours}`);
    return items.map(({ name, state }) => `${name} ${state}`);
  }

  it("a list says which tasks are lost or stuck, and leaves their status", async () => {
    const { items } = await get<{ items: Task[] }>("tasks?limit=200");
    expect(items.filter(({ lost }) => lost).map(({ task_id, status }) => `${task_id} ${status}`)).toEqual([
      "lost-waiting RECEIVED",
      "lost STARTED",
    ]);
    expect(items.filter(({ stuck }) => stuck).map(({ task_id, status }) => `${task_id} ${status}`)).toEqual(["stuck STARTED"]);
  });

  it("a filter finds the lost ones, alone and with others", async () => {
    expect(await idsOf("lost=true")).toEqual(["lost-waiting", "lost"]);
    expect(await idsOf("lost=true&name=shop.p*&range=all")).toEqual(["lost"]);
    expect(await idsOf("lost=true&status=STARTED,RECEIVED&limit=1")).toEqual(["lost-waiting"]);
    expect(await idsOf("lost=true&id=lost-w")).toEqual(["lost-waiting"]);
    expect(await idsOf("lost=true&id=running")).toEqual([]);
    const exported = await (await fetch(`${url}/tasks.ndjson?lost=true`)).text();
    expect(
      exported
        .trimEnd()
        .split("\n")
        .map((line) => (JSON.parse(line) as Task).lost),
    ).toEqual([true, true]);
    expect((await fetch(`${url}/tasks?lost=yes`)).status).toBe(400);
  });

  it.each([
    ["lost", ["1 w1@host-a lost"]],
    ["lost-waiting", ["1 w1@host-a waiting"]],
    ["running", ["1 w2@host-b running"]],
    ["redelivered", ["1 w1@host-a lost", "2 w2@host-b success"]],
    ["retried", ["1 w2@host-b retry", "2 w2@host-b failure"]],
    ["expired", ["1 w2@host-b revoked"]],
    ["replaced", ["1 w2@host-b replaced", "2 w2@host-b success"]],
  ])("a task has its attempts: %s", async (id, expected) => {
    const { attempts } = await get<Task>(`tasks/${id}`);
    expect(attempts.map(({ number, worker, outcome }) => `${String(number)} ${String(worker)} ${String(outcome)}`)).toEqual(expected);
  });

  it("an attempt has its queue, times, exception and traceback", async () => {
    const { attempts } = await get<Task>("tasks/retried");
    expect(attempts[0]).toEqual({
      number: 1,
      worker: W2.hostname,
      queue: "soon",
      received_at: expect.stringMatching(/\.\d{6}Z$/) as string,
      started_at: expect.any(String) as string,
      ended_at: expect.any(String) as string,
      outcome: "retry",
      exception: "Refused('card 4242')",
      traceback: "Traceback of 4242",
    });
    expect(attempts[1]).toMatchObject({ queue: "later", exception: "Declined('card 4242')" });
    expect((await get<Task>("tasks/expired")).revoked_by).toBe("expired");
  });

  it("a task has its stored events, and how far they go", async () => {
    const { items, ...around } = await get<Events>("tasks/retried/events");
    expect(items.map(({ type }) => type)).toEqual(expect.arrayContaining(["task-retried", "task-sent", "task-received"]));
    expect(items.find(({ type }) => type === "task-retried")?.exception).toBe("Refused('card 4242')");
    expect(items.find(({ type }) => type === "task-sent")?.again).toBe(true);
    expect(around).toEqual({ history: "unusual", truncated: false });
    expect(await get("tasks/running/events")).toEqual({ items: [], history: null, truncated: false });
    await upsertTasks(database, [...begun("whole", 10, W2), taskSucceeded({ uuid: "whole", ...W2, ...ago(9), runtime: 0.5 })], "all");
    const whole = await get<Events>("tasks/whole/events");
    expect(whole.items.map(({ type }) => type)).toEqual(["task-received", "task-started", "task-succeeded"]);
    expect(whole.history).toBe("all");
    expect((await fetch(`${url}/tasks/nothing/events`)).status).toBe(404);
  });

  it("workers are lost by the same rule: not while no receiver listens", async () => {
    expect(await states(1)).toEqual(["w1@host-a lost", "w2@host-b up"]);
    await database.drizzle.execute(sql`update celery_worker set heard_at = heard_at - interval '2 minutes'`);
    await database.drizzle.execute(
      sql`update celery_listening set until = until - interval '2 minutes', enough_until = enough_until - interval '2 minutes', stored_at = stored_at - interval '2 minutes'`,
    );
    expect(await states(2)).toEqual(["w1@host-a lost", "w2@host-b unknown"]);
    await mergeListened(database, [{ type: "listened", source: "broker", since: Date.now() / 1_000 - 20, timestamp: Date.now() / 1_000 }]);
    expect(await states(3), "the receiver has just begun").toEqual(["w1@host-a lost", "w2@host-b unknown"]);
    await mergeListened(database, [{ type: "listened", source: "broker", since: now - 125, timestamp: Date.now() / 1_000 }]);
    expect(await states(4)).toEqual(["w1@host-a lost", "w2@host-b lost"]);
  });

  it("a task that another worker takes is no longer lost", async () => {
    await upsertTasks(database, begun("lost", 1, { hostname: "w3@host-c" }), "unusual");
    await expect.poll(() => idsOf("lost=true&name=shop.pay")).not.toContain("lost");
    // Answers are shared for a second.
    await expect.poll(async () => (await get<Task>("tasks/lost")).attempts.map(({ outcome }) => outcome)).toEqual(["lost", "running"]);
  });
});
