import { configWarnings } from "@celery-metrics-exporter/runtime";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { withDatabase } from "../src/defaults/database.ts";
import { explain } from "../src/defaults/decision.ts";
import { withExporters } from "../src/defaults/exporters.ts";
import { withPrometheusPort } from "../src/defaults/ports.ts";
import { withRedis } from "../src/defaults/redis.ts";

const nobody = async (): Promise<undefined> => undefined;
const udp = { kind: "udp", host: "127.0.0.1", port: 8125 } as const;
const unix = { kind: "unix", path: "/var/run/datadog/dsd.socket" } as const;

describe("the exporters of the single process", () => {
  it("leave Datadog out if no agent is configured or answers, and say how to turn it on", async () => {
    const { env, note } = await withExporters({}, nobody);
    expect(env["EXPORTERS"]).toBe("postgres,prometheus");
    expect(note?.message).toContain("Datadog is off");
    expect(note?.message).toContain("to turn it on, set DD_AGENT_HOST=<host> or EXPORTERS=datadog,postgres,prometheus");
  });

  it("say which agent cannot be used, and why", async () => {
    const { note } = await withExporters({}, async (onUnusable) => {
      onUnusable(unix, new Error("connect EACCES"));
      return undefined;
    });
    expect(note?.fields).toEqual({ unusable: "unix:///var/run/datadog/dsd.socket: connect EACCES" });
  });

  it("include Datadog if an agent answers, at its address", async () => {
    expect(await withExporters({}, async () => udp)).toEqual({
      env: { EXPORTERS: "datadog,postgres,prometheus", DD_DOGSTATSD_URL: "udp://127.0.0.1:8125" },
    });
    expect((await withExporters({}, async () => unix)).env["DD_DOGSTATSD_URL"]).toBe("unix:///var/run/datadog/dsd.socket");
  });

  it.each([
    { DD_AGENT_HOST: "agent" },
    { DD_DOGSTATSD_PORT: "8126" },
    { DD_DOGSTATSD_URL: "udp://agent:8125" },
    { DD_DOGSTATSD_URL_FILE: "/run/secrets/url" },
    { DATADOG_TAGS: "env:prod" },
  ])("are all of them with %j", async (env) => {
    expect(await withExporters(env, nobody)).toEqual({ env: { ...env, EXPORTERS: "datadog,postgres,prometheus" } });
  });

  it.each([{ EXPORTERS: "datadog" }, { EXPORTERS_FILE: "/run/secrets/exporters" }, { EXPORTERS: "postgres", DD_AGENT_HOST: "agent" }])(
    "are left to the user with %j",
    async (env) => {
      expect(await withExporters(env, nobody)).toEqual({ env });
    },
  );

  it("accept Datadog's own name for the agent's socket", async () => {
    const { env } = await withExporters({ DD_DOGSTATSD_SOCKET: "/sockets/dsd" }, nobody);
    expect(env["DD_DOGSTATSD_URL"]).toBe("unix:///sockets/dsd");
    expect(env["EXPORTERS"]).toBe("datadog,postgres,prometheus");
    expect(
      (await withExporters({ DD_DOGSTATSD_SOCKET: "/sockets/dsd", DD_DOGSTATSD_URL: "udp://agent" }, nobody)).env["DD_DOGSTATSD_URL"],
    ).toBe("udp://agent");
  });

  it("are chosen if the variables are empty", async () => {
    expect((await withExporters({ EXPORTERS: "", DD_AGENT_HOST: "" }, nobody)).env["EXPORTERS"]).toBe("postgres,prometheus");
  });
});

describe("the database of the single process", () => {
  it("is an embedded one, whose creation is announced at once because it takes a few seconds", () => {
    const folder = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-test-"));
    const before = withDatabase({}, `pglite:${folder}`);
    writeFileSync(join(folder, "PG_VERSION"), "17\n");
    const after = withDatabase({}, `pglite:${folder}`);
    rmSync(folder, { recursive: true });
    expect(before.env).toEqual({ DATABASE_URL: `pglite:${folder}` });
    expect(before.note).toMatchObject({ isInPanel: false, message: expect.stringContaining("creating an embedded PostgreSQL") as string });
    expect(after.note).toMatchObject({ isInPanel: true, message: expect.stringContaining("using the embedded PostgreSQL") as string });
    expect(withDatabase({ DATABASE_URL: "postgres://h/d" }, `pglite:${folder}`)).toEqual({ env: { DATABASE_URL: "postgres://h/d" } });
  });
});

