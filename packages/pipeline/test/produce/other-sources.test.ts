import { createLogger } from "@celery-metrics-exporter/runtime";
import { afterEach, describe, expect, it, vi } from "vitest";
import { OtherSources } from "../../src/index.ts";
import { privateRedis } from "../support/redis.ts";

const redis = privateRedis();
const PRODUCTION = "amqp://rabbit-production:5672//, queue cme, exchange celeryev";
const STAGING = "amqp://rabbit-staging:5672//, queue cme, exchange celeryev";
const INTERVAL_MS = 20;
let running: OtherSources[] = [];

afterEach(async () => {
  for (const receiver of running) receiver.close();
  running = [];
  await redis.producer.flushall();
});

/** A receiver of this source; what it logs. */
async function receive(source: string, prefix = "{cme}"): Promise<Record<string, unknown>[]> {
  const lines: Record<string, unknown>[] = [];
  const logger = createLogger("receiver", "info", { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  const receiver = new OtherSources({ redis: redis.producer, prefix, source, logger, intervalMs: INTERVAL_MS });
  running.push(receiver);
  await receiver.start();
  return lines;
}

const looksPass = (looks: number) => new Promise((resolve) => setTimeout(resolve, looks * INTERVAL_MS));

describe("receivers that feed the same queues", () => {
  it("from different sources notice each other, once each", async () => {
    const logs = [await receive(PRODUCTION), await receive(PRODUCTION), await receive(STAGING)];
    await vi.waitUntil(() => logs[2]?.length === 1 && (logs[0]?.length === 1 || logs[1]?.length === 1), { timeout: 20_000 });
    expect(logs[2]?.[0]).toMatchObject({
      source: STAGING,
      otherSource: PRODUCTION,
      advice: expect.stringContaining("QUEUE_PREFIX") as string,
    });
    await looksPass(20);
    for (const lines of logs) expect(lines.length).toBeLessThanOrEqual(1);
  });

  it("from one source, or with another prefix, notice nothing", async () => {
    const logs = [await receive(PRODUCTION), await receive(PRODUCTION), await receive(STAGING, "{staging}")];
    await looksPass(30);
    expect(logs.flat()).toEqual([]);
  });

  it("notice nothing when one is replaced by another with a corrected source", async () => {
    await receive(STAGING);
    await looksPass(5);
    running[0]?.close();
    const lines = await receive(PRODUCTION);
    await looksPass(30);
    expect(lines).toEqual([]);
  });
});
