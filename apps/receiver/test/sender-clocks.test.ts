import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { decodeFrame } from "@celery-metrics-exporter/celery";
import { liveHeapBytes, taskStarted } from "@celery-metrics-exporter/celery/testing";
import * as fc from "fast-check";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { SenderClocks } from "../src/clocks.ts";

const DAY = 86_400;
const START = 1_795_000_000;

let now: number;
let warnings: string[];
let health: string;
let clocks: SenderClocks;

function setHealth(as = "up"): void {
  health = as;
}

function start(): void {
  now = START;
  warnings = [];
  const logger = pino({}, { write: (line: string) => void warnings.push((JSON.parse(line) as { msg: string }).msg) });
  clocks = new SenderClocks({ now: () => now, logger, health: { up: setHealth, down: (reason) => setHealth(`down: ${reason}`) } });
}

const from = (hostname: string, aheadSeconds = 0): CeleryEvent => taskStarted({ hostname, timestamp: now + aheadSeconds });
const times = <E>(count: number, build: (index: number) => E): E[] => Array.from({ length: count }, (_, index) => build(index));

/** Whether the events from the future among these are accepted; they form a batch of messages with one event each. */
function batch(events: readonly CeleryEvent[]): "taken" | "refused" | "none" {
  const future = events.flatMap((event) => clocks.sort([event]).future);
  if (future.length === 0) return "none";
  return clocks.takes(future) ? "taken" : "refused";
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance"] });
  start();
});
afterEach(() => void vi.useRealTimers());

function secondPasses(): void {
  now += 1;
  vi.advanceTimersByTime(1_000);
}

describe("an event", () => {
  it.each([
    ["of now", 0],
    ["of 1970", -START],
    ["a day ahead", DAY],
  ])("%s is in time", (_, ahead) => {
    const events = [from("w1@host-a", ahead)];
    expect(clocks.sort(events)).toEqual({ inTime: events, future: [] });
  });

  it("an event more than a day ahead is from the future, and the others of its message are not", () => {
    const [timely, ahead, later] = [from("w1@host-a"), from("w1@host-a", DAY + 0.001), from("w1@host-a", 5)];
    expect(clocks.sort([timely, ahead, later])).toEqual({ inTime: [timely, later], future: [ahead] });
  });
});

describe("events from the future are rejected", () => {
  it("while too little is known: the very first ones", () => {
    expect(batch([from("w1@host-a", 2 * DAY)])).toBe("refused");
    expect(batch(times(8, (index) => from(`w${index}@host-${index}`, 2 * DAY)))).toBe("refused");
  });

  it("if they come from one of two machines, however many it sends, and from any worker or client", () => {
    const flood = times(3_000, (index) => from(`${index % 2 ? "gen" : "w"}${index}@bad`, 9 * DAY));
    expect(batch([...flood, from("w1@good")])).toBe("refused");
    expect(batch(flood)).toBe("refused");
  });

  it("if they are only a part of a sender's or a machine's events", () => {
    expect(batch(times(100, (index) => from("w1@host-a", index % 5 === 0 ? 0 : 2 * DAY)))).toBe("refused");
    start();
    expect(batch([...times(100, () => from("w1@host-a", 2 * DAY)), ...times(3, () => from("w2@host-a"))])).toBe("refused");
  });

  it("as long as other machines sent events within ten minutes", () => {
    expect(batch([from("w1@good")])).toBe("none");
    now += 599;
    expect(batch(times(100, () => from("w1@bad", 9 * DAY)))).toBe("refused");
    now += 2;
    expect(batch(times(100, () => from("w1@bad", 9 * DAY)))).toBe("refused");
    now += 600;
    expect(batch(times(100, () => from("w1@bad", 9 * DAY)))).toBe("taken");
  });
});

