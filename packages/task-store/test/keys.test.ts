import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { SHARDS, StoreKeys } from "../src/keys.ts";

describe("the Store's keys", () => {
  const keys = new StoreKeys("{cme}", "test");

  it("have one hash tag, of prefix and shard, and end in the id as it is", () => {
    expect(keys.keyOf("a{b}:c")).toMatch(/^\{cme:\d{1,2}\}:test:task:a\{b\}:c$/);
    expect(new StoreKeys("plain", "test").keyOf("x")).toMatch(/^\{plain:/);
  });

  it("spread evenly over the shards, each id always to the same", () => {
    const ids = Array.from({ length: 16_000 }, () => randomUUID());
    const shards = keys.byShard(ids, (id) => id);
    expect(shards.size).toBe(SHARDS);
    for (const [shard, members] of shards) {
      expect(members.length).toBeGreaterThan(850);
      expect(members.length).toBeLessThan(1_150);
      for (const id of members.slice(0, 3)) expect(keys.keyOf(id)).toBe(keys.keyOf(id, shard));
    }
  });
});
