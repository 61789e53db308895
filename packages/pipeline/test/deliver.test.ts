import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { describe, expect, it } from "vitest";
import { BurialLimit } from "../src/burial-limit.ts";
import {
  Deliverer,
  NOTHING_GETS_THROUGH,
  TOO_MANY_BURIALS,
  tryUntilDecided,
  type DeliveryRules,
  type Failure,
  type Held,
} from "../src/deliver.ts";
import { Drain, GivenBack } from "../src/drain.ts";
import { LostJobError } from "../src/errors.ts";
import { PermanentError } from "../src/index.ts";

/** Decides on a try by throwing. */
type Fail = (items: readonly number[], tryNumber: number) => void;

const oneKind = (item: number): string => typeof item;

/** A sink for numbers, and a journal of what came to it. */
class TestSink {
  readonly sent: number[][] = [];
  readonly delivered: number[] = [];
  readonly buried: [number, Failure["reason"]][] = [];
  readonly retries: string[] = [];
  readonly errors: Error[] = [];
  splits = 0;
  served = 0;
  fail: Fail;
  readonly #deliverer: Deliverer<number>;

  constructor(fail: Fail, { maxTries = 3, drain = new Drain(), burialsPerMinute = 100, kindOf = oneKind } = {}) {
    this.fail = fail;
    const rules: DeliveryRules = {
      drain,
      maxTries,
      burials: new BurialLimit(burialsPerMinute),
      onUnavailable: () => {},
      onServed: () => void (this.served += 1),
      onRetry: (reason) => void this.retries.push(reason),
      onError: (error) => void this.errors.push(error),
      onSplit: () => void (this.splits += 1),
    };
    this.#deliverer = new Deliverer(
      {
        send: async (part) => {
          this.sent.push([...part]);
          this.fail(part, this.sent.length);
        },
        onDelivered: (part) => void this.delivered.push(...part),
        bury: async (item, { reason }) => void this.buried.push([item, reason]),
        kindOf,
      },
      rules,
    );
  }

  deliver(items: readonly number[]): Promise<Held<number> | undefined> {
    return this.#deliverer.deliver(items, undefined);
  }

  /** What got through, in order of number. */
  get got(): number[] {
    return this.delivered.toSorted((a, b) => a - b);
  }
}

const upTo = (count: number, from = 0): number[] => Array.from({ length: count }, (_, index) => from + index);
const sorted = (numbers: readonly number[] = []): number[] => numbers.toSorted((a, b) => a - b);

function refuse(...bad: readonly number[]): Fail {
  const all = new Set(bad);
  return (items) => {
    if (items.some((item) => all.has(item))) throw new PermanentError("bad");
  };
}

const refuseAll: Fail = () => {
  throw new PermanentError("violates check constraint");
};

const failAll: Fail = () => {
  throw new TypeError("cannot read properties of undefined");
};

