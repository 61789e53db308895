import { liveHeapBytes } from "@celery-metrics-exporter/celery/testing";
import { describe, expect, it } from "vitest";
import { TagAppender, normaliseTag } from "../src/metrics/metrics.ts";

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
});

describe("a tag that is added to others", () => {
  const queue = new TagAppender("queue");

  it("comes after them", () => {
    expect([queue.append("", "Q"), queue.append("env:x", "q"), queue.append("env:x,team:y", "q")]).toEqual([
      "queue:q",
      "env:x,queue:q",
      "env:x,team:y,queue:q",
    ]);
  });

  it("has the value unknown if there is none", () => {
    expect([queue.append("", undefined), queue.append("", "")]).toEqual(["queue:unknown", "queue:unknown"]);
  });

  it("is the same again if there was no more room in the cache", () => {
    const forgetful = new TagAppender("queue", { after: ",z", maxCharacters: 40 });
    const values = ["A", "b", "c", "A"];
    expect(values.map((value) => forgetful.append("env:x", value))).toEqual([
      "env:x,queue:a,z",
      "env:x,queue:b,z",
      "env:x,queue:c,z",
      "env:x,queue:a,z",
    ]);
  });

  it("is cached within limits, however many values clients invent", () => {
    const worker = new TagAppender("worker");
    const before = liveHeapBytes();
    for (let index = 0; index < 20_000; index++) worker.append("env:x", String(index).padEnd(500, "é"));
    expect(liveHeapBytes() - before).toBeLessThan(8 * 2 ** 20);
    expect(worker.append("env:x", "w")).toBe("env:x,worker:w");
  });
});
