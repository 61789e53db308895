/** Flower's API: what scripts that were written for Flower 2.1 ask, and the shapes that they expect. */
import { beforeAll, describe, expect, it } from "vitest";
import { createToken } from "../src/access/user.ts";
import { useApi } from "./harness.ts";

const viewer = createToken();
const api = useApi({ FLOWER_API: "true" });
/** Without a slash at the end. */
let site = "";

const DAY = "2026-11-22";

beforeAll(async () => {
  site = new URL(api.url).origin;
  await api.insert([
    {
      id: "e42ceb2d-8730-47b5-8b4d-8e0d2a1ef7c9",
      name: "tasks.add",
      worker: "celery@worker1",
      at: `${DAY}T10:00:00.107885Z`,
      args: "(3, 4)",
      kwargs: "{'user': 5, 'city': 'Bonn'}",
      result: "'7'",
      runtime: 0.01610181899741292,
      retries: 0,
    },
    {
      id: "failed",
      name: "tasks.error",
      status: "FAILURE",
      worker: "celery@worker2",
      at: `${DAY}T11:00:00Z`,
      args: "('x',)",
      kwargs: "{'user': 55}",
      exception: "ValueError('no')",
      traceback: "Traceback: no",
      root: "e42ceb2d-8730-47b5-8b4d-8e0d2a1ef7c9",
      parent: "e42ceb2d-8730-47b5-8b4d-8e0d2a1ef7c9",
    },
    {
      id: "retried",
      name: "tasks.retry",
      status: "RETRY",
      worker: "celery@worker1",
      at: `${DAY}T12:00:00Z`,
      exception: "OSError('again')",
    },
    { id: "revoked", name: "tasks.sleep", status: "REVOKED", worker: "celery@worker1", at: `${DAY}T13:00:00Z` },
    { id: "waiting", name: "tasks.sleep", status: "PENDING", worker: null, at: `${DAY}T14:00:00Z` },
    { id: "__proto__", name: "tasks.sleep", status: "STARTED", worker: "celery@worker1", at: `${DAY}T15:00:00Z` },
  ]);
  await api.client.query(
    "update celery_task set received_at = sent_at + interval '0.25 second', run_started_at = started_at where status <> 'PENDING'",
  );
  await api.client.query(`
    insert into celery_worker (hostname, heard_at, last_event_at, last_event_type, freq, active, processed, pid, first_seen_at, queues, queues_at, pool,
      concurrency, prefetch_count, stats_at)
    values ('celery@worker1', now(), now(), 'worker-heartbeat', 2, 1, 9, 90494, now(), '{celery,mail}', timestamptz '${DAY} 10:00:00.5Z',
        'celery.concurrency.prefork:TaskPool', 4, 16, timestamptz '${DAY} 10:00:00.5Z'),
      ('celery@worker2', now() - interval '10 minutes', now() - interval '10 minutes', 'worker-heartbeat', 2, 0, 0, null, now(), null, null, null, null, null,
        null)`);
  await api.client.query(`
    insert into celery_queue_minute (minute, queue, observed_at, messages, messages_max)
    values (date_trunc('minute', now()), 'video', now(), 5, 9), (date_trunc('minute', now()), 'celery', now(), 0, 0),
      (date_trunc('minute', now()), 'unknown', now(), null, null)`);
});

interface Answer {
  readonly status: number;
  readonly type: string | null;
  readonly text: string;
  readonly headers: Headers;
}

async function ask(path: string, init: RequestInit = {}): Promise<Answer> {
  const answer = await fetch(`${site}${path}`, init);
  return { status: answer.status, type: answer.headers.get("content-type"), text: await answer.text(), headers: answer.headers };
}

async function json(path: string): Promise<unknown> {
  const { status, type, text } = await ask(path);
  expect([status, type], text).toEqual([200, "application/json; charset=UTF-8"]);
  return JSON.parse(text);
}

async function ids(query: string): Promise<string[]> {
  // The keys as they are written: JavaScript would reorder those that are numbers.
  await json(`/api/tasks${query}`);
  return [...(await ask(`/api/tasks${query}`)).text.matchAll(/(?:^\{|\}, |\], )"([^"]+)": \{/g)].map(([, id = ""]) => id);
}

