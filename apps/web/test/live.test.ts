/** Live views by server-sent events. */
import { createLogger, startRoles } from "@celery-metrics-exporter/runtime";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LiveViews, type LiveRow, type LiveSource } from "../src/load/live-views.ts";
import { webRole } from "../src/web.ts";
import { minutesAgo, useApi } from "./harness.ts";

const api = useApi();

interface Event {
  readonly event: string;
  readonly id: string | undefined;
  readonly data: {
    readonly reset?: boolean;
    readonly items?: readonly { readonly task_id: string; readonly status: string }[];
    readonly status?: number;
  };
}

/** The events in a text; comments and `retry` are left out. */
function parse(text: string): Event[] {
  return text
    .split("\n\n")
    .filter((block) => block.includes("data: "))
    .map((block) => {
      const fields = new Map(block.split("\n").map((line) => [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)]));
      return { event: fields.get("event") ?? "", id: fields.get("id"), data: JSON.parse(fields.get("data") ?? "null") as Event["data"] };
    });
}

interface Client {
  events(): Event[];
  hasEnded(): boolean;
  close(): void;
}

const clients: Client[] = [];
afterEach(() => clients.splice(0).forEach((client) => client.close()));

async function connect(query: string, headers: Record<string, string> = {}, url = api.url): Promise<Client> {
  const ending = new AbortController();
  const answer = await fetch(`${url}/live?${query}`, { headers, signal: ending.signal });
  expect(answer.status).toBe(200);
  expect(answer.headers.get("content-type")).toBe("text/event-stream");
  let text = "";
  let hasEnded = false;
  void (async () => {
    for await (const chunk of answer.body ?? []) text += Buffer.from(chunk as Uint8Array).toString();
  })()
    .catch(() => {})
    .finally(() => (hasEnded = true));
  const client = { events: () => parse(text), hasEnded: () => hasEnded, close: () => ending.abort() };
  clients.push(client);
  return client;
}

function idsOf(events: readonly Event[]): string[][] {
  return events.map(({ data }) => data.items?.map(({ task_id: id, status }) => `${id} ${status}`) ?? []);
}

describe("a live view", () => {
  beforeEach(() => api.client.query("truncate celery_task"));

  it("begins with the newest tasks, and sends what is new or has changed", async () => {
    await api.insert([{ id: "one", status: "STARTED" }]);
    const client = await connect("name=shop.cart.total&limit=2");
    await expect.poll(() => idsOf(client.events())).toEqual([["one STARTED"]]);
    expect(client.events()[0]).toMatchObject({ event: "tasks", data: { reset: true } });
    await api.insert([
      { id: "two", at: new Date() },
      { id: "other", name: "other" },
    ]);
    await expect.poll(() => idsOf(client.events()).slice(1)).toEqual([["two SUCCESS"]]);
    // "one" has left the page, but is followed until it has finished.
    await api.insert([{ id: "three", at: new Date(Date.now() + 1_000) }]);
    await expect.poll(() => idsOf(client.events()).slice(2)).toEqual([["three SUCCESS"]]);
    await api.client.query("update celery_task set status = 'FAILURE', state_precedence = 2 where task_id = 'one'");
    await expect.poll(() => idsOf(client.events()).slice(3)).toEqual([["one FAILURE"]]);
    expect(
      client
        .events()
        .slice(1)
        .every(({ data }) => data.reset === false),
    ).toBe(true);
  });

  it("sends after a lost connection only what was missed, and everything if that is not known", async () => {
    await api.insert([{ id: "seen" }]);
    const first = await connect("name=shop.cart.total&limit=3");
    await expect.poll(() => first.events().length).toBe(1);
    await api.insert([{ id: "seen-2", at: new Date() }]);
    await expect.poll(() => first.events().length).toBe(2);
    const lastId = first.events()[1]?.id ?? "";
    first.close();
    await api.insert([{ id: "missed", at: new Date(Date.now() + 1_000) }]);
    const again = await connect("name=shop.cart.total&limit=3", { "last-event-id": lastId });
    await expect.poll(() => idsOf(again.events())).toEqual([["missed SUCCESS"]]);
    for (const unknown of ["", "x-1", `${lastId.split("-")[0]}-999`, `${lastId.split("-")[0]}-`, "__proto__"]) {
      const other = await connect("name=shop.cart.total&limit=3", { "last-event-id": unknown });
      await expect.poll(() => idsOf(other.events())).toEqual([["missed SUCCESS", "seen-2 SUCCESS", "seen SUCCESS"]]);
    }
  });

  it("is read once a second for all of its clients, and not at all without them", async () => {
    const readings = async (): Promise<number> => {
      const { rows } = await api.client.query<{ n: string }>(
        "select idx_scan as n from pg_stat_user_indexes where indexrelname = 'celery_task_problem_idx'",
      );
      return Number(rows[0]?.n);
    };
    await api.insert(Array.from({ length: 200 }, (_, index) => ({ id: `failed-${index}`, status: "FAILURE", at: minutesAgo(index) })));
    await Promise.all(Array.from({ length: 20 }, () => connect("status=FAILURE")));
    await sleep(2_000);
    const before = await readings();
    await sleep(4_000);
    const read = (await readings()) - before;
    expect(read).toBeGreaterThan(0);
    expect(read).toBeLessThanOrEqual(7);
    clients.splice(0).forEach((client) => client.close());
    await sleep(2_500);
    const rest = await readings();
    await sleep(2_500);
    expect((await readings()) - rest).toBe(0);
  });

  it("reports an outage once, and goes on", async () => {
    const client = await connect("name=nobody");
    await expect.poll(() => client.events().length).toBe(1);
    await api.client.query("alter table celery_task rename to aside");
    await expect.poll(() => client.events()[1]?.event, { timeout: 15_000 }).toBe("problem");
    await sleep(2_500);
    await api.client.query("alter table aside rename to celery_task");
    await api.insert([{ id: "back", name: "nobody" }]);
    await expect.poll(() => idsOf(client.events()).at(-1), { timeout: 15_000 }).toEqual(["back SUCCESS"]);
    expect(client.events().map(({ event }) => event)).toEqual(["tasks", "problem", "tasks"]);
    expect(client.events()[1]?.data).toMatchObject({ title: "Not available", status: 503 });
  });

  it("ends when the server stops", async () => {
    let url = "";
    const role = webRole((opened) => (url = `${opened}/api/v1`));
    const env = { DATABASE_URL: api.databaseUrl, WEB_PORT: "0", HEALTH_PORT: "0", WEB_REQUEST_TIMEOUT_SECONDS: "30" };
    const running = await startRoles([role], env, createLogger("web", "silent"));
    const client = await connect("", {}, url);
    await expect.poll(() => client.events().length).toBe(1);
    await running.stop();
    await expect.poll(() => client.hasEnded()).toBe(true);
  });

  it("is refused with a wrong filter", async () => {
    expect(await (await fetch(`${api.url}/live?cursor=x`)).json()).toMatchObject({ status: 400, field: "cursor" });
  });
});

