import { describe, expect, it } from "vitest";
import { TagCache, normaliseTag } from "../src/tags.ts";

describe("a tag", () => {
  it.each([
    ["queue:celery", "queue:celery"],
    ["task_name:Shop.Cart.Total", "task_name:shop.cart.total"],
    ["worker:celery@worker-1", "worker:celery_worker-1"],
    ["task_name:a b|c,d#e\nf", "task_name:a_b_c_d_e_f"],
    ["task_name:магазин.été", "task_name:магазин.été"],
    ["queue:a/b:c", "queue:a/b:c"],
    ["queue:", "queue_"],
    ["1env:x", "env:x"],
    ["  ", ""],
  ])("%j is sent as %j", (tag, sent) => {
    expect(normaliseTag(tag)).toBe(sent);
  });

  it("is cut at 200 bytes, never within a character", () => {
    const tag = normaliseTag(`queue:${"é".repeat(150)}`);
    expect(Buffer.byteLength(tag)).toBe(200);
    expect(tag.endsWith("é")).toBe(true);
  });

  it("has the value unknown where there is none", () => {
    const tags = new TagCache();
    expect([tags.tag("queue", undefined), tags.tag("queue", ""), tags.tag("queue", "q")]).toEqual([
      "queue:unknown",
      "queue:unknown",
      "queue:q",
    ]);
  });

  it("is the same again when the cache was full", () => {
    const tags = new TagCache(2);
    const values = ["A", "b", "c", "A"];
    expect(values.map((value) => tags.tag("queue", value))).toEqual(["queue:a", "queue:b", "queue:c", "queue:a"]);
  });
});
