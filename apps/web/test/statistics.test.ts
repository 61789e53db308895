import { connectReader } from "@celery-metrics-exporter/db";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { readDataHealth } from "../src/queries/data-health.ts";
import { minutesAgo, useApi } from "./harness.ts";
import { beatHearts, countTasks, insertScene } from "./scene.ts";

const api = useApi();
beforeAll(() => insertScene(api));
beforeEach(() => beatHearts(api));

async function get<T>(path: string, status = 200): Promise<T> {
  const answer = await fetch(`${api.url}/${path}`);
  expect(answer.status).toBe(status);
  return (await answer.json()) as T;
}

interface Statistics {
  readonly from: string;
  readonly to: string;
  readonly rolled_up_at: string | null;
  readonly items: readonly {
    readonly at: string | null;
    readonly name?: string;
    readonly status?: string;
    readonly count: number;
    readonly runtime: { readonly count: number; readonly p50: number | null; readonly p95: number | null };
    readonly wait: { readonly p50: number | null };
    readonly last_failed_id: string | null;
  }[];
}

describe("statistics", () => {
  it("count the tasks of a range as the table does", async () => {
    const { rows } = await api.client.query<{ status: string; n: number }>(
      "select status, count(*)::int as n from celery_task group by status order by status",
    );
    const { items, rolled_up_at } = await get<Statistics>("statistics?range=24h&by=status");
    expect(items.map(({ status, count }) => ({ status, n: count })).sort((a, b) => ((a.status ?? "") < (b.status ?? "") ? -1 : 1))).toEqual(
      rows,
    );
    expect(rolled_up_at).toMatch(/Z$/);
  });

  it("have a step for each time, which begins at whole steps, and the same sum", async () => {
    const stepped = await get<Statistics>("statistics?range=24h&step=15m");
    const [whole] = (await get<Statistics>("statistics?range=24h")).items;
    expect(stepped.items.reduce((sum, { count }) => sum + count, 0)).toBe(whole?.count);
    expect(stepped.items.length).toBeGreaterThan(5);
    for (const { at } of stepped.items) expect(Date.parse(at ?? "") % 900_000).toBe(0);
    expect(whole?.at).toBeNull();
  });

  it("have percentiles within a quarter of the exact ones, and know the last failure", async () => {
    const { rows } = await api.client.query<{ p50: number }>(
      "select percentile_cont(0.5) within group (order by duration) as p50 from celery_task where name = 'shop.charge_card'",
    );
    const { items } = await get<Statistics>("statistics?range=24h&by=name&name=shop.charge_card");
    expect(items).toHaveLength(1);
    const exact = rows[0]?.p50 ?? 0;
    expect(items[0]?.runtime.p50).toBeGreaterThan(exact * 0.7);
    expect(items[0]?.runtime.p50).toBeLessThan(exact * 1.4);
    expect(items[0]?.last_failed_id).toMatch(/^[0-9a-f-]{36}$/);
  });

  it.each([
    ["step=5x", "step"],
    ["step=0m", "step"],
    ["by=worker", "by/0"],
    ["range=30d&step=1m", "step"],
    ["unknown=1", ""],
  ])("refuse %s", async (query, field) => {
    expect(await get<{ field?: string }>(`statistics?${query}`, 400)).toMatchObject(
      field === "" ? { status: 400 } : { field: field.split("/")[0] },
    );
  });
});

interface WorkerAnswer {
  readonly items: readonly {
    readonly name: string;
    readonly state: string;
    readonly queues: string[] | null;
    readonly software: string | null;
  }[];
}

describe("workers", () => {
  it("are lost if they fell silent, offline if they said so, and up otherwise; lost ones first", async () => {
    const { items } = await get<WorkerAnswer>("workers");
    expect(items.map(({ name, state }) => [name, state])).toEqual([
      ["img-3@delos", "lost"],
      ["export-1@delos", "offline"],
      ["img-1@corvo", "up"],
      ["pay-1@atlas", "up"],
      ["search-1@delos", "up"],
    ]);
    expect(items.at(3)).toMatchObject({ queues: ["payments"], software: "py-celery 5.6.3" });
    expect(items.at(2)?.queues).toBeNull();
  });

  it("leave out those that have been silent for long, unless they are asked for by name", async () => {
    expect((await get<WorkerAnswer>("workers?silent_hours=1")).items.map(({ name }) => name)).not.toContain("export-1@delos");
    expect((await get<WorkerAnswer>("workers?silent_hours=1&name=export-1@delos")).items).toHaveLength(1);
    expect((await get<WorkerAnswer>("workers?name=none")).items).toEqual([]);
  });
});

