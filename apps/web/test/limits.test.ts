/** What many clients may cause: equal questions are asked once, searches and statements are limited. */
import { TimedOutError, createWebServer } from "@celery-metrics-exporter/runtime";
import type { Reader } from "@celery-metrics-exporter/db";
import { connectReader } from "@celery-metrics-exporter/db";
import { sql } from "drizzle-orm";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { limitRequests, withDeadlines } from "../src/load/deadline.ts";
import { Places, Shared } from "../src/load/shared.ts";
import { TaskFilters, planOf } from "../src/queries/filters.ts";
import { listTasks } from "../src/queries/list-tasks.ts";
import { minutesAgo, useApi } from "./harness.ts";

const api = useApi({ WEB_REQUEST_TIMEOUT_SECONDS: "2" });

describe("equal questions", () => {
  it("are asked once, also while the answer is on its way and for a while after", async () => {
    const shared = new Shared(200);
    let asked = 0;
    const ask = async (): Promise<number> => ++asked;
    expect(await Promise.all([shared.get(["a"], ask), shared.get(["a"], ask), shared.get(["b"], ask)])).toEqual([1, 1, 2]);
    expect(await shared.get(["a"], ask)).toBe(1);
    await expect.poll(() => shared.get(["a"], ask)).toBe(3);
  });

  it("are forgotten with their answer, although nobody asks again", async () => {
    setFlagsFromString("--expose-gc");
    const collectGarbage = runInNewContext("gc") as () => void;
    const shared = new Shared(10);
    const answer = new WeakRef(await shared.get(["a"], async () => ({})));
    await expect.poll(() => (collectGarbage(), answer.deref() === undefined)).toBe(true);
  });

  it("are asked again after a failure", async () => {
    const shared = new Shared(60_000);
    await expect(shared.get(["a"], () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(await shared.get(["a"], async () => "yes")).toBe("yes");
  });

  it("get one answer from the server", async () => {
    await api.insert([{ id: "first" }]);
    const ids = async (): Promise<string> => await (await fetch(`${api.url}/tasks?name=shop.cart.total`)).text();
    const before = await ids();
    await api.insert([{ id: "second" }]);
    expect(await ids()).toBe(before);
    await expect.poll(ids).toContain("second");
  });
});

describe("a request", () => {
  it("has one limit for all of its statements, unless it streams", async () => {
    const limits: (number | undefined)[] = [];
    const fake = { read: async (_: unknown, timeoutMs?: number) => (limits.push(timeoutMs), []) } as unknown as Reader;
    const reader = withDeadlines(fake);
    const server = createWebServer();
    limitRequests(server, 1_000);
    const ask = async (): Promise<string> => {
      await reader.read(sql`select 1`, 300);
      await sleep(400);
      await reader.read(sql`select 1`);
      await sleep(800);
      await reader.read(sql`select 1`);
      return "all";
    };
    server.get("/short", ask);
    server.get("/long", { config: { streams: true } }, ask);
    expect((await server.inject("/short")).statusCode).toBe(500);
    const [first, second, ...none] = limits;
    expect([first, none]).toEqual([300, []]);
    expect(second).toBeLessThanOrEqual(600);
    limits.length = 0;
    expect((await server.inject("/long")).body).toBe("all");
    expect(limits).toEqual([300, undefined, undefined]);
    await server.close();
  });

  it("that waits for a connection is refused as early as one that waits for the database", async () => {
    await api.client.query("begin; lock table celery_task in access exclusive mode");
    const asked = Array.from({ length: 8 }, async (_, index) => (await fetch(`${api.url}/tasks/busy-${index}/events`)).status);
    await sleep(3_000);
    await api.client.query("rollback");
    expect(await Promise.all(asked)).toEqual(Array.from({ length: 8 }, () => 503));
  });
});

describe("places", () => {
  it("are waited for in order, and go to the one that waits", async () => {
    const places = new Places(1, "searches", 10_000);
    const giveBack = await places.take();
    const order: number[] = [];
    const waiting = [1, 2, 3].map((number) => places.run(async () => void order.push(number)));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(order).toEqual([]);
    giveBack();
    giveBack();
    waiting.push(places.run(async () => void order.push(4)));
    await Promise.all(waiting);
    expect(order).toEqual([1, 2, 3, 4]);
  });

  it("are refused when none becomes free, with the time to wait, and come back", async () => {
    const places = new Places(2, "searches", 50);
    const [one] = await Promise.all([places.take(), places.take()]);
    await expect(places.take()).rejects.toThrow("Too many searches");
    await expect(places.run(async () => {})).rejects.toMatchObject({ statusCode: 503, retryAfterSeconds: 1 });
    one?.();
    one?.();
    expect(await places.run(async () => "done")).toBe("done");
    await expect(places.run(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
    await places.take();
    await expect(places.take()).rejects.toThrow("Too many searches");
  });

  it("are waited for by a limited number", async () => {
    const places = new Places(1, "searches", 200);
    await places.take();
    const waiting = Array.from({ length: 50 }, () => places.take());
    const startedAt = Date.now();
    await expect(places.take()).rejects.toMatchObject({ statusCode: 503 });
    expect(Date.now() - startedAt).toBeLessThan(150);
    expect((await Promise.allSettled(waiting)).every(({ status }) => status === "rejected")).toBe(true);
  });

  it("are four for searches, while lists by an index go on", async () => {
    await api.client.query("begin; lock table celery_task in access exclusive mode");
    try {
      const searches = Array.from({ length: 4 }, (_, index) => fetch(`${api.url}/tasks?text=x${index}`));
      await new Promise((resolve) => setTimeout(resolve, 200));
      const fifth = await fetch(`${api.url}/tasks?text=x5`);
      expect(fifth.status).toBe(503);
      expect(fifth.headers.get("retry-after")).toBe("1");
      // Each waits for the lock as long as a statement may take, and then says so.
      const startedAt = Date.now();
      const answers = await Promise.all(searches);
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
      expect(Date.now() - startedAt).toBeLessThan(10_000);
      const listed = await fetch(`${api.url}/tasks?name=locked`);
      expect(listed.status).toBe(503);
      expect(await listed.json()).toMatchObject({ detail: "The database did not answer in time. Ask for a shorter range." });
    } finally {
      await api.client.query("commit");
    }
    expect((await fetch(`${api.url}/tasks?text=x5`)).status).toBe(200);
  });

  it("never lead to more than four connections", async () => {
    await Promise.all(Array.from({ length: 40 }, (_, index) => fetch(`${api.url}/tasks?name=n${index}`)));
    const { rows } = await api.client.query<{ n: number }>(
      "select count(*)::int as n from pg_stat_activity where application_name = 'celery-metrics-exporter web' and datname = current_database()",
    );
    expect(rows[0]?.n).toBeLessThanOrEqual(4);
  });
});

describe("a search", () => {
  let reader: Reader;

  beforeAll(async () => {
    reader = await connectReader({ url: api.databaseUrl, poolSize: 2, statementTimeoutMs: 2_000 });
    await api.client.query("truncate celery_task");
    await api.insert(
      Array.from({ length: 50 }, (_, index) => ({
        id: `hour-${index}`,
        queue: index === 49 ? "rare" : "celery",
        at: minutesAgo(60 * index + 1),
      })),
    );
  });
  afterAll(() => reader.close());

  const options = {
    plan: planOf({ ...TaskFilters.parse({ queue: "rare" }), arguments: [] }, true),
    to: undefined,
    after: undefined,
    limit: 10,
    withData: true,
  };

  it("ends with its budget, says how far it came, and goes on from there", async () => {
    let after: { seenAt: string; taskId: string } | undefined;
    const reached: (string | null)[] = [];
    for (;;) {
      const page = await listTasks(reader, { ...options, from: null, after, budgetMs: 0 });
      reached.push(page.searchedTo);
      if (page.items.length > 0) break;
      after = page.next;
      expect(after?.seenAt).toBe(page.searchedTo);
    }
    // Each page has one slice of 15 minutes.
    expect(reached.length).toBeGreaterThan(150);
    expect(reached.every((at, index) => index === 0 || (at ?? "") < (reached[index - 1] ?? ""))).toBe(true);
  });

  it("takes shorter slices if one is too slow, and gives up without losing its place", async () => {
    let slow = 3;
    const widths: number[] = [];
    const hindered: Reader = {
      ...reader,
      read: (statement, timeoutMs) => {
        if (timeoutMs === undefined) return reader.read(statement);
        widths.push(timeoutMs);
        return slow-- > 0 ? Promise.reject(new TimedOutError("too slow")) : reader.read(statement, timeoutMs);
      },
    };
    const page = await listTasks(hindered, { ...options, from: minutesAgo(60 * 60).toISOString(), budgetMs: 60_000 });
    expect(widths.length).toBeGreaterThan(4);
    expect(page.items.map(({ task_id }) => task_id)).toEqual(["hour-49"]);

    const never: Reader = {
      ...reader,
      read: (statement, timeoutMs) => (timeoutMs === undefined ? reader.read(statement) : Promise.reject(new TimedOutError("too slow"))),
    };
    const after = { seenAt: minutesAgo(10).toISOString(), taskId: "x" };
    expect(await listTasks(never, { ...options, from: null, after })).toEqual({ items: [], next: after, searchedTo: after.seenAt });
  });
});
