/** One task, its tree, and what there is: failures, types, names. */
import { connectReader } from "@celery-metrics-exporter/db";
import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { TaskDetail } from "../src/queries/columns.ts";
import { readEarlierFailures, readFailures } from "../src/queries/failures.ts";
import { TreeNode, withoutCycles } from "../src/queries/tree.ts";
import { Tree as TreeAnswer } from "../src/routes/task.ts";
import { minutesAgo, useApi } from "./harness.ts";

const api = useApi();

async function get<T>(path: string): Promise<T> {
  const answer = await fetch(`${api.url}/${path}`);
  const body = (await answer.json()) as T;
  expect(answer.status, JSON.stringify(body)).toBe(200);
  return body;
}

interface Failures {
  readonly items: readonly { readonly [column: string]: unknown }[];
}

/** The newest task of each group. */
async function failuresOf(query: string): Promise<unknown[]> {
  return (await get<Failures>(`failures?${query}`)).items.map((group) => group["last_task_id"]);
}

/** Seen in the order of the ids. */
function node(id: string, parent: string | null): { task_id: string; parent_id: string | null; seen_at: string } {
  return { task_id: id, parent_id: parent, seen_at: id };
}

const ROOT = {
  id: "order",
  name: "shop.order",
  at: minutesAgo(9),
  traceback: "Traceback …",
  args_json: "[12345678901234567890, 1.50]",
  kwargs_json: '{"a": null}',
};

beforeAll(async () => {
  await api.insert([
    ROOT,
    {
      id: "pay",
      name: "shop.pay",
      root: "order",
      parent: "order",
      at: minutesAgo(8),
      status: "FAILURE",
      exception: "shop.errors.Declined('card 12 of order 7f3f7a5e-0000-4000-8000-000000000000')",
    },
    { id: "mail", name: "shop.mail", root: "order", parent: "order", at: minutesAgo(7), status: "FAILURE", exception: "Boom()" },
    { id: "receipt", name: "shop.mail", root: "order", parent: "pay", at: minutesAgo(6) },
    { id: "orphan", name: "shop.mail", root: "order", parent: "unknown", at: minutesAgo(5), queue: "slow", worker: "w2@host" },
    { id: "selfish", name: "shop.mail", root: "order", parent: "selfish", at: minutesAgo(4) },
    {
      id: "pay-2",
      name: "shop.pay",
      at: minutesAgo(3),
      status: "FAILURE",
      exception: "shop.errors.Declined('card 34 of order 00000000-0000-4000-8000-000000000000')",
    },
    { id: "pay-3", name: "shop.pay", at: minutesAgo(2), status: "FAILURE", exception: "shop.errors.Declined('no card')" },
    { id: "again", name: "shop.pay", at: minutesAgo(1), status: "RETRY", exception: "TimeoutError()" },
    { id: "alone", name: "other", at: minutesAgo(60 * 48), root: null },
  ]);
});

