import { Redis } from "ioredis";
import { describe, expect, it, vi } from "vitest";
import { RedisMemory, isNearlyFull } from "../../src/queue/redis-memory.ts";

describe("Redis' memory", () => {
  it.each([
    ["used up", 1_000, 1_000, true],
    ["at nine tenths", 900, 1_000, true],
    ["below nine tenths", 899, 1_000, false],
    ["without limit", 1_000_000, 0, false],
  ])("%s counts as full: %d of %d", (_, used, limit, full) => {
    expect(
      isNearlyFull(`# Memory\r\nused_memory:${used}\r\nused_memory_human:1K\r\nmaxmemory:${limit}\r\nmaxmemory_policy:noeviction\r\n`),
    ).toBe(full);
  });

  it("counts as full for a moment after a refused write, even if the host's clock is set", () => {
    const redis = new Redis({ lazyConnect: true });
    vi.useFakeTimers({ toFake: ["Date", "performance"] });
    try {
      const memory = new RedisMemory(redis);
      memory.refused();
      expect(memory.problem).toBe("Redis is out of memory");
      vi.advanceTimersByTime(3_000);
      vi.setSystemTime(Date.now() - 3_600_000);
      expect(memory.problem).toBeUndefined();
    } finally {
      vi.useRealTimers();
      redis.disconnect();
    }
  });

  it("is not full if Redis does not report its memory", () => {
    expect(isNearlyFull("")).toBe(false);
  });
});
