import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { useApi } from "./harness.ts";
import { beatHearts, insertScene } from "./scene.ts";

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

interface QueueAnswer {
  readonly step_seconds: number;
  readonly items: readonly { readonly name: string; readonly messages: number | null; readonly lengths: (number | null)[] }[];
  readonly unacked: { readonly messages: number | null } | null;
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

  it("are none before anybody asked", async () => {
    await api.client.query("begin; update celery_queue_minute set minute = minute - interval '1 day'; commit");
    expect((await get<QueueAnswer>("queues?range=1h&step=1m")).items).toEqual([]);
    await api.client.query("update celery_queue_minute set minute = minute + interval '1 day'");
  });
});

it("says what is missing in the data", async () => {
  const { rows } = await api.client.query<{ tasks: number }>("select count(*)::int as tasks from celery_task");
  expect(await get("health-of-data")).toMatchObject({ ...rows[0], without_queue: 30, cut: 1, silent_workers: ["search-1@delos"] });
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
