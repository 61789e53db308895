import { certificate, sharedRedisUrl, startRedis, startSentinel } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { afterEach, describe, expect, it, vi } from "vitest";
import { RedisSource, type RedisOptions } from "../../src/redis/source.ts";
import { Recorder, describeEventSource } from "../../src/testing/index.ts";
import { RedisHarness, envelope, redisServers } from "../redis-harness.ts";
import { testContext } from "../test-context.ts";

describeEventSource("Redis pub/sub", () => RedisHarness.create());

const BODY = JSON.stringify({ type: "task-started", uuid: "1", hostname: "w1@host-a", timestamp: 1_795_328_908.5 });

async function starting(url = "", masterName = "mymaster"): Promise<void> {
  const options = { bufferMaxBytes: 2 ** 20, sentinelOptions: { masterName } };
  await new RedisSource(redisServers(url), options, testContext(10_000)).start(() => {});
}

describe("RedisSource", () => {
  const releases: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const release of releases.splice(0).reverse()) await release();
  });

  async function started(options: Partial<RedisOptions> = {}, redisUrl?: string): Promise<{ harness: RedisHarness; recorder: Recorder }> {
    const harness = await RedisHarness.create(options, redisUrl);
    releases.push(() => harness.release());
    const recorder = new Recorder();
    await harness.source.start(recorder.onMessage);
    return { harness, recorder };
  }

  async function start(url: string, startupTimeoutMs = 1_000): Promise<void> {
    const source = new RedisSource(redisServers(url), { bufferMaxBytes: 2 ** 20 }, testContext(startupTimeoutMs));
    releases.push(() => source.stop());
    await source.start(() => {});
  }

  it.each<[string, Partial<RedisOptions>, string[], string[]]>([
    ["by default", {}, ["/0.celeryev/task.multi", "/0.celeryev"], ["celeryev/task.multi", "/1.celeryev/task.multi", "/0.other/task.multi"]],
    ["with fanout_prefix off", { fanoutPrefix: false }, ["celeryev/task.multi", "celeryev"], ["/0.celeryev/task.multi"]],
    ["with a fanout_prefix", { fanoutPrefix: "shop:{db}:" }, ["shop:0:celeryev/task.sent"], ["/0.celeryev/task.sent"]],
    ["with fanout_patterns off", { fanoutPatterns: false }, ["/0.celeryev"], ["/0.celeryev/task.multi"]],
    ["with fanout_patterns on", { fanoutPatterns: true }, ["/0.celeryev/task.multi"], ["/0.celeryev"]],
    ["with another exchange", { exchange: "shopev" }, ["/0.shopev/task.multi"], ["/0.celeryev/task.multi"]],
  ])("receives only the channels of workers %s", async (_, options, heard, unheard) => {
    // Its own server: on the shared one another test may listen to every channel, and PUBLISH counts that.
    const redis = await startRedis();
    releases.push(() => redis.stop());
    const { harness, recorder } = await started(options, redis.url);
    for (const channel of heard) expect(await harness.publishTo(channel, BODY)).toBe(1);
    for (const channel of unheard) expect(await harness.publishTo(channel, BODY)).toBe(0);
    await recorder.waitFor(heard.length);
    expect(recorder.messages).toHaveLength(heard.length);
  });

  it("treats glob characters in a global_keyprefix literally", async () => {
    const redis = await startRedis();
    releases.push(() => redis.stop());
    const { harness, recorder } = await started({ globalKeyprefix: "a*[b]?:" }, redis.url);
    expect(await harness.publisher.publish("a*[b]?:/0.celeryev/task.sent", envelope(BODY))).toBe(1);
    expect(await harness.publisher.publish("axxb?:/0.celeryev/task.sent", envelope(BODY))).toBe(0);
    await recorder.waitFor(1);
  });

  it("counts a disconnect as a gap", async () => {
    const { harness } = await started();
    expect(await harness.metric("broker_gaps_total")).toBe(0);
    harness.cut();
    await vi.waitFor(async () => expect(await harness.metric("broker_gaps_total")).toBe(1), { timeout: 10_000 });
    await vi.waitFor(() => expect(harness.readiness().ready).toBe(true), { timeout: 5_000 });
  });

  it("drops and counts messages that do not fit its buffer, and keeps the rest", async () => {
    const bytes = envelope(BODY).length;
    const { harness, recorder } = await started({ bufferMaxBytes: 10 * bytes });
    harness.source.pause();
    for (let count = 0; count < 25; count++) await harness.publish(BODY);
    await vi.waitFor(async () => expect(await harness.metric("messages_dropped_total")).toBe(15), { timeout: 10_000 });
    expect(await harness.metric("broker_buffer_bytes")).toBe(10 * bytes);
    harness.source.resume();
    await recorder.waitFor(10);
    await harness.publish(BODY);
    await recorder.waitFor(11);
    expect(await harness.metric("broker_buffer_bytes")).toBe(0);
  });

  it("detects a half-open connection, and reconnects", async () => {
    const { harness, recorder } = await started({ pingMs: 100 });
    harness.proxy.freeze();
    await vi.waitFor(() => expect(harness.readiness().components["broker"]).toContain("PING"), { timeout: 20_000 });
    harness.proxy.thaw();
    await vi.waitFor(() => expect(harness.readiness().ready).toBe(true), { timeout: 10_000 });
    await harness.publish(BODY);
    await recorder.waitFor(1);
  });

  it("survives a restart of Redis", async () => {
    const server = await startRedis();
    releases.push(() => server.stop());
    const context = testContext();
    const source = new RedisSource(redisServers(server.url), { bufferMaxBytes: 2 ** 20 }, context);
    releases.push(() => source.stop());
    const recorder = new Recorder();
    await source.start(recorder.onMessage);
    await server.kill();
    await vi.waitFor(() => expect(context.health.report().ready).toBe(false), { timeout: 10_000 });
    await server.restart();
    await vi.waitFor(() => expect(context.health.report().ready).toBe(true), { timeout: 15_000 });
    expect(context.logs.map(({ msg }) => msg)).toContain("broker connection lost, reconnecting");
    expect(context.logs.map(({ msg }) => msg)).toContain("broker reconnected");
  });

  it("tries the next server of a failover list", async () => {
    await expect(start(`redis://127.0.0.1:1/0;${sharedRedisUrl()}`, 10_000)).resolves.toBeUndefined();
  });

  it.each([
    [
      "redis://:secret@127.0.0.1:1/0",
      /^Cannot reach Redis at redis:\/\/127\.0\.0\.1:1\/0 \(.*ECONNREFUSED.*\)\. Start it, or set CELERY_BROKER_URL/,
    ],
    ["sentinel://:secret@127.0.0.1:1/0", /^Cannot reach Redis at sentinel:\/\/127\.0\.0\.1:1\/0/],
    ["redis://nosuchhost.invalid/0", /ENOTFOUND|EAI_AGAIN/],
  ])("gives up on %s within the startup timeout, without the password", async (url, message) => {
    const error = await start(url).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "ERR_UNAVAILABLE", message: expect.stringMatching(message) as string });
    expect(String(error)).not.toContain("secret");
  });

  it.each([
    ["", "it requires a password, and the URL contains none (NOAUTH)"],
    [":wrong-secret@", "the user name or password is wrong, or the user lacks a permission (WRONGPASS"],
    ["nobody:wrong-secret@", "the user name or password is wrong, or the user lacks a permission (WRONGPASS"],
  ])("gives up at once if Redis rejects the credentials %j", async (userinfo, message) => {
    const server = await startRedis({ args: ["--requirepass", "right-secret"] });
    releases.push(() => server.stop());
    const startedAt = Date.now();
    const error = await start(`redis://${userinfo}127.0.0.1:${server.port}/0`, 20_000).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "ERR_UNAVAILABLE", message: expect.stringContaining(message) as string });
    expect(String(error)).not.toContain("secret");
    expect(Date.now() - startedAt).toBeLessThan(5_000);
  });

  it("names the setting that Sentinel's answer concerns", async () => {
    const master = await startRedis();
    releases.push(() => master.stop());
    const sentinels = await Promise.all([
      startSentinel({ masterPort: master.port }),
      startSentinel({ masterPort: master.port, password: "sentinel-secret" }),
    ]);
    for (const sentinel of sentinels) releases.push(() => sentinel.stop());
    const [open, locked] = sentinels.map(({ port }) => `sentinel://127.0.0.1:${port}/0`);
    await expect(starting(open, "shop")).rejects.toThrow(
      /refused access: the sentinels are reachable but do not know a master named shop\. Check CELERY_SENTINEL_MASTER_NAME\.$/,
    );
    await expect(starting(`${open};127.0.0.1:1`, "shop")).rejects.toThrow(/do not know a master named shop/);
    await expect(starting(locked)).rejects.toThrow(/rejected the password\. Check CELERY_SENTINEL_PASSWORD\.$/);
    await expect(starting(`sentinel://127.0.0.1:${master.port}/0`)).rejects.toThrow(/a Redis server, not a Sentinel: use redis:\/\//);
    const [{ port, tlsPort }] = sentinels;
    await expect(starting(`redis://127.0.0.1:${port}/0`)).rejects.toThrow(
      /it is a Sentinel: use sentinel:\/\/\. Check CELERY_BROKER_URL\.$/,
    );
    await expect(start(`sentinel://127.0.0.1:${tlsPort}/0`)).rejects.toThrow(
      /perhaps they require TLS; if so, set CELERY_SENTINEL_TLS=true/,
    );
    await expect(start("sentinel://127.0.0.1:1;sentinel://localhost:1")).rejects.toThrow(/ECONNREFUSED(?!.*TLS)/);
  });

  it("gives up at once if the database does not exist, and continues if it may not check", async () => {
    const server = await startRedis({ args: ["--databases", "2"] });
    releases.push(() => server.stop());
    await expect(starting(`redis://127.0.0.1:${server.port}/7`)).rejects.toThrow(
      /refused access: it has no database 7 .*Check CELERY_BROKER_URL/,
    );
    await expect(start(`redis://127.0.0.1:${server.port}/1`)).resolves.toBeUndefined();
    const admin = new Redis(server.url);
    await admin.acl("SETUSER", "events", "on", ">secret", "allchannels", "+subscribe", "+psubscribe", "+ping");
    admin.disconnect();
    await expect(start(`redis://events:secret@127.0.0.1:${server.port}/1`)).resolves.toBeUndefined();
  });

  it("follows Sentinel to the master, and receives what kombu before 5.4 publishes there", async () => {
    const master = await startRedis();
    releases.push(() => master.stop());
    const sentinel = await startSentinel({ masterPort: master.port });
    releases.push(() => sentinel.stop());
    const context = testContext();
    const source = new RedisSource(redisServers(`sentinel://127.0.0.1:${sentinel.port}/0`), { bufferMaxBytes: 2 ** 20 }, context);
    releases.push(() => source.stop());
    const recorder = new Recorder();
    await source.start(recorder.onMessage);
    const publisher = new Redis(master.url);
    releases.push(() => publisher.quit());
    expect(await publisher.publish("/0.celeryev/task.multi", envelope(BODY))).toBe(1);
    expect(await publisher.publish("/{db}.celeryev/task.multi", envelope(BODY))).toBe(1);
    await recorder.waitFor(2);
  });

  it("uses TLS with the sentinels and with the master they name", async () => {
    const master = await startRedis({ tls: true });
    releases.push(() => master.stop());
    const sentinel = await startSentinel({ masterPort: master.tlsPort, password: "sentinel-secret", tls: true });
    releases.push(() => sentinel.stop());
    const client = `ssl_certfile=${certificate("client")}&ssl_keyfile=${certificate("client-key")}`;
    const query = `ssl_ca_certs=${certificate("ca")}&${client}&ssl_server_hostname=localhost`;
    const sentinelOptions = { password: "sentinel-secret", tls: true };
    const source = new RedisSource(
      redisServers(`sentinel://127.0.0.1:${sentinel.tlsPort}/0?${query}`),
      { bufferMaxBytes: 2 ** 20, sentinelOptions },
      testContext(),
    );
    releases.push(() => source.stop());
    const recorder = new Recorder();
    await source.start(recorder.onMessage);
    const publisher = new Redis(master.url);
    releases.push(() => publisher.quit());
    expect(await publisher.publish("/0.celeryev/task.multi", envelope(BODY))).toBe(1);
    await recorder.waitFor(1);
  });
});
