/** The roles as a user starts them: they drain on SIGTERM and Ctrl-C without leaving a process behind, and report clear errors. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { migrate } from "@celery-metrics-exporter/db";
import {
  createDatabase,
  createVhost,
  startRedis,
  type RedisServer,
  type TestDatabase,
  type TestVhost,
} from "@celery-metrics-exporter/testkit";
import { ALL_ROLES } from "cli";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { REPOSITORY, run, type Environment } from "../fleet/role-process.ts";

const { packageManager } = JSON.parse(readFileSync(`${REPOSITORY}/package.json`, "utf8")) as { packageManager: string };
const ROLES = ALL_ROLES.map(({ name }) => name);

let redis: RedisServer;
let vhost: TestVhost;
let database: TestDatabase;
let env: Environment;
let pnpm: string;

beforeAll(async () => {
  pnpm = findPnpm();
  redis = await startRedis();
  vhost = await createVhost();
  database = await createDatabase();
  await migrate(database.url);
  env = {
    REDIS_URL: redis.url,
    CELERY_BROKER_URL: vhost.url,
    DATABASE_URL: database.url,
    DASHBOARD_PORT: "0",
    WEB_PORT: "0",
    PROMETHEUS_PORT: "0",
    STARTUP_TIMEOUT_SECONDS: "5",
  };
});

afterAll(async () => {
  await Promise.all([redis.stop(), vhost.drop(), database.drop()]);
});

/** The pinned pnpm itself, because npx runs it in a shell, which does not forward SIGTERM. */
function findPnpm(): string {
  return execFileSync("npx", ["--yes", "--package", packageManager, "--call", "command -v pnpm"], { encoding: "utf8" }).trim();
}

/** The processes of a process group, from /proc; the started command leads the group. */
function processesOf(group: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
        return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[2]) === group;
      } catch {
        return false;
      }
    });
}

describe.each(ROLES)("pnpm --filter %s start", (role) => {
  it("becomes Node.js, without a shell between them", () => {
    const { scripts } = JSON.parse(readFileSync(`${REPOSITORY}/apps/${role}/package.json`, "utf8")) as { scripts: { start: string } };
    expect(scripts.start).toMatch(/^(MALLOC_ARENA_MAX=1 )?exec node (--max-semi-space-size=32 )?dist\/bundle\.js$/);
  });

  it("drains on SIGTERM and leaves no process behind", async () => {
    const command = run(pnpm, ["--filter", role, "start"], env);
    await command.printed(/health port open/);
    command.child.kill("SIGTERM");
    await command.exited;
    expect(command.output()).toContain('"msg":"stopped"');
    await expect.poll(() => processesOf(command.child.pid ?? 0), { timeout: 5_000 }).toEqual([]);
  });
});

/** Below npx and pnpm every role is the same: Node.js itself, with the same handler of signals. */
describe("npx pnpm --filter receiver start", () => {
  it("drains on Ctrl-C in a terminal, which signals the whole process group", async () => {
    const command = run("npx", ["--yes", packageManager, "--filter", "receiver", "start"], env);
    await command.printed(/health port open/);
    process.kill(-(command.child.pid ?? 0), "SIGINT");
    await command.exited;
    await expect.poll(() => processesOf(command.child.pid ?? 0), { timeout: 5_000 }).toEqual([]);
    expect(command.output()).toContain('"msg":"stopped"');
  });
});

describe("a start that cannot succeed exits with one clear error", () => {
  interface Case {
    readonly what: string;
    readonly role: string;
    readonly wrong: () => Environment;
    readonly exitCode: number;
    readonly says: RegExp;
  }

  const cases: readonly Case[] = [
    {
      what: "a broker URL of another kind",
      role: "receiver",
      wrong: () => ({ CELERY_BROKER_URL: "sqs://key:hunter2@" }),
      exitCode: 78,
      says: /CELERY_BROKER_URL.*sqs.*amqp/,
    },
    {
      what: "no broker URL",
      role: "receiver",
      wrong: () => ({ CELERY_BROKER_URL: "" }),
      exitCode: 78,
      says: /CELERY_BROKER_URL: is required/,
    },
    {
      what: "an unreachable broker",
      role: "receiver",
      wrong: () => ({ CELERY_BROKER_URL: "amqp://guest:hunter2@127.0.0.1:1//" }),
      exitCode: 69,
      says: /RabbitMQ.*127\.0\.0\.1:1.*CELERY_BROKER_URL/s,
    },
    {
      what: "wrong broker credentials",
      role: "receiver",
      wrong: () => ({ CELERY_BROKER_URL: vhost.url.replace("guest:guest", "guest:hunter2") }),
      exitCode: 69,
      says: /CELERY_BROKER_URL/,
    },
    {
      what: "an unknown exporter",
      role: "receiver",
      wrong: () => ({ EXPORTERS: "datadog,prometeus" }),
      exitCode: 78,
      says: /EXPORTERS.*prometeus.*datadog.*postgres/,
    },
    {
      what: "an unreachable Redis",
      role: "datadog-processor",
      wrong: () => ({ REDIS_URL: "redis://:hunter2@127.0.0.1:1" }),
      exitCode: 69,
      says: /Cannot reach Redis at redis:\/\/\*\*\*@127\.0\.0\.1:1.*REDIS_URL/,
    },
    {
      what: "no database URL",
      role: "postgres-processor",
      wrong: () => ({ DATABASE_URL: "" }),
      exitCode: 78,
      says: /DATABASE_URL: is required/,
    },
    {
      what: "an unreachable database",
      role: "postgres-processor",
      wrong: () => ({ DATABASE_URL: "postgres://u:hunter2@127.0.0.1:1/x" }),
      exitCode: 69,
      says: /127\.0\.0\.1:1.*DATABASE_URL/s,
    },
    {
      what: "a dashboard outside loopback without credentials",
      role: "dashboard",
      wrong: () => ({ DASHBOARD_HOST: "0.0.0.0" }),
      exitCode: 78,
      says: /DASHBOARD_PASSWORD|DASHBOARD_USERNAME/,
    },
    {
      what: "an HTTP API outside loopback without users",
      role: "web",
      wrong: () => ({ WEB_HOST: "0.0.0.0" }),
      exitCode: 78,
      says: /WEB_HOST.*WEB_USERS/,
    },
  ];

  it.each(cases)("$what", async ({ role, wrong, exitCode, says }) => {
    const command = run(process.execPath, [`apps/${role}/dist/bundle.js`], {
      ...env,
      LOG_LEVEL: "trace",
      STARTUP_TIMEOUT_SECONDS: "2",
      ...wrong(),
    });
    expect(await command.exited).toBe(exitCode);
    const error = command
      .output()
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("{"))
      .join("\n");
    expect(error).toMatch(says);
    expect(command.output()).not.toContain("hunter2");
    expect(error).not.toMatch(/\n\s+at /);
  });

  it("a database that is not migrated", async () => {
    const empty = await createDatabase();
    const command = run(process.execPath, ["apps/postgres-processor/dist/bundle.js"], { ...env, DATABASE_URL: empty.url });
    expect(await command.exited).toBe(69);
    expect(command.output()).toMatch(/drizzle-kit migrate/);
    await empty.drop();
  });
});
