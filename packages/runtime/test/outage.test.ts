import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Outage } from "../src/index.ts";

const SECOND = 1_000;

function make(options: { readonly firstRepeatMs?: number } = {}) {
  const lines: Record<string, unknown>[] = [];
  const logger = pino({ base: {} }, { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  const log = new Outage({ logger, began: "away", lasts: "still away", ended: "back", ...options });
  return { log, lines };
}

describe("Outage", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["performance"] }));
  afterEach(() => void vi.useRealTimers());

  it("logs a failure at once, then at growing intervals, however often it is reported", () => {
    const { log, lines } = make({ firstRepeatMs: 5 * SECOND });
    for (let second = 0; second <= 200; second += 1) {
      log.failed({ reason: "ECONNREFUSED" });
      vi.advanceTimersByTime(SECOND);
    }
    expect(lines.map(({ seconds = 0, msg }) => [seconds, msg])).toEqual([
      [0, "away"],
      ...[5, 10, 20, 40, 80, 160].map((seconds) => [seconds, "still away"]),
    ]);
    expect(lines[0]).toMatchObject({ level: 40, reason: "ECONNREFUSED" });
  });

  it("logs it at least every hour", () => {
    const { log, lines } = make();
    for (let minute = 0; minute < 600; minute += 1) {
      log.failed({ reason: "ECONNREFUSED" });
      vi.advanceTimersByTime(60 * SECOND);
    }
    expect(lines.map(({ seconds = 0 }) => Number(seconds) / 60)).toEqual([
      0, 1, 2, 4, 8, 16, 32, 64, 124, 184, 244, 304, 364, 424, 484, 544,
    ]);
  });

  it("also logs a flapping outage at growing intervals", () => {
    const { log, lines } = make();
    for (let second = 0; second < 3_600; second += 2) {
      log.failed({ reason: "deadlock" });
      vi.advanceTimersByTime(SECOND);
      log.served();
      vi.advanceTimersByTime(SECOND);
    }
    expect(lines.filter(({ msg }) => msg === "away").length).toBeGreaterThan(5);
    expect(lines.length).toBeLessThan(2 * 15);
    expect(lines.map(({ msg }) => msg)).toEqual(lines.map((_, index) => (index % 2 === 0 ? "away" : "back")));
    vi.advanceTimersByTime(120 * SECOND);
    log.failed({ reason: "deadlock" });
    expect(lines.at(-1)).toMatchObject({ msg: "away", reason: "deadlock" });
  });

  it("logs an outage late if its beginning was not logged and it lasts", () => {
    const { log, lines } = make();
    for (let times = 0; times < 20; times += 1) {
      log.failed({ reason: "deadlock" });
      log.served();
    }
    lines.length = 0;
    log.failed({ reason: "deadlock" });
    vi.advanceTimersByTime(61 * SECOND);
    log.failed({ reason: "deadlock" });
    log.served();
    expect(lines.map(({ msg }) => msg)).toEqual(["away", "back"]);
  });

  it("logs once that it is over, and starts afresh", () => {
    const { log, lines } = make();
    log.served();
    log.failed({ reason: "one" });
    vi.advanceTimersByTime(7 * SECOND);
    log.served({ server: "s" });
    log.served();
    log.failed({ reason: "two" });
    expect(lines.map(({ msg }) => msg)).toEqual(["away", "back", "away"]);
    expect(lines[1]).toMatchObject({ level: 30, seconds: 7, server: "s" });
  });
});