interface RanType {
  readonly name: string;
  readonly count: number;
  readonly seconds: number;
  readonly p95: number | null;
  readonly estimated: boolean;
}

interface ActivityAnswer {
  readonly from: string;
  readonly step_seconds: number;
  readonly failed_since: string;
  readonly items: readonly {
    readonly name: string;
    readonly tasks: readonly number[];
    readonly failed: number;
    readonly failures?: readonly number[];
    readonly runtime_p95?: number | null;
    readonly types?: readonly RanType[];
  }[];
}

function totalOf(values: readonly number[] = []): number {
  return values.reduce((total, value) => total + value, 0);
}

describe("the activity of workers", () => {
  it("has the tasks of each in the last three hours, by step, and its failures of a day", async () => {
    const answer = await get<ActivityAnswer>("workers/activity");
    const { rows } = await api.client.query<{ name: string; tasks: number; failed: number }>(
      `select worker as name, (count(*) filter (where seen_at >= $1))::int as tasks, (count(*) filter (where status = 'FAILURE'))::int as failed
       from celery_task where worker is not null group by 1 order by 2 desc`,
      [answer.from],
    );
    expect(rows.length).toBeGreaterThan(2);
    expect(answer.items.map(({ name, tasks, failed }) => ({ name, tasks: totalOf(tasks), failed }))).toEqual(rows);
    expect(answer.step_seconds).toBe(300);
    expect(answer.items.every(({ tasks, types }) => tasks.length === 36 && types === undefined)).toBe(true);
    const one = await api.client.query<{ n: number }>(
      "select count(*)::int as n from celery_task where worker = 'img-1@corvo' and seen_at >= $1::timestamptz + interval '170 minutes'",
      [answer.from],
    );
    const img1 = answer.items.find(({ name }) => name === "img-1@corvo");
    expect(totalOf(img1?.tasks.slice(34))).toBe(one.rows[0]?.n);
  });

  it("tells of one what it ran, how long, and when tasks failed", async () => {
    const { from, items } = await get<ActivityAnswer>("workers/activity?name=pay-1@atlas");
    const { rows } = await api.client.query<{ name: string; count: number; seconds: number; p95: number | null }>(
      `select name, count(*)::int as count, coalesce(sum(duration), 0) as seconds, percentile_cont(0.95) within group (order by duration) as p95
       from celery_task where worker = 'pay-1@atlas' and seen_at >= $1 group by 1 order by 3 desc, 2 desc`,
      [from],
    );
    expect(items).toHaveLength(1);
    expect(items[0]?.types?.map(({ name, count }) => [name, count])).toEqual(rows.map(({ name, count }) => [name, count]));
    expect(items[0]?.types?.every(({ estimated }) => !estimated)).toBe(true);
    expect(items[0]?.types?.[0]?.seconds).toBeCloseTo(rows[0]?.seconds ?? 0);
    expect(items[0]?.types?.[0]?.p95).toBeCloseTo(rows[0]?.p95 ?? 0);
    expect(items[0]?.runtime_p95).toBeGreaterThan(0);
    expect(totalOf(items[0]?.failures)).toBeGreaterThan(0);
    expect((await get<ActivityAnswer>("workers/activity?name=none")).items).toMatchObject([{ name: "none", failed: 0, types: [] }]);
  });

  it("is estimated where a minute has many tasks", async () => {
    const at = new Date(Date.now() - 60 * 60_000);
    at.setSeconds(10, 0);
    await api.insert(
      Array.from({ length: 1_000 }, (_, index) => ({ id: `many-${index}`, name: "shop.many", worker: `many-${index % 2}@host`, at })),
    );
    await countTasks(api);
    try {
      const [one] = (await get<ActivityAnswer>("workers/activity?name=many-1@host")).items;
      expect(totalOf(one?.tasks)).toBeGreaterThan(350);
      expect(totalOf(one?.tasks)).toBeLessThan(650);
      expect(one?.types).toMatchObject([{ name: "shop.many", estimated: true }]);
    } finally {
      await api.client.query("delete from celery_task where name = 'shop.many'");
      await countTasks(api);
    }
  });
});

interface TrendsAnswer {
  readonly from: string;
  readonly step_seconds: number;
  readonly days_before: number;
  readonly items: readonly {
    readonly name: string;
    readonly counts: readonly number[];
    readonly succeeded: number;
    readonly failed: number;
    readonly mean: number | null;
    readonly mean_before: number | null;
  }[];
}

