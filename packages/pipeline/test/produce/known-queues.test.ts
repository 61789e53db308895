import { taskReceived, taskSent } from "@celery-metrics-exporter/celery/testing";
import { describe, expect, it } from "vitest";
import { KnownQueues } from "../../src/index.ts";
import { privateRedis } from "../support/redis.ts";

const redis = privateRedis();
const DAY = 86_400;

function known(prefix: string, clock = { now: 1_796_000_000 }): KnownQueues {
  return new KnownQueues({ redis: redis.producer, prefix, now: () => clock.now });
}

describe("the known queues", () => {
  it("are shared, each name once", async () => {
    expect(await known("{shared}").names()).toEqual([]);
    await known("{shared}").remember(["mail", "images", "mail"]);
    await known("{shared}").remember([]);
    expect(await known("{shared}").names()).toEqual(["images", "mail"]);
    expect(await known("{other}").names()).toEqual([]);
  });

  it("are forgotten when they were not seen for 30 days", async () => {
    const clock = { now: 1_796_000_000 };
    const queues = known("{old}", clock);
    await queues.remember(["gone", "still-there"]);
    clock.now += 20 * DAY;
    await queues.remember(["still-there"]);
    clock.now += 10 * DAY;
    expect(await queues.names()).toEqual(["still-there"]);
    await queues.remember(["new"]);
    expect(await redis.producer.zrange("{old}:monitor:queues", "0", "-1")).toEqual(["still-there", "new"]);
    expect(await redis.producer.ttl("{old}:monitor:queues")).toBeGreaterThan(29 * DAY);
  });

  it("are at most 1,000, those seen last", async () => {
    const clock = { now: 1_796_000_000 };
    const queues = known("{many}", clock);
    await queues.remember(Array.from({ length: 800 }, (_, index) => `old-${index}`));
    clock.now += 1;
    await queues.remember(Array.from({ length: 800 }, (_, index) => `new-${index}`));
    const names = await queues.names();
    expect(names).toHaveLength(1_000);
    expect(names.filter((name) => name.startsWith("new-"))).toHaveLength(800);
    await queues.remember(Array.from({ length: 5_000 }, (_, index) => `more-${index}`));
    expect(await queues.names()).toHaveLength(1_000);
  });

  it("are those to which tasks are sent, noticed once an hour", async () => {
    const clock = { now: 1_796_000_000 };
    const queues = known("{noticed}", clock);
    const events = [taskSent({ queue: "mail" }), taskSent({ queue: "hidden", excluded: true }), taskReceived()];
    await queues.notice(events);
    expect(await queues.names()).toEqual(["mail"]);
    await redis.producer.del("{noticed}:monitor:queues");
    clock.now += 3_599;
    await queues.notice([...events, taskSent({ queue: "images" })]);
    expect(await queues.names()).toEqual(["images"]);
    clock.now += 2;
    await queues.notice(events);
    expect(await queues.names()).toEqual(["images", "mail"]);
  });

  it("have names that a broker accepts", async () => {
    await known("{names}").remember(["", "a\0b", "é".repeat(128), "é".repeat(127), "with space"]);
    expect(await known("{names}").names()).toEqual(["with space", "é".repeat(127)]);
  });
});
