import { describe, expect, it } from "vitest";
import { Backlog } from "../../src/produce/queue-watch.ts";

describe("the estimate of a queue's events", () => {
  it("is exact for what one receiver adds", () => {
    const backlog = new Backlog();
    for (const size of [500, 500, 20]) backlog.added(size);
    expect(backlog.events).toBe(1_020);
  });

  it("takes what left, and what others added, to be of the mean size", () => {
    const backlog = new Backlog();
    for (const size of [400, 600]) backlog.added(size);
    backlog.counted(1);
    expect(backlog.events).toBe(500);
    backlog.counted(4);
    expect(backlog.events).toBe(2_000);
  });

  it("is not changed by what was not added, and knows several jobs of one batch", () => {
    const backlog = new Backlog();
    backlog.added(500);
    for (let batch = 0; batch < 100; batch++) backlog.added(0, 0);
    backlog.added(1_500, 3);
    backlog.counted(4);
    expect(backlog.events).toBe(2_000);
  });

  it("knows a backlog it did not see come by the sizes it is told", () => {
    const backlog = new Backlog(250);
    backlog.counted(8);
    expect(backlog.events).toBe(2_000);
  });

  it("keeps large old batches in mind when small ones follow", () => {
    const backlog = new Backlog();
    for (let batch = 0; batch < 100; batch++) backlog.added(500);
    for (let batch = 0; batch < 100; batch++) backlog.added(1);
    backlog.counted(200);
    expect(backlog.events).toBeCloseTo(50_100);
  });

  it("is nothing for an empty queue", () => {
    const backlog = new Backlog();
    backlog.added(500);
    backlog.counted(0);
    expect(backlog.events).toBe(0);
  });
});
