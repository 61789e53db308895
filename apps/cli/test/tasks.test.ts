import { taskFailed, taskReceived, taskRetried, taskStarted } from "@celery-metrics-exporter/celery/testing";
import { connectDatabase, migrate, upsertTasks } from "@celery-metrics-exporter/db";
import { createLogger, startRoles, type RunningRoles } from "@celery-metrics-exporter/runtime";
import { createDatabase, type TestDatabase } from "@celery-metrics-exporter/testkit";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createToken, webRole } from "web";
import { runCommand } from "../src/program.ts";

/** A busy machine takes long to create an embedded database. */
const TIMEOUT_MS = 120_000;
const now = Date.now() / 1_000;
const ago = (seconds: number) => ({ timestamp: now - seconds });
/** Clears the screen, in both forms, and turns the direction of writing. */
const HOSTILE = "shop.\u001b[2J\u009b2J\u202eevil\r";
const FAILED = "46c6caee-0688-48e9-bdd4-2c2c2063fd40";

const EVENTS = [
  ...Array.from({ length: 250 }, (_, index) => taskReceived({ uuid: `many-${index}`, name: "other.many", ...ago(7_300 + index) })),
  taskReceived({ uuid: "hostile", name: HOSTILE, ...ago(30) }),
  taskReceived({ uuid: FAILED, name: "shop.billing.charge", kwargs: "{'order': 12}", ...ago(20) }),
  taskStarted({ uuid: FAILED, ...ago(19) }),
  taskRetried({ uuid: FAILED, exception: "Refused('card')", ...ago(18) }),
  taskStarted({ uuid: FAILED, ...ago(9) }),
  taskFailed({
    uuid: FAILED,
    exception: `Declined('${"x".repeat(300)}')`,
    traceback: "Traceback:\n  line \u001b[31m1\nDeclined",
    ...ago(8),
  }),
];

interface Ran {
  readonly output: string;
  readonly lines: readonly string[];
}

async function run(args: readonly string[], env: Readonly<Record<string, string>>, columns?: number): Promise<Ran> {
  let output = "";
  const styles = { bold: String, dim: String, green: String, red: String, yellow: String };
  const terminal = {
    ...styles,
    isInteractive: columns !== undefined,
    columns: columns ?? 100,
    write: (text: string) => void (output += text),
  };
  await runCommand(args, env, terminal);
  return { output, lines: output.trimEnd().split("\n") };
}

function failure(code: string, exitCode: number, message: string): object {
  return { code, exitCode, message: expect.stringContaining(message) as string };
}

/** What a terminal would obey. */
const UNSAFE = /[^\n\P{Cc}]|[\p{Cf}\p{Zl}\p{Zp}]/u;

let created: TestDatabase;
let roles: RunningRoles;
let url = "";
const { token, tokenHash } = createToken();
const folder = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-tasks-"));
const embeddedUrl = `pglite:${join(folder, "pglite")}`;

beforeAll(async () => {
  created = await createDatabase();
  await migrate(created.url);
  for (const each of [created.url, embeddedUrl]) {
    const database = await connectDatabase({ url: each });
    await upsertTasks(database, EVENTS);
    await database.close();
  }
  const env = {
    DATABASE_URL: created.url,
    WEB_PORT: "0",
    HEALTH_PORT: "0",
    WEB_REQUEST_TIMEOUT_SECONDS: "30",
    WEB_TOKENS: `script:reader:2099-01-31:${tokenHash}`,
  };
  roles = await startRoles([webRole((opened) => (url = opened))], env, createLogger("web", "silent"));
}, TIMEOUT_MS);
afterAll(async () => {
  await roles?.stop();
  await created?.drop();
  rmSync(folder, { recursive: true, force: true });
});

const sources = {
  "the database": () => ({ args: [], env: { DATABASE_URL: created.url } }),
  "a replica": () => ({ args: [], env: { DATABASE_URL: "postgres://nobody@127.0.0.1:1/none", DATABASE_READ_URL: created.url } }),
  "an embedded database": () => ({ args: [], env: { DATABASE_URL: embeddedUrl } }),
  "the API": () => ({ args: ["--api", url], env: { API_TOKEN: token } }),
  "the API's address below a path": () => ({ args: ["--api", `${url}/celery/api/v1/`], env: { API_TOKEN: token } }),
};

