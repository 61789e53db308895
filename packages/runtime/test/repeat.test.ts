import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Repeat } from "../src/repeat.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

it("runs after each interval, and at once if requested", async () => {
  const runs: string[] = [];
  const later = new Repeat(() => runs.push("later"), { everyMs: 100 });
  const now = new Repeat(() => runs.push("now"), { everyMs: 150, first: "now" });
  expect(runs).toEqual(["now"]);
  await vi.advanceTimersByTimeAsync(210);
  expect(runs).toEqual(["now", "later", "now", "later"]);
  await Promise.all([later.stop(), now.stop()]);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(runs).toHaveLength(4);
});

it("wakes the process up once for all work with intervals of half a second or more", async () => {
  const runs: string[] = [];
  const note = (name: string) => () => void runs.push(`${name} at ${Math.round(performance.now())}`);
  const every = (everyMs: number): Repeat => new Repeat(note(String(everyMs)), { everyMs });
  await vi.advanceTimersByTimeAsync(1_000 - (performance.now() % 1_000));
  const beganAt = performance.now();
  const repeats = [every(1_000)];
  await vi.advanceTimersByTimeAsync(130);
  repeats.push(every(1_000));
  await vi.advanceTimersByTimeAsync(60);
  repeats.push(every(500));
  await vi.advanceTimersByTimeAsync(2_000);
  const at = (ms: number): number => beganAt + ms;
  expect(new Set(runs)).toEqual(
    new Set([
      `500 at ${at(500)}`,
      `500 at ${at(1_000)}`,
      `1000 at ${at(1_000)}`,
      `500 at ${at(1_500)}`,
      `500 at ${at(2_000)}`,
      `1000 at ${at(2_000)}`,
    ]),
  );
  expect(runs).toHaveLength(8);
  for (const repeat of repeats) await repeat.stop();
});

it("starts the interval at the end of a run, so that runs never overlap", async () => {
  let running = 0;
  const repeat = new Repeat(
    async () => {
      running += 1;
      expect(running).toBe(1);
      await new Promise((resolve) => setTimeout(resolve, 500));
      running -= 1;
    },
    { everyMs: 10, first: "now" },
  );
  await vi.advanceTimersByTimeAsync(2_000);
  const stopping = repeat.stop();
  await vi.advanceTimersByTimeAsync(600);
  await stopping;
  expect(running).toBe(0);
});

it("reports a failed run and continues", async () => {
  const errors: string[] = [];
  let runs = 0;
  const work = (): void => {
    runs += 1;
    throw new Error(`run ${runs}`);
  };
  const repeat = new Repeat(work, { everyMs: () => 10 * runs + 10, onError: ({ message }) => void errors.push(message) });
  await vi.advanceTimersByTimeAsync(31);
  expect(errors).toEqual(["run 1", "run 2"]);
  await repeat.stop();
});

it("aborts the signal of a run in progress, and waits for the run", async () => {
  vi.useRealTimers();
  let ended = false;
  const repeat = new Repeat(
    async (signal) => {
      await sleep(60_000, undefined, { signal }).catch(() => {});
      ended = true;
    },
    { everyMs: 1, first: "now" },
  );
  await repeat.stop();
  await repeat.stop();
  expect(ended).toBe(true);
});
