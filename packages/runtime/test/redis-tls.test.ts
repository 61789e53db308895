/** Our own Redis over TLS: it wants a client's certificate, and its own names `localhost` only. */
import { certificate, startRedis, temporaryFolder, type RedisServer } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Health, Lifecycle, connectRedis, createLogger } from "../src/index.ts";

const logger = createLogger("test", "silent");
const AUTHORITY = `ssl_ca_certs=${certificate("ca")}`;
const CLIENT = `ssl_certfile=${certificate("client")}&ssl_keyfile=${certificate("client-key")}`;
const lifecycle = new Lifecycle(logger);
let server: RedisServer;

beforeAll(async () => {
  server = await startRedis({ tls: true });
});
afterEach(() => lifecycle.close());
afterAll(() => server.stop());

function connect(host: string, query: string) {
  const health = new Health();
  const url = `rediss://:hunter2@${host}:${server.tlsPort}?${query}`;
  const connecting = connectRedis({ url, use: "producer", name: "Redis", startupTimeoutMs: 10_000, logger, lifecycle, health });
  return { health, connecting };
}

describe("connectRedis over TLS", () => {
  it.each([
    ["an authority that is not named", "localhost", CLIENT, /not trusted.*ssl_ca_certs/],
    ["a certificate for another host", "127.0.0.1", `${AUTHORITY}&${CLIENT}`, /for another host.*ssl_server_hostname/],
    ["to go without a certificate", "localhost", AUTHORITY, /wants a certificate of ours.*ssl_certfile/],
  ])("refuses %s, and says what to set", async (_what, host, query, message) => {
    const error: unknown = await connect(host, query).connecting.catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "ERR_UNAVAILABLE", message: expect.stringMatching(message) as string });
    expect(String(error)).toMatch(/REDIS_URL/);
    expect(String(error)).not.toContain("hunter2");
  });

  it("names a file that cannot be read", async () => {
    await expect(connect("localhost", `${AUTHORITY}&ssl_certfile=/nowhere/client.pem`).connecting).rejects.toMatchObject({
      code: "ERR_CONFIG_INVALID",
      message: expect.stringMatching(/REDIS_URL: ssl_certfile.*ENOENT.*\/nowhere\/client\.pem/) as string,
    });
  });

  it("reads the certificates anew each time it reconnects, and bears one that is missing for a moment", async () => {
    const admin = new Redis(server.url);
    // The server does not know the password that comes with the URL.
    await admin.config("SET", "requirepass", "hunter2");
    await admin.auth("hunter2");
    const file = join(temporaryFolder("tls"), "authority.pem");
    copyFileSync(certificate("ca"), file);
    const { health, connecting } = connect("localhost", `ssl_ca_certs=${file}&${CLIENT}`);
    const redis = await connecting;
    const cut = (): Promise<unknown> => admin.call("client", "kill", "type", "normal", "skipme", "yes");

    copyFileSync(certificate("other-ca"), file);
    await cut();
    await expect.poll(() => JSON.stringify(health.report()), { timeout: 20_000 }).toMatch(/not trusted/);
    copyFileSync(certificate("ca"), file);
    await expect.poll(() => health.report().ready, { timeout: 20_000 }).toBe(true);
    expect(await redis.ping()).toBe("PONG");

    writeFileSync(file, "");
    await cut();
    copyFileSync(certificate("ca"), file);
    await expect.poll(() => redis.status, { timeout: 20_000 }).toBe("ready");
    await admin.config("SET", "requirepass", "");
    admin.disconnect();
  });
});