describe("a delivery", () => {
  it("sends a good batch once", async () => {
    const sink = new TestSink(() => {});
    expect(await sink.deliver(upTo(5))).toBeUndefined();
    expect(sink.sent).toEqual([upTo(5)]);
    expect(sink.served).toBe(1);
  });

  it("isolates the refused items, and delivers every other once", async () => {
    const bad = [3, 77, 78, 99];
    const sink = new TestSink(refuse(...bad));
    expect(await sink.deliver(upTo(100))).toBeUndefined();
    expect(sorted(sink.buried.map(([item]) => item))).toEqual(bad);
    expect(sink.got).toEqual(upTo(100).filter((item) => !bad.includes(item)));
    expect(sink.retries).toEqual([]);
  });

  it("tries an unknown error as often as stated, then splits", async () => {
    const sink = new TestSink((items) => {
      if (items.includes(2)) throw new Error("who knows");
    });
    expect(await sink.deliver(upTo(4))).toBeUndefined();
    expect(sink.sent.filter((items) => items.length === 4)).toHaveLength(3);
    expect(sink.buried).toEqual([[2, "failed"]]);
    expect(sink.got).toEqual([0, 1, 3]);
    expect(sink.errors.length).toBeGreaterThan(3);
  });

  it("needs no split for an unknown error that passes", async () => {
    const sink = new TestSink((_, tryNumber) => {
      if (tryNumber < 3) throw new Error("passing");
    });
    await sink.deliver(upTo(4));
    expect(sink.delivered).toEqual(upTo(4));
    expect(sink.splits).toBe(0);
  });

  it("counts no tries while the sink is unavailable, and splits nothing", async () => {
    const sink = new TestSink(
      (_, tryNumber) => {
        if (tryNumber < 4) throw new UnavailableError("down");
      },
      { maxTries: 1 },
    );
    await sink.deliver(upTo(4));
    expect(sink.sent).toEqual([upTo(4), upTo(4), upTo(4), upTo(4)]);
    expect(sink.retries).toEqual(["unavailable", "unavailable", "unavailable"]);
    expect(sink.splits).toBe(0);
  });

  it("takes a refusal after an outage as the end of the outage, and an unknown error as no answer", async () => {
    const first = [new UnavailableError("down"), new PermanentError("bad")];
    const refused = new TestSink((_, tryNumber) => {
      throw first[tryNumber - 1] ?? new Error("tried too often");
    });
    await refused.deliver([0]);
    expect(refused.served).toBe(1);
    const failed = new TestSink(failAll);
    await failed.deliver([0]);
    expect(failed.served).toBe(0);
  });

  it("gives back what waits for its sink when the process drains", async () => {
    const drain = new Drain();
    const sink = new TestSink(
      () => {
        throw new UnavailableError("down");
      },
      { drain },
    );
    const delivery = sink.deliver(upTo(4));
    setTimeout(() => drain.begin(60_000), 50);
    await expect(delivery).rejects.toBeInstanceOf(GivenBack);
  });

  it.each([new GivenBack(), new LostJobError("noting")])(
    "passes on at once what lets go of the job, which is no error of the sink: %s",
    async (letGo) => {
      const errors: Error[] = [];
      const rules = { drain: new Drain(), onRetry: () => {}, onError: (error: Error) => errors.push(error) };
      await expect(tryUntilDecided(() => Promise.reject(letGo), rules)).rejects.toBe(letGo);
      expect(errors).toEqual([]);
    },
  );

  it("gives back a try that the abort ended, whatever it threw", async () => {
    const drain = new Drain();
    drain.begin(0);
    await expect(new TestSink(refuseAll, { drain }).deliver([0])).rejects.toBeInstanceOf(GivenBack);
  });
});

