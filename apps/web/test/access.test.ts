/** Who may do what: every route and every role. */
import { beforeAll, describe, expect, it } from "vitest";
import { createToken, hashPassword, includesRole, parseTokens, parseUsers, USER_ROLES, type UserRole } from "../src/access/user.ts";
import { openApiDocument } from "../src/openapi-document.ts";
import { useApi } from "./harness.ts";

const PASSWORD = "correct horse: battery";
/** The hash of `PASSWORD`. */
const HASH = "scrypt$1024$8$1$c2FsdHNhbHQ$Z8g2W8FNk5G1yvK4Jp0g8mXbZq3vC1sB9p5wJ8uYt0k";
const SECRETS = [
  "'card 4242'",
  "result of 4242",
  "Declined('card 4242')",
  "Traceback of 4242",
  '"args_json":["card 4242"]',
  '"kwargs_json":{"card": 4242}',
];

/** The least role for each route. */
const ROUTES: Readonly<Record<string, UserRole>> = {
  "/api/v1/tasks": "viewer",
  "/api/v1/tasks.ndjson": "viewer",
  "/api/v1/tasks.csv": "viewer",
  "/api/v1/tasks/{id}": "viewer",
  "/api/v1/tasks/{id}/tree": "viewer",
  "/api/v1/tasks/{id}/events": "viewer",
  "/api/v1/counts": "viewer",
  "/api/v1/failures": "viewer",
  "/api/v1/failures/details": "viewer",
  "/api/v1/task-types": "viewer",
  "/api/v1/task-types/trends": "viewer",
  "/api/v1/names": "viewer",
  "/api/v1/me": "viewer",
  "/api/v1/live": "viewer",
  "/api/v1/statistics": "viewer",
  "/api/v1/workers": "viewer",
  "/api/v1/workers/activity": "viewer",
  "/api/v1/queues": "viewer",
  "/api/v1/queues/waiting": "viewer",
  "/api/v1/health-of-data": "viewer",
  "/api/v1/about": "viewer",
  "/api/v1/openapi.json": "viewer",
};

/** What a route requires. */
const PARAMETERS: Readonly<Record<string, string>> = { "/api/v1/queues/waiting": "?name=private&messages=1" };

/** The least role for each route of Flower's API, which the description leaves out. */
const FLOWER_ROUTES: Readonly<Record<string, UserRole>> = {
  "/api/workers": "viewer",
  "/api/workers?status=1": "viewer",
  "/api/tasks": "viewer",
  "/api/tasks?sort_by=-received&search=shop": "viewer",
  "/api/task/types": "viewer",
  "/api/task/info/{id}": "viewer",
  "/api/queues/length": "viewer",
};

const api = useApi();
const tokens: Partial<Record<UserRole | "expired", string>> = {};
let url = "";

beforeAll(async () => {
  url = await freshServer();
  await api.insert([
    {
      id: "secret",
      status: "FAILURE",
      args: "'card 4242'",
      kwargs: "'card 4242'",
      args_json: '["card 4242"]',
      kwargs_json: '{"card":4242}',
      result: "result of 4242",
      exception: "Declined('card 4242')",
      traceback: "Traceback of 4242",
    },
    { id: "waits", queue: "private", status: "PENDING", args: "'waits with 4242'" },
  ]);
  await api.client.query(
    `insert into celery_task_period (width, at, name, queue, status, n, runtime_sum, runtime_hist, wait_sum, wait_hist)
     select 1, date_trunc('minute', seen_at), '(all)', 'private', 'PENDING', 1, 0, 0, 0, 0 from celery_task where task_id = 'waits'`,
  );
  await api.client.query(
    `insert into celery_task_event (task_id, at, type, hostname, exception, traceback)
     values ('secret', now(), 'task-retried', 'w1@host', 'Refused(4242)', 'Traceback of retry 4242')`,
  );
});

