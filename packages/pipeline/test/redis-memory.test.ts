import { describe, expect, it } from "vitest";
import { isNearlyFull } from "../src/redis-memory.ts";

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

  it("is not full where Redis does not tell", () => {
    expect(isNearlyFull("")).toBe(false);
  });
});