describe("a task", () => {
  it("has every column, its parent and its children", async () => {
    const order = await get<Record<string, unknown>>("tasks/order");
    expect(Object.keys(order)).toEqual(expect.arrayContaining(Object.keys(TaskDetail.shape)));
    expect(order).toMatchObject({
      task_id: "order",
      name: "shop.order",
      traceback: "Traceback …",
      wait_time: 0.5,
      duration: null,
      parent: null,
      more_children: false,
    });
    expect((order["children"] as { task_id: string }[]).map(({ task_id }) => task_id).toSorted()).toEqual(["mail", "pay"]);
    expect(await get("tasks/receipt")).toMatchObject({ parent: { task_id: "pay", name: "shop.pay", status: "FAILURE" }, children: [] });
    expect(await get("tasks/orphan")).toMatchObject({ parent_id: "unknown", parent: null });
    expect(await get("tasks/selfish")).toMatchObject({ parent: null, children: [] });
  });

  it("keeps every digit of its arguments", async () => {
    const text = await (await fetch(`${api.url}/tasks/order`)).text();
    expect(text).toContain('"args_json":[12345678901234567890, 1.50]');
    expect(JSON.parse(text)).toMatchObject({ kwargs_json: { a: null } });
  });

  it("has times with microseconds", async () => {
    await api.client.query("update celery_task set sent_at = '2027-01-31 12:00:00.123456+02' where task_id = 'alone'");
    expect(await get("tasks/alone")).toMatchObject({ sent_at: "2027-01-31T10:00:00.123456Z", seen_at: "2027-01-31T10:00:00.123456Z" });
    await api.client.query("update celery_task set sent_at = now() - interval '2 days' where task_id = 'alone'");
  });

  it.each(["tasks/nothing", "tasks/nothing/tree"])("is 404 if it is unknown: %s", async (path) => {
    const answer = await fetch(`${api.url}/${path}`);
    expect(answer.status).toBe(404);
    expect(await answer.json()).toMatchObject({
      title: "Not found",
      detail: "This task is not known. It may have been deleted, or never arrived.",
    });
  });
});

describe("a tree", () => {
  interface Tree {
    readonly root: string;
    readonly truncated: boolean;
    readonly nodes: readonly { readonly task_id: string; readonly parent_id: string | null }[];
  }

  it.each(["order", "pay", "receipt", "orphan", "selfish"])("is the same for each of its tasks: %s", async (id) => {
    const { root, truncated, nodes } = await get<Tree>(`tasks/${id}/tree`);
    expect({ root, truncated }).toEqual({ root: "order", truncated: false });
    expect(nodes.map(({ task_id, parent_id }) => [task_id, parent_id])).toEqual([
      ["order", null],
      ["pay", "order"],
      ["mail", "order"],
      ["receipt", "pay"],
      ["orphan", "unknown"],
      ["selfish", null],
    ]);
  });

  it("has the fields of the schema, though answers of this size are not checked", async () => {
    const tree = await get<Tree>("tasks/order/tree");
    expect(
      TreeAnswer.strict()
        .extend({ nodes: z.array(TreeNode.strict()) })
        .parse(tree),
    ).toEqual(tree);
    const { sent_at, wait_time, retries, name } = await get<z.output<typeof TaskDetail>>("tasks/pay");
    expect(tree.nodes[1]).toMatchObject({ sent_at, wait_time, retries, name });
  });

  it("is one task if nothing is known about a tree", async () => {
    expect(await get("tasks/alone/tree")).toMatchObject({ root: "alone", nodes: [{ task_id: "alone" }] });
  });

  it("ends at 5,000 tasks, with the one that was asked for", async () => {
    const many = Array.from({ length: 5_100 }, (_, index) => ({ id: `many-${index}`, root: "many", parent: "many", at: minutesAgo(2) }));
    await api.insert([{ id: "many", root: "many" }, ...many]);
    const { truncated, nodes } = await get<Tree>("tasks/many-77/tree");
    expect(truncated).toBe(true);
    expect(nodes).toHaveLength(5_000);
    expect(nodes.map(({ task_id }) => task_id)).toEqual(expect.arrayContaining(["many", "many-77"]));
    expect(await get("tasks/many")).toMatchObject({ more_children: true });
    await api.client.query("delete from celery_task where root_id = 'many'");
  });

  it("has no cycle, so that following parents ends", () => {
    const nodes = withoutCycles([node("d", "c"), node("a", "b"), node("b", "c"), node("c", "a"), node("e", "e"), node("f", "gone")]);
    expect(nodes.map(({ task_id, parent_id }) => [task_id, parent_id])).toEqual([
      ["a", null],
      ["b", "c"],
      ["c", "a"],
      ["d", "c"],
      ["e", null],
      ["f", "gone"],
    ]);
  });

  it("has no cycle that is only reached from an earlier task", () => {
    const nodes = withoutCycles([node("a", "c"), node("b", "c"), node("c", "b")]);
    expect(nodes.map(({ task_id, parent_id }) => [task_id, parent_id])).toEqual([
      ["a", "c"],
      ["b", null],
      ["c", "b"],
    ]);
  });
});