describe("evidence", () => {
  it.each([
    ["refuses", refuseAll],
    ["fails for", failAll],
  ])(
    "is missing when the sink %s everything: all is held, and the first error with it",
    async (_, fail) => {
      const sink = new TestSink(fail, { maxTries: 1 });
      for (const size of [1, 2, 300]) {
        const held = await sink.deliver(upTo(size));
        expect(sorted(held?.items)).toEqual(upTo(size));
        expect(held?.because).toBe(NOTHING_GETS_THROUGH);
        expect(held?.error.message).toMatch(/violates|cannot read/);
      }
      expect(sink.buried).toEqual([]);
      sink.fail = () => {};
      expect(await sink.deliver(upTo(300))).toBeUndefined();
      expect(sink.got).toEqual(upTo(300));
    },
    60_000,
  );

  it("is missing when the sink takes everything at first, and refuses everything from then on", async () => {
    for (let good = 0; good < 12; good++) {
      const sink = new TestSink((items, tryNumber) => {
        if (tryNumber > good || items.length > 4) throw new PermanentError("violates check constraint");
      });
      const held = await sink.deliver(upTo(16));
      expect(sink.buried).toEqual([]);
      expect(sorted([...sink.delivered, ...(held?.items ?? [])])).toEqual(upTo(16));
    }
  });

  it("can be that an earlier batch got through, and still does", async () => {
    const sink = new TestSink(refuse(7));
    await sink.deliver(upTo(3));
    expect(await sink.deliver([7])).toBeUndefined();
    expect(sink.buried).toEqual([[7, "refused"]]);
    expect(sink.got).toEqual(upTo(3));
  });

  it("is missing when only items of another kind got through, and those of the same kind no longer do", async () => {
    const sink = new TestSink(() => {}, { kindOf: (item) => (item % 2 === 0 ? "even" : "odd") });
    await sink.deliver(upTo(4));
    sink.fail = (items) => {
      if (items.some((item) => item % 2 === 1)) throw new PermanentError("violates check constraint");
    };
    const held = await sink.deliver(upTo(20, 10));
    expect(sorted(held?.items)).toEqual(upTo(20, 10).filter((item) => item % 2 === 1));
    expect(sink.buried).toEqual([]);
  });

  it("comes from the batch itself for the first refused items too", async () => {
    const sink = new TestSink(refuse(0, 1));
    expect(await sink.deliver([0, 1, 2])).toBeUndefined();
    expect(sorted(sink.buried.map(([item]) => item))).toEqual([0, 1]);
    expect(sink.got).toEqual([2]);
  });

  it("lets a whole batch of bad items be buried when others get through", async () => {
    const bad = upTo(90, 100);
    const sink = new TestSink(refuse(...bad));
    await sink.deliver(upTo(3));
    expect(await sink.deliver(bad)).toBeUndefined();
    expect(sink.buried).toHaveLength(90);
  });

  it("does not save an item that gets through alone from being delivered", async () => {
    const sink = new TestSink((items) => {
      if (items.length > 1) throw new PermanentError("too many at once");
    });
    expect(await sink.deliver(upTo(10))).toBeUndefined();
    expect(sink.got).toEqual(upTo(10));
    expect(sink.buried).toEqual([]);
  });
});

describe("the search for what is at fault", () => {
  it("ends soon when nothing gets through, and sooner the next time", async () => {
    const sink = new TestSink(refuseAll);
    await sink.deliver(upTo(4_000));
    const first = sink.sent.length;
    expect(first).toBeLessThan(100);
    await sink.deliver(upTo(4_000));
    expect(sink.sent.length - first).toBeLessThan(20);
  });

  it("finds the few good items among many bad ones, sooner or later, and loses none", async () => {
    const good = new Set(upTo(40).map((index) => index * 25));
    const sink = new TestSink((items) => {
      if (items.some((item) => !good.has(item))) throw new PermanentError("bad");
    });
    let rest: readonly number[] = upTo(1_000);
    for (let round = 0; round < 400 && sink.delivered.length < 40; round++) rest = (await sink.deliver(rest))?.items ?? [];
    expect(sink.got).toEqual(sorted([...good]));
    expect(sorted([...rest, ...sink.got, ...sink.buried.map(([item]) => item)])).toEqual(upTo(1_000));
  });

  it("buries no more than the limit, delivers the good items all the same, and holds the rest", async () => {
    const bad = upTo(30).map((index) => index * 10);
    const sink = new TestSink(refuse(...bad), { burialsPerMinute: 5 });
    const held = await sink.deliver(upTo(300));
    expect(sink.buried).toHaveLength(5);
    expect(held?.because).toBe(TOO_MANY_BURIALS);
    expect(sink.got).toEqual(upTo(300).filter((item) => item % 10 !== 0));
    expect(sorted([...(held?.items ?? []), ...sink.buried.map(([item]) => item)])).toEqual(bad);
  });
});

describe("the limit of burials", () => {
  it("allows a burst, and as many again in a minute", () => {
    let now = 0;
    const limit = new BurialLimit(3, () => now);
    expect([limit.take(), limit.take(), limit.take(), limit.take()]).toEqual([true, true, true, false]);
    now += 20_000;
    expect([limit.take(), limit.take()]).toEqual([true, false]);
    now += 3_600_000;
    expect([limit.take(), limit.take(), limit.take(), limit.take()]).toEqual([true, true, true, false]);
  });
});