describe("trends of task types", () => {
  it.each([
    ["15m", 60],
    ["3h", 300],
    ["24h", 3_600],
    ["7d", 21_600],
    ["400d", 12 * 86_400],
  ])("of %s have steps of %i s, and count what the table has", async (range, seconds) => {
    const answer = await get<TrendsAnswer>(`task-types/trends?range=${range}`);
    expect(answer.step_seconds).toBe(seconds);
    const { rows } = await api.client.query<{ name: string; n: number; succeeded: number; failed: number }>(
      `select name, count(*)::int as n, (count(*) filter (where status = 'SUCCESS'))::int as succeeded, (count(*) filter (where status = 'FAILURE'))::int as failed
       from celery_task where seen_at >= $1 group by 1 order by 1`,
      [answer.from],
    );
    const items = answer.items.map(({ name, counts, succeeded, failed }) => ({ name, n: totalOf(counts), succeeded, failed }));
    expect(items.sort((one, other) => (one.name < other.name ? -1 : 1))).toEqual(rows);
  });

  const midnight = Math.floor(Date.now() / 86_400_000) * 86_400_000;

  it.each([
    ["a week before", "range=23h", minutesAgo(60), 7],
    [
      "weeks before, where counts of days are read",
      `from=${new Date(midnight - 29.5 * 86_400_000).toISOString()}`,
      new Date(midnight - 29.4 * 86_400_000),
      35,
    ],
  ])("compare the mean run time with %s", async (_what, range, at, days) => {
    await api.insert(
      Array.from({ length: 40 }, (_, index) => ({
        id: `trend-${index}`,
        name: "shop.trend",
        runtime: index < 20 ? 3 : 2,
        at: new Date(at.getTime() - (index < 20 ? 0 : days * 86_400_000)),
      })),
    );
    await countTasks(api);
    try {
      const { items, days_before } = await get<TrendsAnswer>(`task-types/trends?${range}`);
      expect(days_before).toBe(days);
      expect(items.find(({ name }) => name === "shop.trend")).toMatchObject({ mean: 3, mean_before: 2 });
      expect(items.find(({ name }) => name === "shop.place_order")).toMatchObject({ mean: null, mean_before: null });
    } finally {
      await api.client.query("delete from celery_task where name = 'shop.trend'");
      await countTasks(api);
    }
  });
});

interface QueueAnswer {
  readonly step_seconds: number;
  readonly items: readonly {
    readonly name: string;
    readonly messages: number | null;
    readonly lengths: (number | null)[];
    readonly sent: number[] | null;
    readonly lately: Readonly<Record<"change" | "sent" | "taken", number | null>> & { readonly trend: string | null };
    readonly oldest_at: string | null;
  }[];
  readonly unacked: { readonly messages: number | null } | null;
}

/** A range of its own each time, because answers are kept for a second. */
async function oldestOf(queue: string, range: string): Promise<string | null | undefined> {
  return (await get<QueueAnswer>(`queues?range=${range}&step=1m`)).items.find(({ name }) => name === queue)?.oldest_at;
}