describe("events from the future are accepted", () => {
  it("if all are, from one sender or from many", () => {
    expect(batch(times(10, () => from("w1@host-a", 2 * DAY)))).toBe("taken");
    start();
    expect(batch(times(10, (index) => from(`w1@host-${index}`, 50 * 365 * DAY)))).toBe("taken");
  });

  it("if nearly all machines are ahead, and nearly all events of each of them", () => {
    const ahead = times(18, (index) => times(20, (turn) => from(`w1@host-${index}`, turn === 7 ? 0 : 2 * DAY)));
    expect(batch([...ahead.flat(), from("w1@good-1"), from("w1@good-2")])).toBe("taken");
    expect(batch(times(300, (index) => from(`w1@good-${index}`)))).toBe("none");
    expect(batch([from("w1@host-0", 2 * DAY)])).toBe("refused");
  });

  it("soon after the clock of the only sender jumps ahead", () => {
    expect(batch(times(1_000, () => from("w1@host-a")))).toBe("none");
    const results = times(100, () => batch([from("w1@host-a", 2 * DAY)]));
    expect(results.indexOf("taken")).toBeGreaterThan(10);
    expect(results.indexOf("taken")).toBeLessThan(80);
  });

  it("after ten minutes in which nothing in time arrived from their machine either", () => {
    expect(batch([from("gen1@host-a")])).toBe("none");
    const results = times(1_201, () => {
      now += 1;
      return batch([from("w1@host-a", 2 * DAY)]);
    });
    expect(results.indexOf("taken")).toBeGreaterThanOrEqual(600);
    expect(results.slice(results.indexOf("taken")).every((result) => result === "taken")).toBe(true);
  });

  it("with a warning that says what to check, at growing intervals, while the receiver stays up", () => {
    for (let second = 0; second < 4 * 3_600; second++) {
      secondPasses();
      batch(times(10, () => from("w1@host-a", 2 * DAY)));
    }
    // Now, and after 1, 2, 4, 8, 16, 32, 64, 124 and 184 minutes.
    expect(warnings).toHaveLength(10);
    expect(warnings[0]).toMatch(/^nearly all events come from more than a day ahead of this machine's clock/);
    expect(health).toMatch(/^up, but nearly all events .* correct the clock of the receiver's machine/);
    for (let second = 0; second < 1_300; second++) {
      secondPasses();
      batch([from("w1@host-a")]);
    }
    expect(health).toBe("up");
    expect(warnings.slice(10)).toEqual(["events come from the present again"]);
  });
});

describe("whatever comes", () => {
  const machine = fc.constantFrom("a", "b", "c", "d", "e");
  const sender = fc.tuple(fc.constantFrom("w1", "w2", "gen7", "gen8"), machine).map(([name, host]) => `${name}@${host}`);
  /** Up to 40 copies, as from a sender that floods. */
  const sendings = fc.array(
    fc.record({ hostname: sender, ahead: fc.double({ min: -50 * DAY, max: 50 * DAY, noNaN: true }), count: fc.nat(40) }),
    {
      maxLength: 60,
    },
  );
  type Sending = { readonly hostname: string; readonly ahead: number; readonly count: number };
  const eventsOf = (all: readonly Sending[]): CeleryEvent[] =>
    all.flatMap(({ hostname, ahead, count }) => times(count, () => from(hostname, ahead)));

  it("no event is lost, and events at most a day ahead are never rejected", () => {
    fc.assert(
      fc.property(sendings, (all) => {
        start();
        const events = eventsOf(all);
        const { inTime, future } = clocks.sort(events);
        expect(inTime).toEqual(events.filter(({ timestamp }) => timestamp <= now + DAY));
        expect(future).toEqual(events.filter(({ timestamp }) => timestamp > now + DAY));
      }),
    );
  });

  it("with one machine that is in time, no event from up to eight machines that are ahead gets through, in any order", () => {
    fc.assert(
      fc.property(sendings, fc.nat(59), (all, at) => {
        start();
        const others = all.map((sending) => ({ ...sending, ahead: Math.abs(sending.ahead) + 2 * DAY }));
        const good: Sending = { hostname: "w1@good", ahead: 0, count: 1 };
        const events = eventsOf([...others.slice(0, at), good, ...others.slice(at)]);
        expect(batch(events)).not.toBe("taken");
        for (const event of events) expect(batch([event])).not.toBe("taken");
      }),
    );
  });

  it("if all machines are ahead, everything except the first few events gets through", () => {
    fc.assert(
      fc.property(sendings, (all) => {
        start();
        const events = eventsOf(all.map((sending) => ({ ...sending, ahead: Math.abs(sending.ahead) + 2 * DAY })));
        const results = events.map((event) => batch([event]));
        expect(results.slice(9).every((result) => result === "taken")).toBe(true);
        expect(results.slice(0, 9).every((result) => result === "refused")).toBe(true);
      }),
    );
  });
});

describe("little memory is used", () => {
  it("for senders that invent hostnames", () => {
    const before = liveHeapBytes();
    for (let index = 0; index < 50_000; index++) {
      now += 0.1;
      const { future } = clocks.sort([from(String(index).padEnd(512, "h"), index % 2 ? 2 * DAY : 0)]);
      if (index % 1_000 === 1) clocks.takes(future);
    }
    expect(liveHeapBytes() - before).toBeLessThan(8 * 2 ** 20);
  });

  // The YAML parser cuts texts out of the message.
  it("for messages whose hostnames are remembered", () => {
    const before = liveHeapBytes();
    for (let index = 0; index < 300; index++) {
      const body = `{type: worker-heartbeat, hostname: celery@worker-number-${index}, timestamp: 1.5, x: ${"y".repeat(200_000)}}`;
      const { events } = decodeFrame({ body, contentType: "application/x-yaml" });
      expect(events).toHaveLength(1);
      clocks.sort(events);
    }
    expect(liveHeapBytes() - before).toBeLessThan(10 * 2 ** 20);
  });
});