describe.each(Object.entries(sources))("from %s", (_what, source) => {
  const ask = (args: readonly string[], columns?: number): Promise<Ran> => run([...args, ...source().args], source().env, columns);

  it("tasks lists what the filters find", async () => {
    const { lines } = await ask(["tasks", "--status", "failure", "--name", "shop.*", "--since", "1h"]);
    expect(lines[0]).toMatch(/^task_id +name +status +queue +worker +seen_at +duration +exception$/);
    expect(lines[2]).toMatch(new RegExp(`^${FAILED} +shop\\.billing\\.charge +FAILURE .* 1\\.000 +Declined\\('x+'\\)$`));
    expect(lines.at(-1)).toBe("(1 task)");
    expect((await ask(["tasks", "--name", "nothing"])).output).toBe("(0 tasks)\n");
  });

  it("task shows one with its attempts, events and traceback", async () => {
    const { output } = await ask(["task", FAILED]);
    expect(output).toMatch(/^status +FAILURE$/m);
    expect(output).toMatch(/^kwargs +\{'order': 12\}$/m);
    expect(output).toMatch(/\nAttempts\n# +outcome .*\n[- ]+\n1 +retry .* Refused\('card'\)\n2 +failure /);
    expect(output).toMatch(/\nStored events\nat .*\n[- ]+\n(?:.*\n)*.* task-retried /);
    expect(output).toContain("\nOthers are not stored: POSTGRES_HISTORY=unusual keeps\nonly events that the fields do not show.\n");
    expect(output).toMatch(/\nTraceback\nTraceback:\n {2}line \\x1b\[31m1\nDeclined\n$/);
    await expect(ask(["task", "nothing"])).rejects.toMatchObject(failure("ERR_NOT_FOUND", 1, "This task is not known"));
  });
});

const database = (args: readonly string[], columns?: number): Promise<Ran> => run(args, { DATABASE_URL: created.url }, columns);

it.each([60, 80, 120, 200])("fits a terminal of %d columns, and does not cut the id", async (columns) => {
  for (const args of [
    ["tasks", "--limit", "100"],
    ["task", FAILED],
  ]) {
    const { lines, output } = await database(args, columns);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(columns);
    expect(output).toContain(FAILED);
  }
});

it("shows what a terminal would obey as escapes, and keeps it in JSON", async () => {
  for (const args of [["tasks"], ["tasks", "--json"], ["task", "hostile"], ["task", "hostile", "--json"], ["task", FAILED]]) {
    expect((await database(args)).output).not.toMatch(UNSAFE);
  }
  expect((await database(["tasks"])).output).toContain(String.raw`shop.\x1b[2J\x9b2J\u202eevil\x0d`);
  const { output } = await database(["tasks", "--json", "--id", "hostile"]);
  expect((JSON.parse(output) as { name: string }).name).toBe(HOSTILE);
});

it("writes one task per line with --json, over several pages", async () => {
  const { lines } = await database(["tasks", "--json", "--name", "other.many", "--limit", "240"]);
  const ids = lines.map((line) => (JSON.parse(line) as { task_id: string }).task_id);
  expect(ids).toHaveLength(240);
  expect(new Set(ids).size).toBe(240);
  expect((await database(["tasks", "--name", "other.many", "--limit", "3"])).lines.at(-1)).toBe("(3 tasks; --limit shows more)");
  expect((await database(["tasks", "--name", "other.many", "--since", "1h"])).lines).toEqual(["(0 tasks)"]);
  expect((await database(["tasks", "--lost"])).lines).toEqual(["(0 tasks)"]);
});

const api = (env: Record<string, string>, address = url): Promise<Ran> => run(["tasks", "--api", address], env);

describe("says what is wrong", () => {
  it.each([
    [["tasks", "--status", "failed"], "must be one or more of PENDING"],
    [["tasks", "--since", "yesterday"], "--since must be a number of minutes"],
    [["tasks", "--until", "yesterday"], "--until must be a time"],
    [["tasks", "--runtime-min", "long"], "--runtime-min must be a number"],
    [["tasks", "--limit", "0"], "--limit must be a whole number"],
    [["tasks", "one"], 'tasks takes no argument "one"'],
    [["tasks", "--api-token", "x"], 'Unknown option "--api-token"'],
    [["task"], "The id of a task is required."],
    [["task", "x", "--api", "ftp://host"], "--api must be an address"],
    [["task", "x", "--api", "http://user:hunter2@host"], "must not contain a password"],
  ])("on the command line: %j", async (args, message) => {
    await expect(database(args)).rejects.toMatchObject(failure("ERR_USAGE", 64, message));
    await expect(database(args)).rejects.not.toThrow("hunter2");
  });

  it("with an API", async () => {
    await expect(api({})).rejects.toMatchObject(failure("ERR_REFUSED", 77, "API_TOKEN"));
    await expect(api({ API_TOKEN: "wrong" })).rejects.toMatchObject(failure("ERR_REFUSED", 77, "API_TOKEN"));
    await expect(api({}, "http://127.0.0.1:59999")).rejects.toMatchObject(
      failure("ERR_UNAVAILABLE", 69, "does not answer (connect ECONNREFUSED"),
    );
  });

  it("and sends the token nowhere else", async () => {
    const asked: (string | undefined)[] = [];
    const other: Server = createServer((request, response) => {
      asked.push(request.url);
      response.writeHead(302, { location: `${url}/api/v1/tasks` }).end();
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const address = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
    await expect(run(["tasks", "--api", address], { API_TOKEN: token })).rejects.toMatchObject(
      failure("ERR_UNAVAILABLE", 69, "does not answer"),
    );
    expect(asked).toHaveLength(1);
    other.close();
  });

  it("with a database", async () => {
    const empty = await createDatabase();
    await expect(run(["tasks"], { DATABASE_URL: empty.url })).rejects.toMatchObject(failure("ERR_UNAVAILABLE", 69, "migrate"));
    await empty.drop();
    await expect(run(["tasks"], { DATABASE_URL: `pglite:${join(folder, "none")}` })).rejects.toMatchObject(
      failure("ERR_UNAVAILABLE", 69, "Run `start` first"),
    );
  });
});