function seconds(time: string): number {
  return Date.parse(`${DAY}T${time}Z`) / 1_000;
}

const ADD = {
  uuid: "e42ceb2d-8730-47b5-8b4d-8e0d2a1ef7c9",
  name: "tasks.add",
  state: "SUCCESS",
  received: 1_795_341_600.357_885,
  sent: 1_795_341_600.107_885,
  started: 1_795_341_600.607_885,
  rejected: null,
  succeeded: 1_795_341_601.107_885,
  failed: null,
  retried: null,
  revoked: null,
  args: "(3, 4)",
  kwargs: "{'user': 5, 'city': 'Bonn'}",
  eta: null,
  expires: null,
  retries: 0,
  worker: "celery@worker1",
  result: "'7'",
  exception: null,
  timestamp: 1_795_341_601.107_885,
  runtime: 0.01610181899741292,
  traceback: null,
  exchange: null,
  routing_key: "celery",
  clock: null,
  client: null,
  root: "e42ceb2d-8730-47b5-8b4d-8e0d2a1ef7c9",
  root_id: "e42ceb2d-8730-47b5-8b4d-8e0d2a1ef7c9",
  parent: null,
  parent_id: null,
  children: [] as string[],
};
/** Celery's `Task.as_dict()` has these keys, whatever the state. */
const KEYS = Object.keys(ADD).sort();
const ALL = ["__proto__", "waiting", "revoked", "retried", "failed", ADD.uuid];

describe("/api/tasks", () => {
  it("is an object of tasks by id, newest first", async () => {
    const tasks = (await json("/api/tasks")) as Record<string, object>;
    expect(await ids("")).toEqual(ALL);
    expect(tasks[ADD.uuid]).toEqual(ADD);
    const withoutWorker = KEYS.filter((key) => key !== "worker");
    for (const [id, task] of Object.entries(tasks)) expect(Object.keys(task).sort()).toEqual(id === "waiting" ? withoutWorker : KEYS);
  });

  it("writes times as seconds with microseconds", async () => {
    expect((await ask("/api/tasks?taskname=tasks.add")).text).toContain('"sent":1795341600.107885');
  });

  it("has the time of the state under the state's name", async () => {
    expect(await json("/api/tasks")).toMatchObject({
      failed: {
        failed: seconds("11:00:01"),
        succeeded: null,
        exception: "ValueError('no')",
        traceback: "Traceback: no",
        root: ADD.uuid,
        parent_id: ADD.uuid,
      },
      retried: { retried: seconds("12:00:01"), failed: null, exception: "OSError('again')" },
      revoked: { revoked: seconds("13:00:01") },
      waiting: { state: "PENDING", sent: seconds("14:00:00"), received: null },
    });
  });

  it.each([
    ["?limit=2", ALL.slice(0, 2)],
    ["?limit=2&offset=3", ALL.slice(3, 5)],
    ["?limit=0", ALL],
    ["?offset=-5", ALL],
    ["?offset=100", []],
    ["?limit=", ALL],
    ["?state=FAILURE", ["failed"]],
    ["?state=FAILURE,REVOKED", ["revoked", "failed"]],
    ["?state=All&taskname=All&workername=All", ALL],
    ["?state=PROGRESS", []],
    ["?taskname=tasks.add", [ADD.uuid]],
    ["?taskname=tasks.add&taskname=tasks.error", ["failed"]],
    ["?workername=celery@worker2", ["waiting", "failed"]],
    ["?received_start=2026-11-22 12:30", ["__proto__", "waiting", "revoked"]],
    ["?received_end=2026-11-22 10:30", ["waiting", ADD.uuid]],
    ["?received_start=2026-11-22 10:30&received_end=2026-11-22 11:30", ["waiting", "failed"]],
    ["?sort_by=name", [ADD.uuid, "failed", "retried", "__proto__", "waiting", "revoked"]],
    ["?sort_by=-name&limit=1", ["__proto__"]],
    ["?sort_by=state", ["failed", "waiting", "retried", "revoked", "__proto__", ADD.uuid]],
    ["?sort_by=received&limit=2", ["waiting", ADD.uuid]],
    ["?sort_by=-received&offset=1&limit=1", ["revoked"]],
    ["?sort_by=-started&limit=1", ["__proto__"]],
    ["?search=tasks.sleep", ["__proto__", "waiting", "revoked"]],
    ["?search=worker2", ["failed"]],
    ["?search=state:RETRY", ["retried"]],
    ["?search=args:x", ["failed"]],
    ["?search=kwargs:user=5", [ADD.uuid]],
    ["?search=kwargs:city=Bonn", [ADD.uuid]],
    ['?search=result:"7"', [ADD.uuid]],
    ['?search=tasks "(3, 4)"', [ADD.uuid]],
    ["?search=tasks.sleep state:REVOKED", ["revoked"]],
    ["?search='; drop table celery_task; --", []],
    ["?search=%25", []],
    ["?unknown=1", ALL],
  ])("%s", async (query, expected) => {
    expect(await ids(query)).toEqual(expected);
  });

  it.each([
    ["?limit=x", "limit must be a whole number."],
    ["?limit=1001", "limit must be at most 1000. Ask for the next tasks with offset."],
    ["?limit=1000&offset=4500", "Only the newest 5000 tasks that match are listed: offset and limit reach beyond."],
    ["?offset=5000", "Only the newest 5000 tasks that match are listed: offset and limit reach beyond."],
    ["?sort_by=runtime", "sort_by must be name, state, received or started, with - for descending."],
    ["?sort_by=__proto__", "sort_by must be name, state, received or started, with - for descending."],
    ["?received_start=yesterday", "received_start must be a time such as 2027-01-31 12:00."],
    ["?received_end=2026-13-40 12:00", "received_end must be a time such as 2027-01-31 12:00."],
    ["?search=kwargs:user", "search needs kwargs:name=value."],
    ["?search=a OR b", expect.stringContaining("no AND, OR, NOT and parentheses")],
    [`?search=${"a ".repeat(21)}`, "search must have at most 20 words."],
    [`?taskname=${"x".repeat(1_001)}`, "taskname must have at most 1000 characters."],
  ])("refuses %s", async (query, error) => {
    const { status, text, type } = await ask(`/api/tasks${query}`);
    expect([status, JSON.parse(text), type]).toEqual([400, { error }, "application/json; charset=UTF-8"]);
  });

  it("says how far it searched, if it did not search everything", async () => {
    expect((await ask("/api/tasks?search=nothing")).headers.get("x-searched-to")).toBeNull();
    expect((await ask("/api/tasks?received_start=2026-11-22 12:30")).headers.get("x-searched-to")).toBeNull();
    // The search can read nothing.
    await api.client.query("begin; lock table celery_task");
    try {
      const { status, text, headers } = await ask("/api/tasks?search=nothing&received_start=2026-11-22 12:30");
      expect([status, text, headers.get("x-searched-to")]).toEqual([200, "{}", expect.stringMatching(/^\d{4}-.*Z$/)]);
    } finally {
      await api.client.query("rollback");
    }
  });
});