describe("failures", () => {
  it("are grouped by task, exception and first line, whatever numbers and ids it contains", async () => {
    const { items } = await get<Failures>("failures");
    expect(items.map(({ name, exception, message, count, last_task_id: last }) => ({ name, exception, message, count, last }))).toEqual([
      { name: "shop.pay", exception: "shop.errors.Declined", message: "card # of order #", count: 2, last: "pay-2" },
      { name: "shop.pay", exception: "shop.errors.Declined", message: "no card", count: 1, last: "pay-3" },
      { name: "shop.mail", exception: "Boom", message: "", count: 1, last: "mail" },
    ]);
  });

  it("keep the digits of a class", async () => {
    const failed = { name: "shop.store", status: "FAILURE", at: minutesAgo(2) };
    await api.insert([
      { ...failed, id: "store-1", exception: "psycopg2.OperationalError('port 5432')" },
      { ...failed, id: "store-2", exception: "psycopg2.OperationalError('port 6543 of 10.0.0.1')" },
      { ...failed, id: "store-3", exception: "psycopg2.OperationalError('port 1')" },
    ]);
    const { items } = await get<Failures>("failures?name=shop.store");
    expect(items).toMatchObject([
      { exception: "psycopg2.OperationalError", message: "port #", count: 2 },
      { exception: "psycopg2.OperationalError", message: "port # of #.#.#.#", count: 1 },
    ]);
    expect(
      await get(`failures/details?name=shop.store&exception=psycopg2.OperationalError&message=${encodeURIComponent("port #")}`),
    ).toMatchObject({
      read: 2,
    });
    await api.client.query("delete from celery_task where name = 'shop.store'");
  });

  it("are chosen by status, task and range", async () => {
    expect(await failuresOf("status=RETRY")).toEqual(["again"]);
    expect(await failuresOf("status=FAILURE,retry&name=shop.pay&range=2m")).toEqual(["again"]);
    expect(await failuresOf("name=shop.mail")).toEqual(["mail"]);
    const answer = await fetch(`${api.url}/failures?status=SUCCESS`);
    expect(await answer.json()).toMatchObject({ status: 400, field: "status" });
    expect(await (await fetch(`${api.url}/failures?nmae=x`)).json()).toMatchObject({ status: 400 });
  });
});

interface Parts {
  readonly groups: number;
  readonly tasks: number;
  readonly from: string | null;
  readonly to: string;
  readonly looked_back_to: string | null;
  readonly items: readonly {
    readonly exception: string;
    readonly message: string;
    readonly count: number;
    readonly parts: readonly number[];
    readonly first_seen_at: string;
  }[];
}

/** In minutes. */
function age(at: string): number {
  return (Date.now() - Date.parse(at)) / 60_000;
}