function basic(username: string, password: string): Record<string, string> {
  return { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}` };
}

function bearer(who: UserRole | "expired"): Record<string, string> {
  return { authorization: `Bearer ${tokens[who] ?? ""}` };
}

/** The answer, with the beginning of its body: live views do not end. */
async function ask(route: string, headers: Record<string, string>): Promise<{ status: number; text: string }> {
  const answer = await fetch(url.replace("/api/v1", route.replace("{id}", "secret")) + (PARAMETERS[route] ?? ""), { headers });
  if (!route.includes("/live") || answer.status !== 200) return { status: answer.status, text: await answer.text() };
  let text = "";
  for await (const chunk of answer.body ?? []) {
    text += Buffer.from(chunk as Uint8Array).toString();
    if (text.includes("data:")) break;
  }
  return { status: answer.status, text };
}

/** How many tasks a search finds. */
async function countOf(text: string, role: UserRole): Promise<number> {
  const { text: body } = await ask(`/api/v1/tasks?text=${text}`, bearer(role));
  return (JSON.parse(body) as { items: unknown[] }).items.length;
}

async function me(headers: Record<string, string>): Promise<unknown> {
  return JSON.parse((await ask("/api/v1/me", headers)).text);
}

it("is decided for every route", async () => {
  const { paths } = JSON.parse(await openApiDocument()) as { paths: object };
  expect([...Object.keys(paths), "/api/v1/openapi.json"].toSorted()).toEqual(Object.keys(ROUTES).toSorted());
});

it.each(["/", "/tasks", "/assets/none.js"])("%s of the web page asks for a login too", async (route) => {
  expect((await ask(route, {})).status).toBe(401);
  expect((await ask(route, bearer("viewer"))).status).toBe(route.startsWith("/assets") ? 404 : 200);
});

describe.each(Object.entries({ ...ROUTES, ...FLOWER_ROUTES }))("%s", (route, least) => {
  it("is for nobody without a login", async () => {
    for (const headers of [{}, basic("ann", "wrong"), bearer("expired")]) {
      const { status, text } = await ask(route, headers);
      expect(status).toBe(401);
      expect(text).toMatch(route in ROUTES ? /^\{"type":"about:blank","title":"Login required","status":401,/ : /^[^{<]+$/);
    }
    // Each address has a limited number of wrong logins a minute, which a right one does not reset.
    url = await freshServer();
  });

  it.each(USER_ROLES)("and the role %s", async (role) => {
    expect((await ask(route, bearer(role))).status).toBe(includesRole(role, least) ? 200 : 403);
  });

  it("shows a viewer nothing of a task's data", async () => {
    const { text: seen } = await ask(route, bearer("viewer"));
    expect(seen).not.toMatch(/4242/);
  });
});

it("a reader sees all the data of a task", async () => {
  const { text } = await ask("/api/v1/tasks/{id}", bearer("reader"));
  for (const secret of SECRETS) expect(text).toContain(secret);
  // Also in its attempts.
  expect(text.split("Traceback of 4242")).toHaveLength(3);
  for (const secret of ["Refused(4242)", "Traceback of retry 4242"]) {
    expect(text).toContain(secret);
    expect((await ask("/api/v1/tasks/{id}/events", bearer("reader"))).text).toContain(secret);
  }
  expect((await ask("/api/v1/failures", bearer("reader"))).text).toContain("card #");
  expect((await ask("/api/v1/queues/waiting", bearer("reader"))).text).toContain("waits with 4242");
});

/** A server with the same user and new tokens, on which no login was wrong yet. */
async function freshServer(): Promise<string> {
  const users = `ann:reader:${await hashPassword(PASSWORD)}`;
  const entries: string[] = [];
  for (const role of USER_ROLES) {
    const { token, tokenHash } = createToken();
    tokens[role] = token;
    entries.push(`${role}-script:${role}:2099-01-31:${tokenHash}`);
  }
  const expired = createToken();
  tokens.expired = expired.token;
  return api.start({
    WEB_USERS: users,
    WEB_TOKENS: [...entries, `old:admin:2020-01-31:${expired.tokenHash}`].join("\n"),
    WEB_USERNAME: "ops",
    WEB_PASSWORD: PASSWORD,
    FLOWER_API: "true",
  });
}

it.each(USER_ROLES)("a %s changes nothing through Flower's API, and gets no results of the backend", async (role) => {
  const statusOf = async (route: string, method: string): Promise<number> =>
    (await fetch(url.replace("/api/v1", route), { method, headers: bearer(role) })).status;
  for (const route of ["/api/worker/shutdown/w1@host", "/api/task/revoke/secret", "/api/task/send-task/x"])
    expect(await statusOf(route, "POST")).toBe(403);
  expect(await statusOf("/api/task/result/secret", "GET")).toBe(501);
  expect((await fetch(url.replace("/api/v1", "/api/task/result/secret"))).status).toBe(401);
});

it("only logging in and out is for anyone, and only with an issuer", async () => {
  const routes = ["/auth/login", "/auth/callback", "/auth/password", "/auth/logged-out"];
  for (const route of routes) expect((await ask(route, bearer("admin"))).status).toBe(404);
  const origin = "http://127.0.0.1:1";
  const issuer = { WEB_OIDC_ISSUER: origin, WEB_OIDC_CLIENT_ID: "x", WEB_OIDC_CLIENT_SECRET: "0123456789abcdef", WEB_OIDC_ROLE: "viewer" };
  const site = new URL(await api.start({ ...issuer, WEB_PUBLIC_URL: "https://tools.example.com/" })).origin;
  const statuses = await Promise.all(routes.map(async (route) => (await fetch(site + route)).status));
  // The issuer does not answer; no login was begun; a password is asked for.
  expect(statuses).toEqual([503, 400, 401, 200]);
  for (const route of Object.keys(ROUTES)) expect((await fetch(site + route.replace("{id}", "secret"))).status).toBe(401);
});

async function settingsFor(role: UserRole): Promise<{ name: string; value: string | null }[] | null> {
  const { text } = await ask("/api/v1/about", bearer(role));
  return (JSON.parse(text) as { settings: { name: string; value: string | null }[] | null }).settings;
}

it("only an admin sees the settings, without secrets", async () => {
  expect(await Promise.all((["viewer", "reader", "operator"] as const).map(settingsFor))).toEqual([null, null, null]);
  const settings = await settingsFor("admin");
  const values = Object.fromEntries(settings?.map(({ name, value }) => [name, value]) ?? []);
  expect(values).toMatchObject({ WEB_USERNAME: "ops", WEB_PASSWORD: "[redacted]", WEB_USERS: "[redacted]", WEB_TOKENS: "[redacted]" });
  expect(values["DATABASE_URL"]).toMatch(/^postgres:/);
  expect(JSON.stringify(settings)).not.toMatch(/correct horse|scrypt\$\d|sha256\$[\w-]{43}/);
});

describe("a viewer", () => {
  it.each(["exception=card", "args.0=x", "kwargs.card=4242"])("cannot search in the data of tasks: %s", async (query) => {
    for (const list of ["tasks", "tasks.csv", "tasks.ndjson", "live"]) {
      const { status, text } = await ask(`/api/v1/${list}?${query}`, bearer("viewer"));
      expect(status).toBe(403);
      expect(JSON.parse(text)).toMatchObject({ field: query.split("=")[0], detail: "A viewer may not search in the data of tasks." });
    }
  });

  it("finds text only where they may look", async () => {
    expect(await countOf("4242", "viewer")).toBe(0);
    expect(await countOf("4242", "reader")).toBe(2);
    expect(await countOf("SECRET", "viewer")).toBe(1);
  });
});

describe("a login", () => {
  it("is a user's, or that of the one admin", async () => {
    expect(await me(basic("ann", PASSWORD))).toEqual({ name: "ann", role: "reader", logout: null });
    // From memory.
    expect(await me(basic("ann", PASSWORD))).toEqual({ name: "ann", role: "reader", logout: null });
    expect(await me(basic("ops", PASSWORD))).toEqual({ name: "ops", role: "admin", logout: null });
    expect(await me(bearer("operator"))).toEqual({ name: "operator-script", role: "operator", logout: null });
  });

  it("is checked at most ten times a minute if it is wrong, also by many requests at once", async () => {
    const fresh = await freshServer();
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_, index) =>
        fetch(`${fresh}/me`, { headers: index % 2 === 0 ? basic("ann", `guess ${index}`) : { authorization: `Bearer guess${index}` } }),
      ),
    );
    expect(answers.filter(({ status }) => status === 401)).toHaveLength(10);
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(20);
    expect((await fetch(`${fresh}/me`, { headers: basic("ann", PASSWORD) })).status).toBe(429);
  });
});

describe("without users", () => {
  it("everyone on this machine is an admin, but no other site's page", async () => {
    expect(await (await fetch(`${api.url}/me`)).json()).toEqual({ name: "anyone", role: "admin", logout: null });
    const { request } = await import("node:http");
    const statusFor = (host: string): Promise<number | undefined> =>
      new Promise((resolve, reject) => {
        request(`${api.url}/me`, { headers: { host } }, (answer) => resolve(answer.resume().statusCode))
          .on("error", reject)
          .end();
      });
    expect(await statusFor("localhost:5555")).toBe(200);
    expect(await statusFor("evil.example.com")).toBe(403);
  });

  it("a change from another site is refused, and every method but GET has nothing", async () => {
    expect((await fetch(`${api.url}/tasks`, { method: "POST", headers: { origin: "http://evil.example.com" } })).status).toBe(403);
    expect((await fetch(`${api.url}/tasks`, { method: "POST", headers: { origin: new URL(api.url).origin } })).status).toBe(404);
  });

  it("answers have headers that restrict the browser, and are not cached", async () => {
    const { headers } = await fetch(`${api.url}/me`);
    expect(headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("cache-control")).toBe("no-store");
  });
});

describe("entries", () => {
  it("are separated by commas, blanks and lines", () => {
    expect(parseUsers(`a:viewer:${HASH}, b:admin:${HASH}\n\nc:reader:${HASH}\n`).map(({ name, role }) => `${name} ${role}`)).toEqual([
      "a viewer",
      "b admin",
      "c reader",
    ]);
    expect(parseUsers("")).toEqual([]);
  });

  it.each([
    [() => parseUsers(`a:viewer:${HASH},hunter2`), /^entry 2 must begin with a name and a role/],
    [() => parseUsers("a:root:hunter2"), /^entry 1 must begin with a name and a role: .*viewer, reader, operator, admin/],
    [() => parseUsers("a:reader:hunter2"), /^entry 1 must end with the hash of a password/],
    [() => parseTokens("a:reader:hunter2"), /^entry 1 must have a day/],
    [() => parseTokens("a:reader:2027-01-31:hunter2"), /^entry 1 must end with the hash of a token/],
  ])("are refused without showing them: %#", (parse, message) => {
    expect(parse).toThrow(message);
    expect(parse).toThrow(/^((?!hunter2).)*$/);
  });
});