describe("/api/task", () => {
  it("info is one task, with its worker and children", async () => {
    const task = await json(`/api/task/info/${ADD.uuid}`);
    expect(Object.keys(task as object).sort()).toEqual([...KEYS, "task-id"].sort());
    expect(task).toMatchObject({ uuid: ADD.uuid, "task-id": ADD.uuid, worker: "celery@worker1", result: "'7'", children: ["failed"] });
    expect(await json("/api/task/info/waiting")).toMatchObject({ worker: null, state: "PENDING" });
    expect(await json("/api/task/info/__proto__")).toMatchObject({ uuid: "__proto__" });
  });

  it("info of an unknown task is an error in plain text", async () => {
    const { status, type, text } = await ask("/api/task/info/<b>none</b>");
    expect([status, type, text]).toEqual([404, "text/plain; charset=utf-8", "Unknown task '<b>none</b>'"]);
  });

  it("types lists names", async () => {
    expect(await json("/api/task/types")).toEqual({ "task-types": ["tasks.add", "tasks.error", "tasks.retry", "tasks.sleep"] });
  });

  it("result is not there, and says why", async () => {
    const { status, text } = await ask(`/api/task/result/${ADD.uuid}`);
    expect([status, text]).toEqual([501, expect.stringMatching(/^The result backend is not read here\./)]);
  });
});

