import * as fc from "fast-check";
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, it, vi } from "vitest";
import { AckWindow } from "../../src/rabbitmq/consumer.ts";

function windowOf(deliveries: number): { readonly window: AckWindow; readonly acks: number[] } {
  const acks: number[] = [];
  const window = new AckWindow((tag) => acks.push(tag));
  for (let tag = 1; tag <= deliveries; tag++) window.delivered(tag);
  return { window, acks };
}

describe("AckWindow", () => {
  it("acknowledges many deliveries together, after the turn in which they were done", async () => {
    const { window, acks } = windowOf(5);
    for (const tag of [1, 2, 3]) window.done(tag);
    expect(acks).toEqual([]);
    await nextTurn();
    expect(acks).toEqual([3]);
    expect(window.open).toBe(2);
  });

  it("knows for how long at least its oldest delivery is open", () => {
    vi.useFakeTimers();
    try {
      const { window } = windowOf(3);
      vi.advanceTimersByTime(5_000);
      window.done(2);
      expect(window.heldMs).toBe(5_000);
      window.done(1);
      vi.advanceTimersByTime(10);
      expect(window.heldMs).toBe(10);
      window.givenBack(3);
      expect(window.heldMs).toBe(0);
      vi.advanceTimersByTime(1_000);
      window.delivered(4);
      expect(window.heldMs).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });

  it("waits until a gap is closed before it acknowledges later deliveries", async () => {
    const { window, acks } = windowOf(4);
    for (const tag of [2, 4, 3]) window.done(tag);
    await nextTurn();
    expect(acks).toEqual([]);
    window.done(1);
    await nextTurn();
    expect(acks).toEqual([4]);
  });

  it("never acknowledges a returned delivery by its tag, which the broker would reject", async () => {
    const { window, acks } = windowOf(6);
    window.done(1);
    for (const tag of [2, 3]) window.givenBack(tag);
    await nextTurn();
    expect(acks).toEqual([1]);
    window.done(4);
    window.givenBack(6);
    window.done(5);
    await nextTurn();
    expect(acks).toEqual([1, 5]);
    expect(window.open).toBe(0);
  });

  it("counts a delivery once even if it is done twice", async () => {
    const { window, acks } = windowOf(3);
    for (const tag of [1, 1, 3, 3]) window.done(tag);
    await nextTurn();
    expect(acks).toEqual([1]);
    expect(window.open).toBe(1);
  });

  it("in any order, acknowledges everything in the end and nothing too early", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }).chain(shuffledWithKinds), (steps) => {
        const { window, acks } = windowOf(steps.length);
        const concluded = new Set<number>();
        for (const { tag, done } of steps) {
          concluded.add(tag);
          if (done) window.done(tag);
          else window.givenBack(tag);
          window.flush();
          const last = acks.at(-1) ?? 0;
          for (let below = 1; below <= last; below++) expect(concluded.has(below)).toBe(true);
        }
        const doneTags = steps.filter(({ done }) => done).map(({ tag }) => tag);
        expect(acks.at(-1) ?? 0).toBe(Math.max(0, ...doneTags));
        expect(acks.every((tag) => doneTags.includes(tag))).toBe(true);
        expect(acks).toEqual([...new Set(acks)].sort((a, b) => a - b));
      }),
    );
  });
});

function shuffledWithKinds(length: number): fc.Arbitrary<{ tag: number; done: boolean }[]> {
  const tags = Array.from({ length }, (_, index) => index + 1);
  return fc
    .tuple(
      fc.shuffledSubarray(tags, { minLength: length, maxLength: length }),
      fc.array(fc.boolean(), { minLength: length, maxLength: length }),
    )
    .map(([order, kinds]) => order.map((tag, index) => ({ tag, done: kinds[index] ?? false })));
}