describe("queues", () => {
  it("have their length now and in each step", async () => {
    const { items, step_seconds, unacked } = await get<QueueAnswer>("queues?range=3h&step=3m");
    expect(step_seconds).toBe(180);
    expect(items.map(({ name, messages }) => [name, messages])).toEqual([
      ["exports", 400],
      ["images", 400],
      ["payments", 400],
    ]);
    const lengths = items[1]?.lengths ?? [];
    expect(lengths).toHaveLength(60);
    expect(lengths.slice(0, 28).every((length) => length === null)).toBe(true);
    const known = lengths.filter((length) => length !== null);
    expect(known.length).toBeGreaterThanOrEqual(30);
    expect(known).toEqual([...known].sort((a, b) => a - b));
    expect(known.at(-1)).toBe(400);
    expect(unacked?.messages).toBe(31);
  });

  it("grow by one rule, whatever the range", async () => {
    for (const range of ["15m", "7d"]) {
      const { items } = await get<QueueAnswer>(`queues?range=${range}&step=1d`);
      expect(items.map(({ name, lately }) => [name, lately.trend, lately.change])).toEqual([
        ["exports", "steady", 0],
        ["images", "grows", expect.closeTo(4, 0)],
        ["payments", "steady", 0],
      ]);
      const [exports, images] = items;
      expect(exports?.lately).toMatchObject({ sent: null, taken: null });
      expect(images?.lately.sent).toBeGreaterThan(0);
    }
    await api.client.query(
      "update celery_queue_minute set observed_at = observed_at - interval '1 day', minute = minute - interval '1 day'",
    );
    try {
      const { items } = await get<QueueAnswer>("queues?range=8d&step=1d");
      expect(items[1]?.lately).toMatchObject({ trend: null, change: null, taken: null });
    } finally {
      await api.client.query(
        "update celery_queue_minute set observed_at = observed_at + interval '1 day', minute = minute + interval '1 day'",
      );
    }
  });

  it("have a step even if steps are wider than the range", async () => {
    for (const [range, step] of [
      ["3h", "1d"],
      ["3h", "3h"],
      ["24h", "1d"],
    ]) {
      const { items } = await get<QueueAnswer>(`queues?range=${range}&step=${step}`);
      expect(items.map(({ name }) => name)).toEqual(["exports", "images", "payments"]);
      expect(Math.max(...(items[1]?.lengths ?? []).map((length) => length ?? 0))).toBe(400);
    }
  });

  it("have what was sent to them, and since when the oldest task waits", async () => {
    const { items } = await get<QueueAnswer>("queues?range=3h&step=3m");
    const { rows } = await api.client.query<{ queue: string; sent: number; oldest: Date | null }>(
      `select queue, count(*)::int as sent, min(seen_at) filter (where status = 'PENDING') as oldest from celery_task
       where queue in ('images', 'payments') group by 1 order by 1`,
    );
    expect(items.slice(1).map(({ name, sent }) => ({ name, sent: totalOf(sent ?? []) }))).toEqual(
      rows.map(({ queue, sent }) => ({ name: queue, sent })),
    );
    expect(items[1]?.sent).toHaveLength(60);
    expect(items.slice(1).map(({ oldest_at }) => Date.parse(oldest_at ?? ""))).toEqual(rows.map(({ oldest }) => oldest?.getTime()));
    expect(items[0]).toMatchObject({ name: "exports", sent: null, oldest_at: null });
  });

  it("have no more tasks waiting than messages: older ones were purged, or taken in silence", async () => {
    const pending = { name: "shop.purged", queue: "purged", status: "PENDING", worker: null };
    await api.insert([
      ...[600, 590, 100].map((minutes, index) => ({ ...pending, id: `purged-${index}`, at: minutesAgo(minutes) })),
      ...[30, 20].map((minutes, index) => ({ ...pending, id: `waits-${index}`, at: minutesAgo(minutes), kwargs: "{'a': 1}" })),
    ]);
    await countTasks(api);
    const length = (messages: number): Promise<unknown> =>
      api.client.query(
        "insert into celery_queue_minute (minute, queue, observed_at, messages, messages_max) values (date_trunc('minute', now()), 'purged', now(), $1, $1) on conflict (minute, queue) do update set messages = $1",
        [messages],
      );
    try {
      await length(2);
      expect(Date.parse((await oldestOf("purged", "61m")) ?? "")).toBeCloseTo(minutesAgo(30).getTime(), -4);
      const waiting = await get<{ tasks: { task_id: string }[] }>("queues/waiting?name=purged&messages=2");
      expect(waiting).toMatchObject({
        tasks: [{ task_id: "waits-0", kwargs: "{'a': 1}" }, { task_id: "waits-1" }],
        types: [{ name: "shop.purged", count: 2 }],
      });
      // One whose ETA came ten minutes ago waits for as long, and one whose ETA is to come does not wait.
      await api.client.query("update celery_task set eta = $1 where task_id = 'waits-0'", [minutesAgo(10)]);
      expect(Date.parse((await oldestOf("purged", "59m")) ?? "")).toBeCloseTo(minutesAgo(20).getTime(), -4);
      expect(await get("queues/waiting?name=purged&messages=3")).toMatchObject({
        tasks: [{ task_id: "purged-2" }, { task_id: "waits-1" }, { task_id: "waits-0" }],
      });
      await api.client.query("update celery_task set eta = $1 where task_id = 'waits-1'", [minutesAgo(-5)]);
      expect(Date.parse((await oldestOf("purged", "60m")) ?? "")).toBeCloseTo(minutesAgo(10).getTime(), -4);
      await length(5);
      expect(Date.parse((await oldestOf("purged", "62m")) ?? "")).toBeCloseTo(minutesAgo(600).getTime(), -4);
      expect(await get("queues/waiting?name=purged&messages=5")).toMatchObject({ types: [{ name: "shop.purged", count: 5 }] });
      await length(3_000_000_000);
      const { items } = await get<QueueAnswer>("queues?range=64m&step=1m");
      expect(items[0]).toMatchObject({ name: "purged", messages: 3_000_000_000 });
      expect(await get("queues/waiting?name=purged&messages=3000000000")).toMatchObject({ types: [{ count: 5 }] });
      await length(0);
      expect(await oldestOf("purged", "63m")).toBeNull();
      expect(await get("queues/waiting?name=purged&messages=0")).toEqual({ tasks: [], types: [] });
    } finally {
      await api.client.query("delete from celery_task where name = 'shop.purged'");
      await api.client.query("delete from celery_queue_minute where queue = 'purged'");
      await countTasks(api);
    }
  });

  it("are none before anybody asked", async () => {
    await api.client.query("begin; update celery_queue_minute set minute = minute - interval '1 day'; commit");
    expect((await get<QueueAnswer>("queues?range=1h&step=1m")).items).toEqual([]);
    await api.client.query("update celery_queue_minute set minute = minute + interval '1 day'");
  });
});

