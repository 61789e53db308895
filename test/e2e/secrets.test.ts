/** No output contains a secret: every secret setting is marked as secret, and everything runs at the most verbose log level. */
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";
import { migrate } from "@celery-metrics-exporter/db";
import { ConfigError, createLogger, describeConfig, loadConfigs, startRoles } from "@celery-metrics-exporter/runtime";
import {
  createDatabase,
  sharedPostgresUrl,
  sharedRabbitmqUrl,
  startRedis,
  startSentinel,
  temporaryFolder,
  type RedisServer,
  type SentinelServer,
  type TestDatabase,
} from "@celery-metrics-exporter/testkit";
import { ALL_ROLES } from "cli";
import { Redis } from "ioredis";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run, type Command, type Environment } from "../fleet/role-process.ts";

const MARK = "hunter2";
const SECRET = `${MARK}-long-enough-for-a-key`;
const CLI = "apps/cli/bin/celery-metrics-exporter.js";
const user = `secret_${randomBytes(4).toString("hex")}`;

let redis: RedisServer;
let sentinel: SentinelServer;
let database: TestDatabase;
/** Valid for the servers of this test. */
let secrets: Environment;

const plain: Environment = {
  LOG_LEVEL: "trace",
  STARTUP_TIMEOUT_SECONDS: "10",
  SHUTDOWN_TIMEOUT_SECONDS: "5",
  DASHBOARD_PORT: "0",
  WEB_PORT: "0",
  PROMETHEUS_PORT: "0",
  DASHBOARD_USERNAME: "admin",
  WEB_USERNAME: "admin",
  // Nobody answers there.
  WEB_OIDC_ISSUER: "http://127.0.0.1:1",
  WEB_OIDC_CLIENT_ID: "celery",
  WEB_OIDC_ROLE: "viewer",
  WEB_PUBLIC_URL: "http://127.0.0.1:5555/",
  REDACT_MODE: "hash",
};

beforeAll(async () => {
  redis = await startRedis({ args: ["--requirepass", SECRET] });
  sentinel = await startSentinel({ masterPort: redis.port, password: "another" });
  database = await createDatabase();
  await migrate(database.url);
  await administer(`create role ${user} superuser login password '${SECRET}'`);
  secrets = {
    REDIS_URL: `redis://:${SECRET}@127.0.0.1:${redis.port}/1`,
    REDIS_SENTINEL_PASSWORD: SECRET,
    CELERY_BROKER_URL: `redis://:${SECRET}@127.0.0.1:${redis.port}/0`,
    CELERY_SENTINEL_PASSWORD: SECRET,
    DATABASE_URL: databaseUrl(SECRET),
    DASHBOARD_PASSWORD: SECRET,
    DATABASE_READ_URL: databaseUrl(SECRET),
    WEB_PASSWORD: SECRET,
    WEB_OIDC_CLIENT_SECRET: SECRET,
    WEB_USERS: `${MARK}:reader:scrypt$16384$8$1$c2FsdA$aGFzaA`,
    WEB_TOKENS: `${MARK}:reader:2099-01-31:sha256$${"a".repeat(43)}`,
    REDACT_HASH_KEY: SECRET,
    PROMETHEUS_BEARER_TOKEN: SECRET,
  };
});

afterAll(async () => {
  await Promise.all([sentinel.stop(), database.drop()]);
  await redis.stop();
  await administer(`drop role ${user}`);
});

async function administer(statement: string): Promise<void> {
  const client = new Client({ connectionString: sharedPostgresUrl() });
  await client.connect();
  await client.query(statement).finally(() => client.end());
}

function databaseUrl(password: string): string {
  const url = new URL(database.url);
  url.username = user;
  url.password = password;
  return url.href;
}

/** The secrets in files, like container secrets, each with a line end. */
function inFiles(values: Environment): Environment {
  const folder = temporaryFolder("secrets");
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => {
      const file = join(folder, name);
      writeFileSync(file, `${value}\n`, { mode: 0o600 });
      return [`${name}_FILE`, file];
    }),
  );
}

function start(args: readonly string[], env: Environment): Command {
  return run(process.execPath, args, { ...plain, ...env });
}

