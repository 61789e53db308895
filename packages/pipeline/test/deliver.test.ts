import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { describe, expect, it } from "vitest";
import { deliver, type DeliveryRules, type Failure } from "../src/deliver.ts";
import { Drain, GivenBack } from "../src/drain.ts";
import { PermanentError } from "../src/index.ts";

interface Trace {
  readonly sent: number[][];
  readonly delivered: number[];
  readonly buried: [number, Failure["reason"]][];
  readonly retries: string[];
  splits: number;
  served: number;
}

/** Delivers numbers; `fail` decides on each try by throwing. */
async function run(
  items: readonly number[],
  fail: (items: readonly number[], tryNumber: number) => void,
  { maxTries = 3, drain = new Drain() } = {},
): Promise<Trace> {
  const trace: Trace = { sent: [], delivered: [], buried: [], retries: [], splits: 0, served: 0 };
  const rules: DeliveryRules = {
    drain,
    maxTries,
    onUnavailable: () => {},
    onServed: () => void (trace.served += 1),
    onRetry: (reason) => void trace.retries.push(reason),
    onSplit: () => void (trace.splits += 1),
  };
  await deliver(
    items,
    {
      send: async (part) => {
        trace.sent.push([...part]);
        fail(part, trace.sent.length);
        trace.delivered.push(...part);
      },
      bury: async (item, { reason }) => void trace.buried.push([item, reason]),
    },
    rules,
  );
  return trace;
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

describe("deliver", () => {
  it("sends a good batch once", async () => {
    const trace = await run(upTo(5), () => {});
    expect(trace.sent).toEqual([upTo(5)]);
    expect(trace.served).toBe(1);
  });

  it("isolates the refused items, and delivers every other once", async () => {
    const bad = new Set([3, 77, 78, 99]);
    const trace = await run(upTo(100), (items) => {
      if (items.some((item) => bad.has(item))) throw new PermanentError("bad");
    });
    expect(trace.buried).toEqual([...bad].map((item) => [item, "refused"]));
    expect(trace.delivered.toSorted((a, b) => a - b)).toEqual(upTo(100).filter((item) => !bad.has(item)));
    expect(trace.retries).toEqual([]);
  });

  it("tries an unknown error as often as stated, then splits", async () => {
    const trace = await run(upTo(4), (items) => {
      if (items.includes(2)) throw new Error("who knows");
    });
    expect(trace.sent.filter((items) => items.length === 4)).toHaveLength(3);
    expect(trace.sent.filter((items) => items.length === 1 && items[0] === 2)).toHaveLength(2);
    expect(trace.buried).toEqual([[2, "failed"]]);
    expect(trace.delivered).toEqual([0, 1, 3]);
  });

  it("needs no split for an unknown error that passes", async () => {
    const trace = await run(upTo(4), (_, tryNumber) => {
      if (tryNumber < 3) throw new Error("passing");
    });
    expect(trace.delivered).toEqual(upTo(4));
    expect(trace.splits).toBe(0);
  });

  it("counts no tries while the sink is unavailable, and splits nothing", async () => {
    const trace = await run(
      upTo(4),
      (_, tryNumber) => {
        if (tryNumber < 4) throw new UnavailableError("down");
      },
      { maxTries: 1 },
    );
    expect(trace.sent).toEqual([upTo(4), upTo(4), upTo(4), upTo(4)]);
    expect(trace.retries).toEqual(["unavailable", "unavailable", "unavailable"]);
    expect(trace.splits).toBe(0);
  });

  it("takes a refusal after an outage as the end of the outage, and an unknown error as no answer", async () => {
    const first = [new UnavailableError("down"), new PermanentError("bad")];
    const refused = await run(upTo(1), (_, tryNumber) => {
      throw first[tryNumber - 1] ?? new Error("tried too often");
    });
    expect(refused).toMatchObject({ buried: [[0, "refused"]], served: 1 });
    const failed = await run(upTo(1), () => {
      throw new Error("who knows");
    });
    expect(failed).toMatchObject({ buried: [[0, "failed"]], served: 0 });
  });

  it("gives back what waits for its sink when the process drains", async () => {
    const drain = new Drain();
    const delivery = run(
      upTo(4),
      () => {
        throw new UnavailableError("down");
      },
      { drain },
    );
    setTimeout(() => drain.begin(60_000), 50);
    await expect(delivery).rejects.toBeInstanceOf(GivenBack);
  });

  it("gives back a try that the abort ended, whatever it threw", async () => {
    const drain = new Drain();
    drain.begin(0);
    const delivery = run(
      upTo(1),
      () => {
        throw new PermanentError("aborted");
      },
      { drain },
    );
    await expect(delivery).rejects.toBeInstanceOf(GivenBack);
  });
});
