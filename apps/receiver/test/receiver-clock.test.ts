import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { receiverClock } from "../src/clocks.ts";

const DAY = 86_400;
const OURS = 1_795_000_000;

describe("the receiver's clock", () => {
  let warnings: string[];
  const logger = pino({ level: "warn" }, { write: (line: string) => void warnings.push((JSON.parse(line) as { msg: string }).msg) });
  beforeEach(() => {
    warnings = [];
    vi.useFakeTimers({ now: OURS * 1_000 });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  const clockBeside = (redisSeconds: number) => receiverClock({ time: () => Promise.resolve([redisSeconds, 0]) }, logger);

  it("is this machine's if Redis' is behind, and follows it", async () => {
    const clock = await clockBeside(OURS - 9 * DAY);
    expect(clock()).toBe(OURS);
    vi.setSystemTime((OURS + 5) * 1_000);
    expect(clock()).toBe(OURS + 5);
    expect(warnings).toEqual([]);
  });

  it("is Redis' if this machine is behind, with a warning, until this machine's is set", async () => {
    const clock = await clockBeside(OURS + 9 * DAY);
    expect(clock()).toBeCloseTo(OURS + 9 * DAY, 1);
    vi.advanceTimersByTime(60_000);
    expect(clock()).toBeCloseTo(OURS + 9 * DAY + 60, 1);
    vi.setSystemTime((OURS + 10 * DAY) * 1_000);
    expect(clock()).toBe(OURS + 10 * DAY);
    expect(warnings).toEqual([expect.stringContaining("behind the clock of Redis")]);
  });

  it("continues if this machine's is set back", async () => {
    const clock = await clockBeside(OURS);
    vi.setSystemTime((OURS - 30 * DAY) * 1_000);
    vi.advanceTimersByTime(10_000);
    expect(clock()).toBeCloseTo(OURS + 10, 1);
  });

  it("is this machine's if Redis does not report its time", async () => {
    const clock = await receiverClock({ time: () => Promise.reject(new Error("NOPERM")) }, logger);
    expect(clock()).toBe(OURS);
    expect(warnings).toEqual([]);
  });
});
