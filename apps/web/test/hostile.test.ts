/** Hostile names, ids, cursors and filters do no harm. */
import { request } from "node:http";
import { beforeAll, describe, expect, it } from "vitest";
import { useApi } from "./harness.ts";

const api = useApi();

const TEXTS = [
  "'; drop table celery_task; --",
  "' or '1'='1",
  '"); select pg_sleep(10); --',
  "$1",
  "\\",
  "%",
  "_",
  "*",
  "**",
  "<script>alert(1)</script>",
  "\u0000",
  "a\u0000b",
  "\ud800",
  "\u202e reversed",
  "__proto__",
  "constructor",
  "toString",
  "🦀".repeat(200),
  "{}",
  "[]",
  "null",
  "-1",
  "1e999",
  "9".repeat(400),
  '{"$ref":"#"}',
  "../../etc/passwd",
  "a\r\nset-cookie: x=1",
];
const FILTERS = [
  "name",
  "queue",
  "worker",
  "id",
  "root",
  "parent",
  "text",
  "exception",
  "kwargs.a",
  "args.0",
  "kwargs.__proto__",
  "kwargs.constructor",
];
const PATHS = ["tasks/", "failures?name=", "tasks.csv?name=", "tasks.ndjson?text="];

beforeAll(async () => {
  await api.insert([
    { id: "one", kwargs: "{'a': 1}", kwargs_json: '{"a":1}', args_json: "[1]", status: "FAILURE", exception: "Boom('<b>')" },
    { id: "two", name: "<script>alert(1)</script>", kwargs_json: '{"__proto__":"__proto__"}', root: "__proto__", parent: "__proto__" },
    { id: "__proto__", name: "__proto__" },
  ]);
});

async function isUnharmed(): Promise<boolean> {
  const { rows } = await api.client.query<{ n: number }>("select count(*)::int as n from celery_task");
  return rows[0]?.n === 3 && ({} as Record<string, unknown>)["task_id"] === undefined;
}

/** Sends a path as it is. */
function send(path: string): Promise<{ readonly status: number | undefined; readonly type: string | undefined; readonly body: string }> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(api.url);
    request({ hostname, port, path: `/api/v1/${path}`, agent: false }, (answer) => {
      let body = "";
      answer.setEncoding("utf8").on("data", (part: string) => (body += part));
      answer.on("end", () => resolve({ status: answer.statusCode, type: answer.headers["content-type"], body }));
    })
      .on("error", reject)
      .end();
  });
}

describe.each(FILTERS)("the filter %s", (filter) => {
  it.each(TEXTS)("answers %j", async (text) => {
    const { status, type, body } = await send(`tasks?${filter}=${encodeURIComponent(text.toWellFormed())}`);
    expect(status, body).toSatisfy((code) => code === 200 || code === 400);
    expect(type).toMatch(/^application\/(problem\+)?json/);
    expect(await isUnharmed()).toBe(true);
  });
});

describe.each(PATHS)("the address %s…", (path) => {
  it.each(TEXTS)("answers %j", async (text) => {
    const { status, type } = await send(path + encodeURIComponent(text.toWellFormed()));
    expect(status).toSatisfy((code) => code === 200 || code === 400 || code === 404);
    expect(type).not.toContain("html");
    expect(await isUnharmed()).toBe(true);
  });
});

it.each([
  ["", 400],
  ["x".repeat(3_000), 400],
  [Buffer.from('["h","2027-01-31T00:00:00Z","x",null]').toString("base64url"), 400],
  [Buffer.from('{"__proto__":{"a":1}}').toString("base64url"), 400],
  [encodeURIComponent("'; drop table celery_task"), 400],
])("a cursor is refused: %j", async (cursor, status) => {
  const answer = await send(`tasks?cursor=${cursor}`);
  expect(answer.status).toBe(status);
  expect(JSON.parse(answer.body)).toMatchObject({ field: "cursor" });
});

it("a forged cursor finds nothing that its user may not see, and does no harm", async () => {
  const { next } = JSON.parse((await send("tasks?limit=1")).body) as { next: string };
  const [hash] = JSON.parse(Buffer.from(next, "base64url").toString()) as string[];
  const forged = Buffer.from(JSON.stringify([hash, "9999-12-31T23:59:59Z", "'; drop table celery_task; --\u0000", null])).toString(
    "base64url",
  );
  expect((await send(`tasks?limit=1&cursor=${forged}`)).status).toBe(400);
  expect(await isUnharmed()).toBe(true);
});

it.each([16, 64])("an address of %i KB is refused", async (kilobytes) => {
  // The server may close the connection before it has read everything.
  const status = await send(`tasks?text=${"x".repeat(kilobytes * 1_024)}`).then(
    (answer) => answer.status,
    () => 431,
  );
  expect(status).toSatisfy((code) => code === 400 || code === 431);
  expect((await send("tasks")).status).toBe(200);
});

it.each([
  "tasks?text=%",
  "tasks?text=%zz",
  "tasks?text=%ff%fe",
  "tasks/%ff",
  "tasks?__proto__=x",
  "tasks?constructor=x",
  "tasks?name[]=x",
  "tasks?name[a]=x",
  "tasks?limit=1&limit=2",
])("a malformed address is answered: %s", async (path) => {
  const { status, type } = await send(path);
  expect(status).toSatisfy((code) => code === 200 || code === 400 || code === 404);
  expect(type).toContain("json");
  expect(await isUnharmed()).toBe(true);
});

it("names that are also names of JavaScript are found like others", async () => {
  const idsOf = async (query: string): Promise<string[]> =>
    (JSON.parse((await send(`tasks?${query}`)).body) as { items: { task_id: string }[] }).items.map(({ task_id }) => task_id);
  expect(await idsOf("name=__proto__")).toEqual(["__proto__"]);
  expect(await idsOf("kwargs.__proto__=__proto__")).toEqual(["two"]);
  expect(await idsOf("parent=__proto__")).toEqual(["two"]);
  expect(JSON.parse((await send("tasks/__proto__/tree")).body)).toMatchObject({ root: "__proto__", nodes: [{}, {}] });
});

it("a page for a browser contains nothing of the request", async () => {
  const answer = await fetch(`${api.url}/tasks/${encodeURIComponent("<script>alert(1)</script>")}`, { headers: { accept: "text/html" } });
  expect(answer.status).toBe(404);
  expect(answer.headers.get("content-type")).toContain("text/html");
  expect(await answer.text()).not.toContain("<script");
});