describe("failures", () => {
  it("until a time in another zone are those until this time", async () => {
    const until = minutesAgo(20);
    const local = new Date(until.getTime() + 2 * 3_600_000).toISOString().replace("Z", "+02:00");
    const [utc, other] = await Promise.all(
      [until.toISOString(), local].map((to) => get<{ to: string; items: unknown[] }>(`failures?to=${encodeURIComponent(to)}`)),
    );
    expect(other).toMatchObject({ to: until.toISOString(), items: utc?.items });
    expect(utc?.items.length).toBeGreaterThan(0);
  });

  it("without a name are not those of a task that is called null", async () => {
    const failed = { status: "FAILURE", at: "2026-01-01T00:00:00Z" };
    await api.insert([
      { id: "nameless", name: null, ...failed },
      { id: "null", name: "null", ...failed },
    ]);
    try {
      const { items } = await get<{ items: { name: string | null }[] }>("failures?from=2025-12-31T00:00:00Z&to=2026-01-02T00:00:00Z");
      expect(new Set(items.map(({ name }) => name))).toEqual(new Set([null, "null"]));
    } finally {
      await api.client.query("delete from celery_task where task_id in ('nameless', 'null')");
    }
  });
});

it.each(["statistics", "task-types/trends", "failures", "failures/details"])("%s refuses a range that is none", async (path) => {
  expect(await get(`${path}?from=2027-02-01T00:00:00Z&to=2027-01-01T00:00:00Z`, 400)).toMatchObject({ field: "from" });
  expect(await get(`${path}?range=1h&from=2026-01-01T00:00:00Z`, 400)).toMatchObject({ field: "range" });
});

it("says what is missing in the data", async () => {
  const { rows } = await api.client.query<{ tasks: number }>("select count(*)::int as tasks from celery_task");
  expect(await get("health-of-data")).toMatchObject({ ...rows[0], without_queue: 30, cut: 1, silent_workers: ["search-1@delos"] });
});

it("notices ends without a start, and starts that have no end although their worker runs nothing", async () => {
  const reader = await connectReader({ url: api.databaseUrl, poolSize: 1, statementTimeoutMs: 10_000 });
  const before = await readDataHealth(reader);
  const at = new Date(Date.now() - 60_000);
  await api.insert([
    { id: "no-start", worker: "threads@host", at, status: "SUCCESS" },
    { id: "no-end", worker: "threads@host", at, status: "STARTED" },
    { id: "runs", worker: "busy@host", at, status: "STARTED" },
  ]);
  await api.client.query("update celery_task set started_at = null where task_id = 'no-start'");
  await api.client.query(
    `insert into celery_worker (hostname, heard_at, last_event_at, last_event_type, heartbeat_at, active, first_seen_at)
     select name, now(), now(), 'worker-heartbeat', now(), active, now() from (values ('threads@host', 0), ('busy@host', 1)) as t (name, active)`,
  );
  try {
    expect(await readDataHealth(reader)).toMatchObject({ without_start: before.without_start + 1, without_end: before.without_end + 1 });
  } finally {
    await reader.close();
    await api.client.query("delete from celery_task where task_id in ('no-start', 'no-end', 'runs')");
    await api.client.query("delete from celery_worker where hostname in ('threads@host', 'busy@host')");
  }
});

describe("counts", () => {
  it("are those of the lists, in one answer", async () => {
    const counts = await get<Readonly<Record<string, unknown>>>("counts");
    const failures = await get<{ readonly items: readonly unknown[] }>("failures");
    const { names } = await get<{ readonly names: readonly string[] }>("names");
    const health = await get<object>("health-of-data");
    expect(failures.items.length).toBeGreaterThan(0);
    expect(counts).toEqual({
      failure_groups: failures.items.length,
      task_types: names.length,
      workers: 5,
      workers_lost: 1,
      queues: 3,
      // Only that of images; the others have the same length all the time.
      queues_growing: 1,
      health,
    });
  });
});
