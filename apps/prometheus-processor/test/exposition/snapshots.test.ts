/** How old a snapshot may be, and how long a scrape waits for a new one. */
import { describe, expect, it } from "vitest";
import { Snapshots } from "../../src/exposition/snapshots.ts";

const PATIENCE_MS = 50;

/** Redis answers with 1, 2, … while it is not away, and otherwise not at all. */
class Scene {
  now = 0;
  isAway = false;
  /** Answers the next read. */
  late: Promise<number> | undefined;
  reads = 0;
  readonly snapshots = new Snapshots<number>({
    read: () => {
      this.reads += 1;
      if (this.late !== undefined) return this.late;
      return this.isAway ? new Promise(() => {}) : Promise.resolve(this.reads);
    },
    patienceMs: PATIENCE_MS,
    now: () => this.now,
  });
}

/** How long a scrape waits that is refused. */
async function waitedMs({ snapshots }: Scene): Promise<number> {
  const began = performance.now();
  await expect(snapshots.get()).rejects.toThrow("The counts cannot be read");
  return performance.now() - began;
}

describe("a snapshot", () => {
  it("answers all scrapes of a second", async () => {
    const scene = new Scene();
    const first = { content: 1, ageMs: 0 };
    expect(await Promise.all([scene.snapshots.get(), scene.snapshots.get()])).toEqual([first, first]);
    scene.now = 1_000;
    expect(await scene.snapshots.get()).toEqual({ content: 1, ageMs: 1_000 });
    scene.now = 1_001;
    expect(await scene.snapshots.get()).toEqual({ content: 2, ageMs: 0 });
  });

  it("answers for a minute while Redis does not, after a short wait or without one", async () => {
    const scene = new Scene();
    await scene.snapshots.get();
    scene.isAway = true;
    for (const ageMs of [2_000, 59_999, 60_000]) {
      scene.now = ageMs;
      expect(await scene.snapshots.get()).toEqual({ content: 1, ageMs });
      expect(scene.snapshots.last()).toEqual({ content: 1, ageMs });
    }
    // They waited for the same reply.
    expect(scene.reads).toBe(2);
    scene.now = 60_001;
    await expect(scene.snapshots.get()).rejects.toThrow("The counts cannot be read: Redis does not answer in time");
    expect(() => scene.snapshots.last()).toThrow("The counts cannot be read: Redis does not answer");
  });

  it("is never waited for longer, also if nobody has asked for a minute, and answers later scrapes when it comes", async () => {
    const scene = new Scene();
    await scene.snapshots.get();
    scene.now = 60_001;
    let arrive: ((reply: number) => void) | undefined;
    scene.late = new Promise((resolve) => (arrive = resolve));
    expect(await waitedMs(scene)).toBeLessThan(9 * PATIENCE_MS);
    expect(await waitedMs(scene)).toBeLessThan(9 * PATIENCE_MS);
    expect(scene.reads).toBe(2);
    arrive?.(7);
    await scene.late;
    scene.late = undefined;
    expect(await scene.snapshots.get()).toEqual({ content: 7, ageMs: 0 });
  });

  it("does not answer any more once it is cleared", async () => {
    const scene = new Scene();
    expect(() => scene.snapshots.last()).toThrow("cannot be read");
    await scene.snapshots.get();
    scene.snapshots.clear();
    expect(() => scene.snapshots.last()).toThrow("cannot be read");
    expect(await scene.snapshots.get()).toEqual({ content: 2, ageMs: 0 });
  });
});
