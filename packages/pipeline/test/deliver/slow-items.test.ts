import { describe, expect, it } from "vitest";
import { SlowItems } from "../../src/deliver/slow-items.ts";

const error = new Error("too long");

/** Items whose subject is their letter, with a fake clock. */
function make() {
  const clock = { now: 0 };
  const likeness = { kindOf: () => "", subjectOf: (item: string) => item.slice(0, 1) };
  const slow = new SlowItems<string>(likeness, () => clock.now);
  const tookTooLong = (item: string, tookMs = 100): void => {
    const since = clock.now;
    clock.now += tookMs;
    slow.add(item, { error, tookMs, since });
  };
  const served = (...items: string[]): void => {
    clock.now += 1;
    slow.gotThrough(items);
  };
  return { clock, slow, tookTooLong, served };
}

describe("an item that took too long", () => {
  it("is slow once the sink has served others since, with all items of its subject", () => {
    const { slow, tookTooLong, served } = make();
    served("b");
    tookTooLong("a1");
    expect(slow.isSlow("a1")).toBe(false);
    served("b");
    expect(slow.partition(["a1", "b", "a2"])).toEqual([["a1", "a2"], ["b"]]);
    expect(slow.lastError).toBe(error);
  });

  it("is no longer slow once it has got through", () => {
    const { slow, tookTooLong, served } = make();
    tookTooLong("a");
    served("b");
    served("a");
    expect(slow.partition(["a"])).toEqual([[], ["a"]]);
    expect(slow.isAny).toBe(false);
  });

  it("is tried at growing intervals, up to five minutes", () => {
    const { clock, slow, tookTooLong, served } = make();
    tookTooLong("a");
    served("b");
    const intervals: number[] = [];
    let last = clock.now;
    for (; intervals.length < 14; clock.now += 100) {
      if (!slow.claim("a")) continue;
      intervals.push(clock.now - last);
      tookTooLong("a");
      slow.release();
      last = clock.now;
    }
    expect(intervals.slice(0, 4).every((ms) => ms < 10_000)).toBe(true);
    expect(intervals.slice(-3).every((ms) => ms > 140_000 && ms <= 301_000)).toBe(true);
  });

  it("takes a tenth of the time of a batch, however many there are", () => {
    const { clock, slow, tookTooLong, served } = make();
    const letters = "abcdefghij".split("");
    for (const letter of letters) tookTooLong(letter, 1_000);
    served("x");
    const begun = clock.now;
    let busyMs = 0;
    for (; clock.now - begun < 600_000; clock.now += 100) {
      for (const letter of letters) {
        if (!slow.claim(letter)) continue;
        expect(letters.some((other) => slow.claim(other))).toBe(false);
        tookTooLong(letter, 1_000);
        slow.release();
        busyMs += 1_000;
      }
    }
    expect(busyMs).toBeGreaterThan(20_000);
    expect(busyMs / (clock.now - begun)).toBeLessThan(0.11);
  });

  it("makes way for the next at once when it gets through", () => {
    const { clock, slow, tookTooLong, served } = make();
    tookTooLong("a", 30_000);
    tookTooLong("b", 30_000);
    served("x");
    expect(slow.claim("a")).toBe(true);
    tookTooLong("a", 30_000);
    slow.release();
    clock.now += 200_000;
    expect(slow.claim("b")).toBe(false);
    served("a");
    expect(slow.claim("b")).toBe(true);
  });

  it("causes no pause if it was found while nothing was served", () => {
    const { slow, tookTooLong, served, clock } = make();
    for (let times = 0; times < 50; times++) tookTooLong("a", 30_000);
    clock.now += 1_000;
    served("x");
    expect(slow.claim("a")).toBe(true);
  });

  it("is forgotten if there are too many", () => {
    const slow = new SlowItems<string>({ kindOf: () => "" }, () => 0);
    for (let id = 0; id < 12_000; id++) slow.add(String(id), { error, tookMs: 1, since: -1 });
    slow.gotThrough([]);
    expect(slow.isSlow("0")).toBe(false);
    expect(slow.isSlow("11999")).toBe(true);
  });
});
