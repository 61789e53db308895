/** Messages of megabytes on a real broker: malicious ones are counted and kept, those that are only large get through. */
import type { AmqpFrame } from "@celery-metrics-exporter/celery/testing";
import { taskReceived } from "@celery-metrics-exporter/celery/testing";
import { DEAD_LETTER_QUEUE } from "@celery-metrics-exporter/pipeline";
import { sharedRabbitmqUrl, startRedis, type RedisServer, scaled } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startWholePipeline } from "../integration/whole-pipeline.ts";

/** More than one job of an exporter queue may contain (packages/pipeline/src/queue/batch.ts), so that the batch must be split. */
const EVENTS = scaled(12_000, 100_000);
const MEGABYTES = scaled(2, 10);
const BYTES = MEGABYTES * 1_000_000;
const NAME = "giant-messages";

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(async () => {
  await redis.stop();
});

function message(body: string | Buffer, contentType = "application/json"): AmqpFrame {
  const properties = { contentType, contentEncoding: "utf-8", headers: {}, deliveryMode: 1, priority: 0 };
  return { transport: "amqp", routingKey: "task.multi", body: Buffer.from(body), properties };
}

const list = Array.from({ length: EVENTS }, (_, index) => taskReceived({ uuid: `task-${index}` }));
const hostile: Readonly<Record<string, AmqpFrame>> = {
  "too_large nested lists": message("[".repeat(BYTES)),
  "too_large values": message(`[${"{},".repeat(2_100_000)}0]`),
  "too_large nested msgpack": message(Buffer.alloc(BYTES, 0x91), "application/x-msgpack"),
  "too_large nested YAML": message("{".repeat(262_000), "application/x-yaml"),
  "pickle of megabytes": message(Buffer.alloc(BYTES, 0x80), "application/x-python-serialize"),
  "body without end": message(`{"type":"${"x".repeat(BYTES)}`),
  "uuid of 10,000 characters": message(JSON.stringify([taskReceived({ uuid: "x".repeat(10_000) })])),
  "timestamp of the year 9999": message(JSON.stringify([taskReceived({ timestamp: 253_402_300_799 })])),
};

it(`a list of ${EVENTS} events among malicious messages of ${MEGABYTES} MB becomes as many rows; each of the others becomes a dead letter`, async () => {
  const pipeline = await startWholePipeline({ redisUrl: redis.url, brokerUrl: sharedRabbitmqUrl(), name: NAME });
  const client = new Redis(redis.url);
  try {
    await pipeline.publish([...Object.values(hostile), message(JSON.stringify(list)), ...Object.values(hostile)]);
    await pipeline.handled(EVENTS);
    expect((await pipeline.rows()).length).toBe(EVENTS);
    const wanted = Object.keys(hostile).map((name) => name.split(" ")[0]);
    await expect.poll(() => pipeline.deadLetters(), { timeout: 60_000 }).toBe(2 * wanted.length);
    const jobs = await client.lrange(`{${NAME}}:${DEAD_LETTER_QUEUE}:wait`, 0, -1);
    const reasons = await Promise.all(jobs.map((job) => client.hget(`{${NAME}}:${DEAD_LETTER_QUEUE}:${job}`, "name")));
    expect(reasons.map(String).toSorted()).toEqual([...wanted, ...wanted].map(String).toSorted());
    expect(pipeline.running.health.report().ready).toBe(true);
  } finally {
    client.disconnect();
    await pipeline.close();
  }
});
