import { connect } from "node:net";
import { text } from "node:stream/consumers";
/** Lists of tasks: what filters find, and pages. */
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { minutesAgo, useApi } from "./harness.ts";

const api = useApi();

interface Item {
  readonly task_id: string;
  readonly [column: string]: unknown;
}
interface Page {
  readonly items: readonly Item[];
  readonly next: string | null;
  readonly searched_to: string | null;
  readonly count?: { readonly value: number; readonly more: boolean } | null;
}

async function get(query: string): Promise<Page> {
  const answer = await fetch(`${api.url}/tasks?${query}`);
  const body = (await answer.json()) as Page;
  expect(answer.status, JSON.stringify(body)).toBe(200);
  return body;
}

/** A search answers with what it found within its time, so on a busy machine it takes more than one answer. */
async function searched(query: string): Promise<Page> {
  let page = await get(query);
  while (page.next !== null) page = await get(`${query}&cursor=${encodeURIComponent(page.next)}`);
  return page;
}

async function idsOf(query: string): Promise<string[]> {
  return (await get(query)).items.map(({ task_id }) => task_id);
}

/** All pages, one after the other. */
async function walk(query: string, onPage: () => Promise<void> = async () => {}): Promise<string[]> {
  const ids: string[] = [];
  for (let cursor: string | null = ""; cursor !== null;) {
    const page: Page = await get(`${query}${cursor === "" ? "" : `&cursor=${cursor}`}`);
    ids.push(...page.items.map(({ task_id }) => task_id));
    cursor = page.next;
    await onPage();
  }
  return ids;
}

describe("filters", () => {
  beforeAll(async () => {
    await api.client.query("truncate celery_task");
    await api.insert([
      {
        id: "paid",
        name: "shop.pay",
        queue: "money",
        at: minutesAgo(1),
        kwargs: "{'customer': 1234, 'big': 12345678901234567890, 'full': True, 'note': None}",
        kwargs_json: '{"customer":1234,"big":12345678901234567890,"full":true,"note":null}',
        args: "('x', 7)",
        args_json: '["x",7]',
        runtime: 3.5,
      },
      {
        id: "failed",
        name: "shop.pay",
        queue: "money",
        status: "FAILURE",
        at: minutesAgo(2),
        exception: "ValueError('no Card 12')",
        retries: 3,
      },
      { id: "retried", name: "shop.mail", status: "RETRY", at: minutesAgo(3), exception: "TimeoutError()", worker: "w2@host" },
      { id: "open", name: "shop.mail", status: "STARTED", at: minutesAgo(4), root: "paid", parent: "paid" },
      { id: "old", name: "shop.mail", at: minutesAgo(60 * 30) },
      { id: "oldest", name: "shop.mail", queue: "rare", at: minutesAgo(60 * 24 * 90) },
    ]);
  });

  it.each([
    ["", ["paid", "failed", "retried", "open"]],
    ["range=all", ["paid", "failed", "retried", "open", "old", "oldest"]],
    ["range=2d", ["paid", "failed", "retried", "open", "old"]],
    ["status=FAILURE", ["failed"]],
    ["status=failure,RETRY", ["failed", "retried"]],
    ["status=FAILURE,SUCCESS", ["paid", "failed"]],
    ["status=FAILURE,RETRY&name=shop.mail&name=shop.pay", ["failed", "retried"]],
    ["status=STARTED", ["open"]],
    ["name=shop.pay", ["paid", "failed"]],
    ["name=shop.pay&name=shop.mail&name=shop.pay", ["paid", "failed", "retried", "open"]],
    ["name=shop.*", ["paid", "failed", "retried", "open"]],
    ["name=*.pay", ["paid", "failed"]],
    ["name=shop_pay", []],
    ["name=shop_p*", []],
    ["queue=rare&range=all", ["oldest"]],
    ["queue=nowhere&range=all", []],
    ["worker=w2@host", ["retried"]],
    ["worker=w2@*", ["retried"]],
    ["id=pai", ["paid"]],
    ["id=paid", ["paid"]],
    ["id=old&range=all", ["old", "oldest"]],
    ["root=paid", ["paid", "open"]],
    ["parent=paid", ["open"]],
    ["parent=unknown", []],
    ["text=CARD", ["failed"]],
    ["text=rare&range=all", ["oldest"]],
    ["exception=timeout", ["retried"]],
    ["kwargs.customer=1234", ["paid"]],
    ["kwargs.customer=123", []],
    ["kwargs.big=12345678901234567890", ["paid"]],
    ["kwargs.big=12345678901234567891", []],
    ["kwargs.full=True&kwargs.note=None", ["paid"]],
    ["kwargs.full=true&kwargs.note=null", ["paid"]],
    ["kwargs.full=False", []],
    ["args.0=x&args.1=7", ["paid"]],
    ["args.0=7", []],
    ["runtime_min=3", ["paid"]],
    ["runtime_min=4", []],
    ["retries_min=3", ["failed"]],
    ["wait_min=0.5&status=RETRY", ["retried"]],
    [
      `from=${encodeURIComponent(minutesAgo(3.5).toISOString())}&to=${encodeURIComponent(minutesAgo(1.5).toISOString())}`,
      ["failed", "retried"],
    ],
    [`range=all&to=${encodeURIComponent(minutesAgo(60).toISOString())}`, ["old", "oldest"]],
  ])("%s", async (query, ids) => {
    // A search answers with what it found within its time, so on a busy machine it takes more than one answer.
    expect(await walk(query)).toEqual(ids);
  });

  it("reports how far it searched, and ends", async () => {
    expect(await get("range=all")).toMatchObject({ next: null, searched_to: null });
    expect(await searched("range=all&queue=nowhere")).toMatchObject({ items: [], next: null, searched_to: null });
    const { searched_to: searchedTo, items } = await get("limit=2");
    expect(searchedTo).toBe(items[1]?.["seen_at"]);
    expect(Date.parse((await searched("queue=nowhere")).searched_to ?? "")).toBeCloseTo(minutesAgo(24 * 60).getTime(), -4);
  });

  it("counts up to a limit, if asked", async () => {
    expect((await get("")).count).toBeUndefined();
    expect((await get("count=true&status=FAILURE,RETRY")).count).toEqual({ value: 2, more: false });
  });

  it.each([
    ["status=FAILED", "status"],
    ["range=1y", "range"],
    ["from=yesterday", "from"],
    ["limit=0", "limit"],
    ["limit=201", "limit"],
    ["limit=ten", "limit"],
    ["limit=1&limit=2", "limit", "must be given only once"],
    ["status=FAILURE&status=RETRY", "status", "must be given only once"],
    ["from=2027-02-01T00:00:00Z&to=2027-01-01T00:00:00Z", "from", "must not be later than to"],
    ["range=1h&from=2026-01-01T00:00:00Z", "range", "must not be given together with from"],
    ["nmae=x", "nmae"],
    ["kwargs.=x", "kwargs."],
    ["args.first=x", "args.first"],
    ["cursor=x", "cursor"],
    ["name=", "name"],
    ["runtime_min=-1", "runtime_min"],
  ])("are refused with their name if they are wrong: %s", async (query, field, detail = "") => {
    const answer = await fetch(`${api.url}/tasks?${query}`);
    expect(answer.status).toBe(400);
    expect(answer.headers.get("content-type")).toContain("application/problem+json");
    expect(await answer.json()).toMatchObject({
      type: "about:blank",
      title: "Wrong parameter",
      status: 400,
      field,
      detail: expect.stringMatching(new RegExp(`^The .*${detail}.*\\.$`)),
    });
  });

  it("are refused with a problem document if the address is no address", async () => {
    const { hostname, port } = new URL(api.url);
    const socket = connect(Number(port), hostname);
    socket.write("GET /api/v1/tasks?text=Grüße HTTP/1.1\r\nhost: localhost\r\n\r\n");
    const [head = "", body = ""] = (await text(socket)).split("\r\n\r\n");
    expect(head).toMatch(/^HTTP\/1\.1 400 [^]*content-type: application\/problem\+json/);
    expect(JSON.parse(body)).toMatchObject({
      type: "about:blank",
      status: 400,
      detail: expect.stringContaining("percent-encoded") as string,
    });
  });

  it("do not fit the cursor of others", async () => {
    const { next } = await get("limit=1&name=shop.mail");
    expect(await idsOf(`limit=1&name=shop.mail&cursor=${next}`)).toEqual(["open"]);
    const answer = await fetch(`${api.url}/tasks?limit=1&name=shop.pay&cursor=${next}`);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ field: "cursor" });
  });
});