describe("the port for Prometheus of the single process", () => {
  it("is a free one if the default one is taken, and says so", async () => {
    const other = createServer();
    // Whoever has the port already takes it just as well.
    await new Promise<void>((resolve) => other.once("error", () => resolve()).listen(9_808, "127.0.0.1", resolve));
    const { env, note } = await withPrometheusPort({});
    other.close();
    expect(Number(env["PROMETHEUS_PORT"])).toBeGreaterThan(0);
    expect(env["PROMETHEUS_PORT"]).not.toBe("9808");
    expect(note).toMatchObject({ message: expect.stringContaining("is taken") as string, fields: { taken: 9_808 } });
  });

  it("is left to the user", async () => {
    expect(await withPrometheusPort({ PROMETHEUS_PORT: "9" })).toEqual({ env: { PROMETHEUS_PORT: "9" } });
  });
});

describe("the Redis of the single process", () => {
  it.each([
    [3, "redis://broker:6380/3"],
    [1, "rediss://user:p%40ss@broker/1?ssl_cert_reqs=required"],
    [2, "redis+socket:///run/redis.sock?virtual_host=2"],
    [0, "redis://:secret@broker"],
    [1, "sentinel://:secret@one:26379/1;sentinel://two:26379/1"],
  ])("is the broker's, in the same database %i: %s", (database, url) => {
    const { env, note } = withRedis({ CELERY_BROKER_URL: url });
    expect(env["REDIS_URL"]).toBe(url);
    expect(note?.fields["database"]).toBe(database);
    expect(JSON.stringify(note)).not.toMatch(/secret|p%40ss/);
  });

  it.each([
    ["redis://broker/1?visibility_timeout=60&health_check_interval=10", "redis://broker/1"],
    ["rediss://broker/1?ssl_cert_reqs=required&socket_timeout=5", "rediss://broker/1?ssl_cert_reqs=required"],
    ["sentinel://one/1?a=b;sentinel://two/1?c=d", "sentinel://one/1;sentinel://two/1"],
  ])("has no query settings that only Celery knows: %s", (url, ours) => {
    const { env } = withRedis({ CELERY_BROKER_URL: url });
    expect(env["REDIS_URL"]).toBe(ours);
    expect(configWarnings(env)).toEqual([]);
  });

  it("is reached through the broker's sentinels with the broker's settings", () => {
    const broker = {
      CELERY_BROKER_URL: "sentinel://one:26379;sentinel://two:26379",
      CELERY_SENTINEL_MASTER_NAME: "celery",
      CELERY_SENTINEL_PASSWORD_FILE: "/run/secrets/sentinel",
      CELERY_SENTINEL_TLS: "true",
    };
    expect(withRedis(broker).env).toMatchObject({
      REDIS_SENTINEL_MASTER_NAME: "celery",
      REDIS_SENTINEL_PASSWORD_FILE: "/run/secrets/sentinel",
      REDIS_SENTINEL_TLS: "true",
    });
    expect(withRedis({ ...broker, REDIS_SENTINEL_MASTER_NAME: "ours" }).env).toMatchObject({ REDIS_SENTINEL_MASTER_NAME: "ours" });
  });

  it.each([
    {},
    { CELERY_BROKER_URL: "amqp://rabbitmq//" },
    { CELERY_BROKER_URL: "redis://one;redis://two" },
    { CELERY_BROKER_URL: "redis://u:pw@one;u:pw@two" },
    { CELERY_BROKER_URL: "redis://one;two" },
    { CELERY_BROKER_URL: "nonsense" },
    { CELERY_BROKER_URL_FILE: "/nowhere" },
    { CELERY_BROKER_URL: "redis://broker", REDIS_URL: "redis://ours" },
    { CELERY_BROKER_URL: "redis://broker", REDIS_URL_FILE: "/run/secrets/redis" },
  ])("is left as it is with %j", (env) => {
    expect(withRedis(env)).toEqual({ env });
  });

  it("reads the broker's URL from a file", () => {
    const folder = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-test-"));
    writeFileSync(join(folder, "url"), "redis://broker:6380/3\n");
    expect(withRedis({ CELERY_BROKER_URL_FILE: join(folder, "url") }).env["REDIS_URL"]).toBe("redis://broker:6380/3");
    rmSync(folder, { recursive: true });
  });
});

describe("an error that names a chosen setting", () => {
  const { note } = withRedis({ CELERY_BROKER_URL: "sentinel://one:26379" });
  const notes = note === undefined ? [] : [note];

  it.each(["Correct REDIS_URL.", "set REDIS_SENTINEL_MASTER_NAME."])("says that it was chosen: %s", (message) => {
    expect(explain(message, notes)).toBe(
      `${message} REDIS_URL is not set: the exporter queues are in the broker's Redis, in the same database.`,
    );
  });

  it("is unchanged otherwise", () => {
    expect(explain("set CELERY_SENTINEL_MASTER_NAME.", notes)).toBe("set CELERY_SENTINEL_MASTER_NAME.");
    expect(explain("Correct REDIS_URL.", [])).toBe("Correct REDIS_URL.");
  });
});
