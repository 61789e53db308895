import { describe, expect, it } from "vitest";
import { Backlog } from "../../src/produce/queue-watch.ts";

describe("the estimate of a queue's events", () => {
  it("is exact for what one receiver adds", () => {
    const backlog = new Backlog();
    for (const size of [500, 500, 20]) backlog.added(size);
    expect(backlog.events).toBe(1_020);
  });

  it("assumes the mean size for jobs that left and jobs that others added", () => {
    const backlog = new Backlog();
    for (const size of [400, 600]) backlog.added(size);
    backlog.counted(1);
    expect(backlog.events).toBe(500);
    backlog.counted(4);
    expect(backlog.events).toBe(2_000);
  });

  it("does not change if nothing is added, and handles several jobs for one batch", () => {
    const backlog = new Backlog();
    backlog.added(500);
    for (let batch = 0; batch < 100; batch++) backlog.added(0, 0);
    backlog.added(1_500, 3);
    backlog.counted(4);
    expect(backlog.events).toBe(2_000);
  });

  it("estimates an existing backlog by the sizes it is given", () => {
    const backlog = new Backlog(250);
    backlog.counted(8);
    expect(backlog.events).toBe(2_000);
  });

  it("remembers large old batches when small ones follow", () => {
    const backlog = new Backlog();
    for (let batch = 0; batch < 100; batch++) backlog.added(500);
    for (let batch = 0; batch < 100; batch++) backlog.added(1);
    backlog.counted(200);
    expect(backlog.events).toBeCloseTo(50_100);
  });

  it("is 0 for an empty queue", () => {
    const backlog = new Backlog();
    backlog.added(500);
    backlog.counted(0);
    expect(backlog.events).toBe(0);
  });
});