describe("pages", () => {
  beforeEach(() => api.client.query("truncate celery_task"));

  it.each(["", "status=FAILURE,RETRY", "name=a&name=b", "worker=w1@host", "text=shop"])(
    "contain each row once, and all that existed at the start, while rows arrive: %s",
    async (filter) => {
      const startedAt = Date.now() - 1_000;
      const rows = Array.from({ length: 500 }, (_, index) => ({
        id: `task-${(index * 7919) % 500}`,
        name: ["a", "b"][index % 2] ?? "a",
        queue: "shop",
        status: ["FAILURE", "RETRY"][index % 2] ?? "",
        // Several rows in each instant, so that the id decides.
        at: new Date(startedAt - Math.floor(index / 7) * 60_000),
      }));
      await api.insert(rows);
      let arrived = 0;
      const ids = await walk(`${filter}&limit=20`, () =>
        api.insert(Array.from({ length: 30 }, () => ({ ...rows[0], id: `new-${arrived++}`, at: new Date(), name: "a" }))),
      );
      expect(new Set(ids).size).toBe(ids.length);
      expect(rows.map(({ id }) => id).filter((id) => !ids.includes(id))).toEqual([]);
    },
  );

  it("are found however far apart the rows are, and however many are between them", async () => {
    await api.insert([1, 10, 1_000, 100_000].map((minutes) => ({ id: `at-${minutes}`, queue: "rare", at: minutesAgo(minutes) })));
    expect(await walk("queue=rare&range=all&limit=1")).toEqual(["at-1", "at-10", "at-1000", "at-100000"]);
  });

  it("of a search miss nothing where one slice ends and the next begins", async () => {
    const startedAt = Date.now();
    // A slice is a multiple of the distance, so it ends exactly at a row.
    const rows = Array.from({ length: 1_500 }, (_, index) => ({
      id: `row-${index}`,
      queue: "dense",
      at: new Date(startedAt - index * 5_000),
    }));
    await api.insert(rows);
    expect((await walk("queue=dense&limit=200")).toSorted()).toEqual(rows.map(({ id }) => id).toSorted());
  });
});