describe("failures over time", () => {
  it("have a count for each part of the range", async () => {
    const { from, items, looked_back_to } = await get<Parts>("failures?range=36m&name=shop.pay");
    expect(age(from ?? "")).toBeCloseTo(36, 0);
    expect(looked_back_to).toBe(from);
    const [declined] = items;
    expect(declined?.parts).toHaveLength(36);
    // Of 8 and 3 minutes ago.
    expect(declined?.parts.flatMap((count, part) => (count > 0 ? [[count, Math.round(36 - part)]] : []))).toEqual([
      [1, expect.toBeOneOf([8, 9])],
      [1, expect.toBeOneOf([3, 4])],
    ]);
    const all = await get<Parts>("failures?range=all");
    expect(all.items.map(({ count, parts }) => parts.reduce((sum, part) => sum + part, 0) - count)).toEqual(all.items.map(() => 0));
    expect(all.items.find(({ exception }) => exception === "shop.errors.Declined")?.parts[0]).toBe(1);
  });

  it("know the first one of before the range, if they are asked to look for it", async () => {
    const first = async (query: string): Promise<number> => {
      const { items } = await get<Parts>(`failures?name=shop.pay&${query}`);
      return age(items.find(({ message }) => message.startsWith("card"))?.first_seen_at ?? "");
    };
    expect(await first("range=5m")).toBeCloseTo(3, 0);
    expect(await first("range=5m&look_back=1")).toBeCloseTo(8, 0);
    const { looked_back_to } = await get<Parts>("failures?range=5m&look_back=2");
    expect(age(looked_back_to ?? "") / 1_440).toBeCloseTo(2, 1);
    expect((await get<Parts>("failures?name=none&range=5m&look_back=1")).items).toEqual([]);
  });

  it("are as many as asked for, the most frequent ones, and say how many there are", async () => {
    const all = await get<Parts>("failures?range=all&status=FAILURE,RETRY");
    const some = await get<Parts>("failures?range=all&status=FAILURE,RETRY&limit=1");
    expect(all.items.length).toBeGreaterThan(1);
    expect(some).toEqual({ ...all, items: all.items.slice(0, 1) });
    expect([all.groups, all.tasks]).toEqual([all.items.length, all.items.reduce((sum, { count }) => sum + count, 0)]);
  });

  it("are looked for before a range that moves on only once in a while, without missing one", async () => {
    const asked = { statuses: ["FAILURE"], name: "shop.pay" };
    const reader = await connectReader({ url: api.databaseUrl, poolSize: 1, statementTimeoutMs: 10_000 });
    try {
      // Since it was read, the one of 8 minutes ago has left the range.
      const earlier = readEarlierFailures(reader, { ...asked, from: minutesAgo(9).toISOString(), days: 1, keepMs: 300_000 });
      const { items } = await readFailures(reader, { ...asked, from: minutesAgo(5).toISOString(), to: undefined, withData: true }, earlier);
      expect(items.map(({ count, first_seen_at }) => [count, Math.round(age(first_seen_at))])).toEqual(expect.arrayContaining([[1, 8]]));
    } finally {
      await reader.close();
    }
  });

  it("say where they were and at which attempt they ended", async () => {
    const group = new URLSearchParams({ name: "shop.pay", exception: "shop.errors.Declined", message: "card # of order #" });
    expect(await get(`failures/details?${group.toString()}`)).toEqual({
      read: 2,
      workers: [{ name: "w1@host", count: 2 }],
      queues: [{ name: "celery", count: 2 }],
      attempts: [{ attempt: 1, count: 2 }],
      shortest: null,
      longest: null,
      latest: [expect.objectContaining({ task_id: "pay-2" }), expect.objectContaining({ task_id: "pay" })],
    });
    group.set("message", "another");
    expect(await get(`failures/details?${group.toString()}`)).toMatchObject({ read: 0, workers: [], attempts: [], latest: [] });
    expect((await fetch(`${api.url}/failures/details?status=SUCCESS`)).status).toBe(400);
  });
});

it("lists task types with their newest task and failure", async () => {
  const { items } = await get<{ items: { name: string; last_task_id: string; last_failure_id: string | null }[] }>("task-types");
  expect(items.map(({ name, last_task_id: last, last_failure_id: failure }) => [name, last, failure])).toEqual([
    ["shop.pay", "again", "pay-3"],
    ["shop.mail", "selfish", "mail"],
    ["shop.order", "order", null],
    ["other", "alone", null],
  ]);
});

it("lists names of tasks, queues and workers", async () => {
  expect(await get("names")).toEqual({
    names: ["other", "shop.mail", "shop.order", "shop.pay"],
    queues: ["celery", "slow"],
    workers: ["w1@host", "w2@host"],
  });
});