it("/api/queues/length lists queues whose length is known", async () => {
  expect(await json("/api/queues/length")).toEqual({
    active_queues: [
      { name: "celery", messages: 0 },
      { name: "video", messages: 5 },
    ],
  });
});

describe("/api/workers", () => {
  const ASKED = { conf: {}, registered: [], active: [], reserved: [], scheduled: [], revoked: [] };
  const WORKER_1 = {
    ...ASKED,
    active_queues: [{ name: "celery" }, { name: "mail" }],
    stats: {
      pid: 90_494,
      prefetch_count: 16,
      pool: { implementation: "celery.concurrency.prefork:TaskPool", "max-concurrency": 4 },
      total: {},
    },
    timestamp: seconds("10:00:00.5"),
  };

  it("is an object of workers by name", async () => {
    const workers = await json("/api/workers?refresh=1");
    expect(workers).toEqual({
      "celery@worker1": WORKER_1,
      "celery@worker2": { ...ASKED, active_queues: [], stats: { pool: {}, total: {} }, timestamp: expect.any(Number) as number },
    });
  });

  it("says who is up, or shows one worker", async () => {
    expect(await json("/api/workers?status=1")).toEqual({ "celery@worker1": true, "celery@worker2": false });
    expect(await json("/api/workers?workername=celery@worker1")).toEqual({ "celery@worker1": WORKER_1 });
    const { status, type, text } = await ask("/api/workers?workername=none");
    expect([status, type, text]).toEqual([404, "text/plain; charset=utf-8", "Unknown worker 'none'"]);
  });
});

describe("nothing can be changed", () => {
  it.each([
    "/api/worker/shutdown/celery@worker1",
    "/api/worker/pool/restart/celery@worker1",
    "/api/worker/pool/grow/celery@worker1?n=1",
    "/api/worker/pool/autoscale/celery@worker1?min=1&max=2",
    "/api/worker/queue/add-consumer/celery@worker1?queue=x",
    "/api/task/apply/tasks.add",
    "/api/task/async-apply/tasks.add",
    "/api/task/send-task/tasks.add",
    "/api/task/abort/x",
    "/api/task/revoke/x?terminate=true",
    "/api/task/timeout/tasks.add",
    "/api/task/rate-limit/tasks.add",
  ])("by POST %s", async (path) => {
    const expected = [403, "text/plain; charset=utf-8", "Control is not switched on: this server only reads."];
    for (const headers of [{ authorization: "Bearer x" }, { origin: site }, { "content-type": "application/x-www-form-urlencoded" }]) {
      const { status, type, text } = await ask(path, { method: "POST", headers, body: "n=1" });
      expect([status, type, text]).toEqual(expected);
    }
  });
});

describe("a viewer", () => {
  it("sees no arguments, results, exceptions and tracebacks, and cannot search in them", async () => {
    const url = await api.start({ FLOWER_API: "true", WEB_TOKENS: `v:viewer:2099-01-31:${viewer.tokenHash}` });
    const headers = { authorization: `Bearer ${viewer.token}` };
    const get = async (path: string): Promise<[number, string]> => {
      const answer = await fetch(`${new URL(url).origin}${path}`, { headers });
      return [answer.status, await answer.text()];
    };
    for (const path of ["/api/tasks", "/api/task/info/failed", `/api/task/info/${ADD.uuid}`]) {
      const [status, text] = await get(path);
      expect(status).toBe(200);
      expect(text).toContain("tasks.");
      expect(text).not.toMatch(/\(3, 4\)|Bonn|'7'|no'|Traceback|again/);
    }
    expect(await get("/api/tasks?search=Bonn")).toEqual([200, "{}"]);
    for (const term of ["args:3", "kwargs:city=Bonn", "result:7"]) expect((await get(`/api/tasks?search=${term}`))[0]).toBe(403);
    expect((await fetch(`${new URL(url).origin}/api/tasks`)).status).toBe(401);
  });
});

it("is off by default", async () => {
  const { origin } = new URL(await api.start({}));
  expect((await fetch(`${origin}/api/queues/length`)).status).toBe(404);
  // The page, as if a proxy had put it there.
  expect((await fetch(`${origin}/api/tasks`)).headers.get("content-type")).toContain("text/html");
});

it("works below the path of a proxy that keeps it", async () => {
  expect((await ask("/flower/api/task/types")).status).toBe(200);
});
