/** Exports: complete, at the client's pace, and over when the client is gone. */
import { get, type IncomingMessage } from "node:http";
import { beforeAll, expect, it } from "vitest";
import { minutesAgo, useApi } from "./harness.ts";

const api = useApi();
const ROWS = 3_000;

beforeAll(async () => {
  await api.insert([
    ...Array.from({ length: ROWS }, (_, index) => ({
      id: `row-${index}`,
      at: minutesAgo(1 + index / 60),
      args: `('${"x".repeat(500)}',)`,
      name: "many",
    })),
    {
      id: "=1+1",
      name: 'a "quoted", name',
      at: minutesAgo(0),
      args: "line\r\nbreak",
      args_json: "[12345678901234567890]",
      runtime: 1.5,
      result: "-5",
    },
  ]);
});

it("NDJSON has one task a line, with every digit", async () => {
  const answer = await fetch(`${api.url}/tasks.ndjson`);
  expect(answer.headers.get("content-type")).toContain("application/x-ndjson");
  const text = await answer.text();
  const lines = text.trimEnd().split("\n");
  expect(lines).toHaveLength(ROWS + 1);
  expect(new Set(lines.map((line) => (JSON.parse(line) as { task_id: string }).task_id)).size).toBe(ROWS + 1);
  expect(lines[0]).toContain('"args_json":[12345678901234567890]');
});

it("CSV has a head, quotes what it must, and starts no formula", async () => {
  const answer = await fetch(`${api.url}/tasks.csv?${new URLSearchParams({ name: 'a "quoted", name' }).toString()}`);
  expect(answer.headers.get("content-type")).toContain("text/csv");
  expect(answer.headers.get("content-disposition")).toBe('attachment; filename="tasks.csv"');
  const [head = "", row = ""] = (await answer.text()).split(/\r\n(?!break)/);
  expect(head.split(",").slice(0, 3)).toEqual(["task_id", "name", "queue"]);
  expect(row).toMatch(/^'=1\+1,"a ""quoted"", name",celery,SUCCESS,w1@host,"line\r\nbreak",,'-5,/);
  expect(row).toContain(",1.5,");
  expect((await (await fetch(`${api.url}/tasks.csv?name=many`)).text()).trimEnd().split("\r\n")).toHaveLength(ROWS + 1);
});

it("is refused as a whole if a filter is wrong", async () => {
  expect(await (await fetch(`${api.url}/tasks.csv?status=x`)).json()).toMatchObject({ status: 400, field: "status" });
  expect(await (await fetch(`${api.url}/tasks.csv?limit=1`)).json()).toMatchObject({ status: 400, field: "limit" });
});

/** Statements on the API's connections so far. */
async function statements(): Promise<number> {
  const { rows } = await api.client.query<{ n: string }>(
    "select xact_commit as n from pg_stat_database where datname = current_database()",
  );
  return Number(rows[0]?.n);
}

function open(path: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => get(`${api.url}/${path}`, resolve).on("error", reject));
}

it("runs at most twice at a time, waits for a client that does not read, and ends with it", async () => {
  const more = Array.from({ length: 20_000 }, (_, index) => ({
    id: `slow-${index}`,
    at: minutesAgo(2),
    args: `('${"y".repeat(900)}',)`,
    name: "slow",
  }));
  await api.insert(more);
  const first = await open("tasks.ndjson?name=slow");
  const second = await open("tasks.ndjson?name=slow");
  const third = await fetch(`${api.url}/tasks.ndjson?name=slow`);
  expect(third.status).toBe(503);
  expect(third.headers.get("retry-after")).toBe("1");
  expect(await third.json()).toMatchObject({ title: "Not available", detail: "Too many exports at the same time. Try again in a second." });

  // The client reads nothing: a few pages fill the buffers, and then no more are read.
  await expect
    .poll(
      async () => {
        const before = await statements();
        await new Promise((resolve) => setTimeout(resolve, 1_500));
        // The last measurement is a statement too.
        return (await statements()) - before;
      },
      { timeout: 30_000 },
    )
    .toBeLessThanOrEqual(3);

  first.destroy();
  second.destroy();
  await expect.poll(async () => (await fetch(`${api.url}/tasks.ndjson?name=many`)).status, { timeout: 10_000 }).toBe(200);
});
