/** Our Redis over TLS. The server requires a client certificate, and its own is valid only for `localhost`. */
import { certificate, startRedis, startSentinel, temporaryFolder, type RedisServer } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Health, Lifecycle, connectRedis, createLogger, type SentinelOptions } from "../../src/index.ts";

const logger = createLogger("test", "silent");
const AUTHORITY = `ssl_ca_certs=${certificate("ca")}`;
const CLIENT = `ssl_certfile=${certificate("client")}&ssl_keyfile=${certificate("client-key")}`;
let lifecycle: Lifecycle;
let server: RedisServer;

beforeAll(async () => {
  server = await startRedis({ tls: true });
});
beforeEach(() => {
  lifecycle = new Lifecycle(logger);
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
    ["an unknown authority", "localhost", CLIENT, /not trusted.*ssl_ca_certs/],
    ["a certificate for another host", "127.0.0.1", `${AUTHORITY}&${CLIENT}`, /for another host.*ssl_server_hostname/],
    ["a connection without a client certificate", "localhost", AUTHORITY, /requires a client certificate.*ssl_certfile/],
  ])("rejects %s, and says what to set", async (_what, host, query, message) => {
    const error: unknown = await connect(host, query).connecting.catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "ERR_UNAVAILABLE", message: expect.stringMatching(message) as string });
    expect(String(error)).toMatch(/REDIS_URL/);
    expect(String(error)).not.toContain("hunter2");
  });

  it("names an unreadable file", async () => {
    await expect(connect("localhost", `${AUTHORITY}&ssl_certfile=/nowhere/client.pem`).connecting).rejects.toMatchObject({
      code: "ERR_CONFIG_INVALID",
      message: expect.stringMatching(/REDIS_URL: ssl_certfile.*ENOENT.*\/nowhere\/client\.pem/) as string,
    });
  });

  it("rereads the certificates at each reconnect, and tolerates one that is missing for a moment", async () => {
    const admin = new Redis(server.url);
    // The password in the URL is not set on the server yet.
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

async function refusal(url: string, sentinel?: SentinelOptions, startupTimeoutMs = 2_500): Promise<string> {
  const target = { url, ...(sentinel !== undefined && { sentinel }) };
  const options = { use: "producer", name: "Redis", startupTimeoutMs, logger, lifecycle, health: new Health() } as const;
  const error: unknown = await connectRedis({ ...target, ...options }).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "ERR_UNAVAILABLE" });
  return String(error);
}

describe("connectRedis at the wrong port", () => {
  it("suggests that the port requires TLS, or does not support it", async () => {
    const [plain, encrypted] = await Promise.all([
      refusal(`redis://127.0.0.1:${server.tlsPort}`),
      // Silence counts as no answer only after five seconds.
      refusal(`rediss://127.0.0.1:${server.port}`, undefined, 8_000),
    ]);
    expect(plain).toMatch(/perhaps it requires TLS.*rediss:\/\//);
    expect(encrypted).toMatch(/perhaps it does not support TLS.*redis:\/\//);
  });

  it("names the Sentinel setting that is wrong", async () => {
    const sentinel = await startSentinel({ masterPort: server.port, password: "hunter2" });
    const url = `sentinel://127.0.0.1:1;sentinel://127.0.0.1:${sentinel.port}`;
    expect(await refusal(url, { masterName: "nobody", password: "hunter2" })).toMatch(
      /do not know a master named nobody; set REDIS_SENTINEL_MASTER_NAME\.$/,
    );
    expect(await refusal(url)).toMatch(/rejected the password.*REDIS_SENTINEL_PASSWORD/);
    expect(await refusal(`sentinel://127.0.0.1:${sentinel.tlsPort}`, { password: "hunter2" })).toMatch(/REDIS_SENTINEL_TLS/);
    expect(await refusal(`sentinel://127.0.0.1:${server.port}`)).toMatch(/not a Sentinel.*redis:\/\//);
    expect(await refusal(`redis://:hunter2@127.0.0.1:${sentinel.port}`)).toMatch(/is a Sentinel.*sentinel:\/\//);
    await sentinel.stop();
  });

  it("reports that sentinels are down, and does not suspect TLS", async () => {
    const down = await refusal("sentinel://127.0.0.1:1;sentinel://localhost:1");
    expect(down).toMatch(/no sentinel can be reached: .*ECONNREFUSED/);
    expect(down).not.toMatch(/TLS/);
  });
});