function row(id: string, status = "SUCCESS"): LiveRow {
  return { task_id: id, status };
}

function source(key: string, list: () => Promise<readonly LiveRow[]> = async () => [row("a")]): LiveSource {
  return { key, everyMs: 20, list, byId: async () => [], toProblem: ({ message }) => ({ message }) };
}

describe("live views", () => {
  it("are limited in their number and in that of their clients", async () => {
    const views = new LiveViews({ clients: 3, views: 2 });
    views.open(source("a"), undefined);
    const second = views.open(source("b"), undefined);
    expect(() => views.open(source("c"), undefined)).toThrow("Too many different live views");
    views.open(source("b"), undefined);
    expect(() => views.open(source("b"), undefined)).toThrow("Too many clients of live views");
    second.destroy();
    await expect.poll(() => views.open(source("b"), undefined).destroyed).toBe(false);
    await views.stop();
  });

  it("send a comment now and then, so that proxies keep the connection", async () => {
    const views = new LiveViews({ heartbeatMs: 30 });
    let text = "";
    views.open(source("a"), undefined).on("data", (chunk) => (text += String(chunk)));
    await expect.poll(() => text).toContain(": heartbeat\n\n: heartbeat\n\n");
    expect(text).toMatch(/^retry: \d+\n\n/);
    await views.stop();
  });

  it("are forgotten some time after the last client", async () => {
    let read = 0;
    const views = new LiveViews({ forgetMs: 50, views: 1 });
    const counting = source("a", async () => {
      read++;
      return [row("a")];
    });
    const client = views.open(counting, undefined);
    await expect.poll(() => read).toBeGreaterThan(2);
    client.destroy();
    await expect
      .poll(() => {
        try {
          return views.open(source("b"), undefined).destroyed;
        } catch {
          return "full";
        }
      })
      .toBe(false);
    await views.stop();
  });

  it("disconnect a client that takes nothing", async () => {
    const views = new LiveViews();
    let number = 0;
    const client = views.open(
      source("a", async () => [row(`${number++}`, "x".repeat(200_000))]),
      undefined,
    );
    await expect.poll(() => client.destroyed).toBe(true);
    await views.stop();
  });
});