describe("secrets", () => {
  it("are all marked in this test", () => {
    const known = ALL_ROLES.flatMap(({ Config }) => describeConfig(Config)).filter(({ secret }) => secret);
    expect(new Set(known.map(({ name }) => name))).toEqual(new Set(Object.keys(secrets)));
  });

  it("are read from files, and none is shown while everything works, is misused, loses its servers and ends", async () => {
    const command = start([CLI, "start"], inFiles(secrets));
    const dashboardUrl = await command.printed(/"dashboardUrl":"([^"]+)"/);
    const healthUrl = await command.printed(/"healthUrl":"([^"]+)"/);
    const wrong = { authorization: `Basic ${Buffer.from(`admin:${SECRET}-wrong`).toString("base64")}` };
    expect((await fetch(dashboardUrl, { headers: wrong })).status).toBe(401);
    const right = { authorization: `Basic ${Buffer.from(`admin:${SECRET}`).toString("base64")}` };
    expect((await fetch(dashboardUrl, { headers: right })).status).toBe(200);
    const metricsUrl = await command.printed(/"metricsUrl":"([^"]+)"/);
    const tokens = { authorization: `Bearer ${SECRET}-wrong` };
    expect((await fetch(metricsUrl, { headers: tokens })).status).toBe(401);
    expect((await fetch(metricsUrl, { headers: { authorization: `Bearer ${SECRET}` } })).status).toBe(200);
    const publisher = new Redis(redis.url, { password: SECRET });
    const heard = publisher.publish("/0.celeryev/task.sent", `{"body": "${MARK}"`);
    await expect(heard).resolves.toBe(1);
    publisher.disconnect();
    await command.printed(/put into the dead-letter queue/);
    const answers = await Promise.all(["healthz", "readyz", "metrics"].map(async (path) => (await fetch(`${healthUrl}/${path}`)).text()));

    await redis.kill();
    await command.printed(/broker connection lost, reconnecting/);
    await command.printed(/Redis connection lost, reconnecting/);
    let notReady = "";
    const readiness = async (): Promise<string> => (notReady = await (await fetch(`${healthUrl}/readyz`)).text());
    await expect.poll(readiness, { timeout: 30_000 }).toContain("ECONNREFUSED");
    command.child.kill("SIGTERM");
    await command.exited;
    await redis.restart();
    expect([command.output(), ...answers, notReady].join("\n")).not.toContain(MARK);
    expect(command.output()).toContain('"level":"debug"');
  });

  it("are masked by --print-config", async () => {
    const command = start([CLI, "start", "--print-config"], inFiles(secrets));
    expect(await command.exited).toBe(0);
    for (const name of Object.keys(secrets)) expect(command.output()).toMatch(new RegExp(`^${name}=.*(\\*\\*\\*|\\[redacted\\])`, "m"));
    expect(command.output()).not.toContain(MARK);
  });

  it.each<[string, string, () => Environment]>([
    [
      "a broker that refuses it",
      "receiver",
      () => ({ CELERY_BROKER_URL: `amqp://${MARK}:${SECRET}@${new URL(sharedRabbitmqUrl()).host}//` }),
    ],
    ["sentinels that refuse it", "dashboard", () => ({ REDIS_URL: `sentinel://:${SECRET}@127.0.0.1:${sentinel.port}` })],
    ["a Redis that refuses it", "datadog-processor", () => ({ REDIS_URL: `redis://:${SECRET}x@127.0.0.1:${redis.port}` })],
    ["a database that refuses it", "postgres-processor", () => ({ DATABASE_URL: databaseUrl(`${SECRET}x`) })],
    ["a broker that is away", "receiver", () => ({ CELERY_BROKER_URL: `amqps://${MARK}:${SECRET}@127.0.0.1:1//?ssl_x=${MARK}` })],
    ["a Redis that is away", "dashboard", () => ({ REDIS_URL: `rediss://${MARK}:${SECRET}@127.0.0.1:1?ssl_x=${MARK}` })],
    [
      "a database that is away",
      "postgres-processor",
      () => ({ DATABASE_URL: `postgres://${MARK}:${SECRET}@127.0.0.1:1/x?password=${MARK}` }),
    ],
  ])("are not shown because of %s", async (_what, name, wrong) => {
    const role = ALL_ROLES.find((known) => known.name === name);
    let output = "";
    const logger = createLogger(name, "trace", { write: (line) => void (output += line) });
    const starting = startRoles(
      role === undefined ? [] : [role],
      { ...plain, ...secrets, STARTUP_TIMEOUT_SECONDS: "3", ...wrong() },
      logger,
    );
    const error: unknown = await starting.catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "ERR_UNAVAILABLE" });
    expect(inspect(error, { depth: 0 }) + output).not.toContain(MARK);
  });

  it("are not shown by the migration of a database that is away", async () => {
    const error: unknown = await migrate(`postgres://${MARK}:${SECRET}@127.0.0.1:1/x?password=${MARK}`).catch((thrown: unknown) => thrown);
    expect(String(error)).toMatch(/Cannot migrate PostgreSQL at postgres:\/\/\*\*\*@127\.0\.0\.1:1\/x: .*ECONNREFUSED/);
    expect(inspect(error)).not.toContain(MARK);
  });

  it.each(["/", "#", "?", "@", ":", ";", "%", " ", "\\", "[", "12/", "12#", "12?", "//", "://", ";redis://"])(
    "are not shown because of an unescaped %j in a password that makes a URL invalid",
    (character) => {
      for (const scheme of ["redis", "rediss", "amqp", "postgres", "sentinel", "http", "sqs"]) {
        const url = `${scheme}://${MARK}a:${character}${MARK}b${character}${MARK}c@host/${MARK}d`;
        const env = { ...plain, ...secrets, REDIS_URL: url, CELERY_BROKER_URL: url, DATABASE_URL: url, REDACT_HASH_KEY: MARK };
        const problems = problemsOf(env);
        expect(problems).toContain("REDACT_HASH_KEY: must be at least");
        expect(problems).not.toContain(MARK);
      }
    },
  );
});

function problemsOf(env: Environment): string {
  try {
    loadConfigs(ALL_ROLES, env);
    return "";
  } catch (thrown) {
    if (thrown instanceof ConfigError) return thrown.message;
    throw thrown;
  }
}
