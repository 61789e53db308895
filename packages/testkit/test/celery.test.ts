import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { describe, expect, test } from "vitest";
import { createVhost, driveShop, type ShopTask, startCeleryWorker, startRedis } from "../src/index.ts";

function tally(tasks: Readonly<Record<string, ShopTask>>): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { name, status } of Object.values(tasks)) counts[`${name} ${status}`] = (counts[`${name} ${status}`] ?? 0) + 1;
  return counts;
}

async function redisBroker(): Promise<{ url: string; close(): Promise<void> }> {
  const redis = await startRedis();
  return { url: redis.url, close: () => redis.stop() };
}

async function rabbitmqBroker(): Promise<{ url: string; close(): Promise<void> }> {
  const vhost = await createVhost();
  return { url: vhost.url, close: () => vhost.drop() };
}

describe.each([
  ["Redis", redisBroker],
  ["RabbitMQ", rabbitmqBroker],
])("the shop on %s", (_name, start) => {
  test("takes every course that a task can take, and reports it", { timeout: 120_000 }, async () => {
    const broker = await start();
    const folder = mkdtempSync(join(tmpdir(), "shop-"));
    const shopLog = join(folder, "shop.log");
    const worker = await startCeleryWorker({ brokerUrl: broker.url, env: { SHOP_LOG: shopLog } });

    const report = await driveShop({ brokerUrl: broker.url, shopLog, count: 60, seed: 11, revoke: true });
    const counts = tally(report.tasks);
    await worker.stop();
    await broker.close();
    rmSync(folder, { recursive: true });

    expect(report).toMatchObject({ sent: 62, ended: true });
    expect(counts).toMatchObject({
      "shop.update_stock SUCCESS": expect.any(Number),
      "shop.charge_card SUCCESS": expect.any(Number),
      "shop.charge_card FAILURE": expect.any(Number),
      "shop.send_receipt SUCCESS": expect.any(Number),
      "shop.send_reminder SUCCESS": expect.any(Number),
      "shop.send_reminder REVOKED": 1,
      "shop.import_catalogue REVOKED": 1,
      "shop.announce_sale REVOKED": expect.any(Number),
      "shop.read_feed REJECTED": expect.any(Number),
      "shop.skip_duplicate IGNORED": expect.any(Number),
    });
    const all = Object.values(report.tasks);
    expect(all.length).toBeGreaterThan(report.sent);
    expect(all.some(({ status, retries }) => status === "SUCCESS" && retries === 1)).toBe(true);
    expect(all.some(({ status, retries }) => status === "FAILURE" && retries === 2)).toBe(true);
    expect(new Set(all.map(({ queue }) => queue))).toEqual(new Set(["default", "payments", "mail", "images"]));
  });
});

test("a worker sends events, shuts down on stop, and ends at once on kill", { timeout: 60_000 }, async () => {
  const redis = await startRedis();
  const listener = new Redis(redis.url);
  const channels = new Set<string>();
  listener.on("pmessage", (_pattern: string, channel: string) => channels.add(channel));
  await listener.psubscribe("/0.celeryev/*");

  const first = await startCeleryWorker({ brokerUrl: redis.url, hostname: "first", pool: "solo" });
  await expect.poll(() => [...channels], { timeout: 10_000 }).toContain("/0.celeryev/worker.heartbeat");
  await first.stop();
  expect(channels).toContain("/0.celeryev/worker.offline");

  channels.clear();
  const second = await startCeleryWorker({ brokerUrl: redis.url, hostname: "second" });
  await second.kill();
  expect(() => process.kill(second.pid, 0)).toThrow(/ESRCH/);
  expect(channels).not.toContain("/0.celeryev/worker.offline");
  listener.disconnect();
  await redis.stop();
});

test("a worker that cannot start says why", async () => {
  await expect(startCeleryWorker({ brokerUrl: "redis://127.0.0.1:1", app: "no_such_shop" })).rejects.toThrow(/no_such_shop/);
});
