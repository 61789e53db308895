import { PermanentError, TimedOutError, UnavailableError } from "@celery-metrics-exporter/runtime";
import { describe, expect, it } from "vitest";
import { BurialLimit } from "../../src/deliver/evidence.ts";
import {
  Deliverer,
  NOTHING_GETS_THROUGH,
  NOT_PROVEN,
  TOO_MANY_BURIALS,
  TOO_SLOW,
  type DeliveryRules,
  type Held,
} from "../../src/deliver/deliver.ts";
import { Drain, GivenBack, tryUntilDecided, type Failure } from "../../src/deliver/tries.ts";
import { LostJobError } from "../../src/contract/errors.ts";

/** Decides about a try by throwing. */
type Fail = (items: readonly number[], tryNumber: number) => void;

interface SinkOptions {
  readonly maxTries?: number;
  readonly drain?: Drain;
  readonly burials?: BurialLimit;
  readonly kindOf?: (item: number) => string;
  readonly subjectOf?: (item: number) => string;
  /** The number of items for which there was something to do. */
  readonly done?: (items: readonly number[]) => number;
}

const oneKind = (item: number): string => typeof item;
/** Tasks of three events with consecutive numbers. */
const ofThree = {
  kindOf: (item: number): string => ["received", "started", "succeeded"][item % 3] ?? "",
  subjectOf: (item: number): string => String(Math.floor(item / 3)),
};
/** Tasks of two events: `n` is received, and `1_000 + n` started. */
const ofTwo = {
  kindOf: (item: number): string => (item < 1_000 ? "received" : "started"),
  subjectOf: (item: number): string => String(item % 1_000),
};
const parity = (item: number): string => (item % 2 === 0 ? "even" : "odd");

/** A sink for numbers, with a journal of what it received. */
class TestSink {
  readonly sent: number[][] = [];
  readonly delivered: number[] = [];
  readonly buried: [number, Failure["reason"]][] = [];
  readonly retries: string[] = [];
  readonly errors: Error[] = [];
  splits = 0;
  served = 0;
  unavailable = 0;
  fail: Fail;
  jobs = 0;
  readonly #deliverer: Deliverer<number>;

  constructor(
    fail: Fail,
    {
      maxTries = 3,
      drain = new Drain(),
      burials = new BurialLimit(100),
      kindOf = oneKind,
      subjectOf,
      done = (part) => part.length,
    }: SinkOptions = {},
  ) {
    this.fail = fail;
    const rules: DeliveryRules = {
      drain,
      maxTries,
      burials,
      onUnavailable: () => void (this.unavailable += 1),
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
          return done(part);
        },
        onDelivered: (part) => void this.delivered.push(...part),
        bury: async (item, { reason }) => void this.buried.push([item, reason]),
        kindOf,
        ...(subjectOf !== undefined && { subjectOf }),
      },
      rules,
    );
  }

  /** By default as a job of its own, begun for the first time. */
  deliver(items: readonly number[], id = `job ${++this.jobs}`, begun = 1): Promise<Held<number> | undefined> {
    return this.#deliverer.deliver(items, undefined, { id, begun, attempt: (task) => task() });
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

describe.concurrent("a delivery", () => {
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

  it("does not split for an unknown error that goes away", async () => {
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

  it("gives back what waits for the sink when the process drains", async () => {
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

describe.concurrent("evidence", () => {
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

  it("is not what got through before: nothing that was taken is sent again", async () => {
    const taken = new Set<number>();
    // It does nothing for items that it already has, whatever is wrong with them.
    const sink = new TestSink((items) => items.forEach((item) => taken.add(item)));
    await sink.deliver(upTo(10));
    sink.fail = (items) => {
      if (items.some((item) => !taken.has(item))) throw new PermanentError("raised by a trigger");
    };
    for (let round = 1; round < 5; round++) expect((await sink.deliver([100, 101], "held", round))?.items).toHaveLength(2);
    expect(sink.buried).toEqual([]);
    expect(
      sink.sent
        .slice(1)
        .flat()
        .every((item) => item >= 100),
    ).toBe(true);
  });

  it("is that another got through since, and none before", async () => {
    const sink = new TestSink(refuse(7));
    await sink.deliver(upTo(3));
    expect((await sink.deliver([7], "held", 1))?.because).toContain(NOT_PROVEN);
    expect((await sink.deliver([7], "held", 2))?.items).toEqual([7]);
    await sink.deliver([20]);
    expect(await sink.deliver([7], "held", 3)).toBeUndefined();
    expect(sink.buried).toEqual([[7, "refused"]]);
  });

  it("is missing when items may have got through earlier, because their job was begun before", async () => {
    const sink = new TestSink(refuse(7));
    await sink.deliver([7], "held", 1);
    await sink.deliver([20], "taken over", 2);
    expect((await sink.deliver([7], "held", 2))?.items).toEqual([7]);
    expect(sink.buried).toEqual([]);
  });

  it("can come from a held job, because it contains nothing that got through", async () => {
    const sink = new TestSink(refuseAll);
    await sink.deliver(upTo(100), "held", 1);
    sink.fail = refuse(7);
    expect(await sink.deliver(upTo(100), "held", 2)).toBeUndefined();
    expect(sink.buried).toEqual([[7, "refused"]]);
  });

  it("is missing when there was nothing to do for what got through", async () => {
    const sink = new TestSink(refuse(7), { done: (items) => items.filter((item) => item >= 50).length });
    await sink.deliver([7], "held", 1);
    await sink.deliver(upTo(10, 20));
    expect((await sink.deliver([7], "held", 2))?.items).toEqual([7]);
    await sink.deliver([50]);
    expect(await sink.deliver([7], "held", 3)).toBeUndefined();
    expect(sink.buried).toEqual([[7, "refused"]]);
  });

  it("is missing when only items of other kinds get through", async () => {
    const sink = new TestSink(() => {}, { kindOf: parity });
    await sink.deliver(upTo(4));
    sink.fail = (items) => {
      if (items.some((item) => item % 2 === 1)) throw new PermanentError("violates check constraint");
    };
    const held = await sink.deliver(upTo(20, 10));
    expect(sorted(held?.items)).toEqual(upTo(20, 10).filter((item) => item % 2 === 1));
    expect(held?.because).toBe(`${NOT_PROVEN}: odd`);
    expect(sink.buried).toEqual([]);
  });

  it("is missing when more of the kind are refused than get through", async () => {
    const sink = new TestSink((items) => {
      if (items.some((item) => item % 4 !== 0)) throw new PermanentError("duplicate key");
    });
    const held = await sink.deliver(upTo(40));
    expect(sink.buried).toEqual([]);
    expect(sorted([...sink.got, ...(held?.items ?? [])])).toEqual(upTo(40));
  });

  it("is missing when more of the kind are refused than get through, in batches at the same time too", async () => {
    for (const batches of [2, 4, 8]) {
      const sink = new TestSink((items) => {
        if (items.some((item) => item % 5 < 3)) throw new PermanentError("duplicate key");
      });
      await Promise.all(upTo(batches).map((batch) => sink.deliver(upTo(20, batch * 20))));
      expect(sink.buried).toEqual([]);
    }
  });

  it("is not searched for in every event of a batch that needs nothing to be done", async () => {
    const sink = new TestSink(refuse(7), { done: () => 0 });
    await sink.deliver([7]);
    sink.sent.length = 0;
    expect(await sink.deliver(upTo(4_000, 10))).toBeUndefined();
    expect(sink.sent.length).toBeLessThan(40);
  });

  it("is missing when the sink takes only what comes together", async () => {
    // Ten subjects of three items each. The sink refuses to change existing subjects, but takes all items of a new subject at once.
    const known = new Set<string>(["0"]);
    const sink = new TestSink((items) => {
      const subjects = new Set(items.map(ofThree.subjectOf));
      if ([...subjects].some((subject) => known.has(subject))) throw new PermanentError("no updates");
      for (const subject of subjects) known.add(subject);
    }, ofThree);
    await sink.deliver([1], "held", 1);
    await sink.deliver(upTo(27, 3));
    expect((await sink.deliver([1], "held", 2))?.items).toEqual([1]);
    expect(sink.buried).toEqual([]);
  });

  it("is searched for: if items of a batch come together, one of the kind in question is tried alone", async () => {
    const sink = new TestSink(refuse(1), ofThree);
    await sink.deliver([0, 1, 2], "held", 1);
    await sink.deliver([3, 4, 5]);
    await sink.deliver([6, 7, 8]);
    expect(sink.sent.slice(-4)).toEqual([[3], [4], [5], [6, 7, 8]]);
    expect(await sink.deliver([1], "held", 2)).toBeUndefined();
    expect(sink.buried).toEqual([[1, "refused"]]);
  });

  it("does not blame an item that may be refused only because another item of its subject is", async () => {
    // Nothing of subjects from 10 on is taken: their starts are refused because their receipts were.
    const sink = new TestSink((items) => {
      if (items.some((item) => item % 1_000 >= 10)) throw new PermanentError("no new rows");
    }, ofTwo);
    await sink.deliver(upTo(10));
    const held = await sink.deliver([10, 11, 1_010, 1_011, ...upTo(10, 1_000)], "held", 1);
    expect(held?.items).toEqual([10, 11, 1_010, 1_011]);
    expect((await sink.deliver([1_012], "beside", 1))?.items).toEqual([1_012]);
    expect(sink.buried).toEqual([]);
  });

  it("is heard for one event of a task after the other, whichever job holds them", async () => {
    const sink = new TestSink(refuse(7, 1_007), ofTwo);
    await sink.deliver([7], "first", 1);
    await sink.deliver([1_007], "second", 1);
    await sink.deliver(upTo(5, 100));
    await sink.deliver(upTo(5, 1_100));
    expect((await sink.deliver([1_007], "second", 2))?.items).toEqual([1_007]);
    expect(await sink.deliver([7], "first", 2)).toBeUndefined();
    expect(await sink.deliver([1_007], "second", 3)).toBeUndefined();
    expect(sink.buried.map(([item]) => item)).toEqual([7, 1_007]);
  });

  it("comes from the rest of the batch, wherever the item is in it", async () => {
    for (const bad of [0, 1, 5, 8, 9]) {
      const sink = new TestSink(refuse(bad));
      expect(await sink.deliver(upTo(10))).toBeUndefined();
      expect(sink.buried).toEqual([[bad, "refused"]]);
      expect(sink.got).toEqual(upTo(10).filter((item) => item !== bad));
    }
  });

  it("lets many bad items be buried once as many others got through", async () => {
    const bad = upTo(10, 100);
    const sink = new TestSink(refuse(...bad));
    let held = await sink.deliver(bad, "held", 1);
    await sink.deliver(upTo(9));
    held = await sink.deliver(held?.items ?? [], "held", 2);
    expect(held?.items).toHaveLength(10);
    await sink.deliver([9]);
    expect(await sink.deliver(held?.items ?? [], "held", 3)).toBeUndefined();
    expect(sorted(sink.buried.map(([item]) => item))).toEqual(bad);
  });

  it("does not save an item that gets through alone from being delivered", async () => {
    const sink = new TestSink((items) => {
      if (items.length > 1) throw new PermanentError("too many at once");
    });
    expect(await sink.deliver(upTo(10))).toBeUndefined();
    expect(sink.got).toEqual(upTo(10));
    expect(sink.buried).toEqual([]);
  });

  it("needs as many tries as stated for an unknown error, after an outage too", async () => {
    const sink = new TestSink(failAll, { maxTries: 3 });
    await sink.deliver([0], "out", 1);
    sink.fail = (items) => {
      if (items.includes(7)) throw new Error("passing");
    };
    await sink.deliver([0], "out", 2);
    await sink.deliver([7], "held", 1);
    await sink.deliver([8]);
    let tries = 0;
    sink.fail = (items) => {
      if (items.includes(7) && ++tries < 6) throw new Error("passing");
    };
    expect(await sink.deliver([7], "held", 2)).toBeUndefined();
    expect(sink.buried).toEqual([]);
    expect(sink.got).toEqual([0, 7, 8]);
  });
});

/** Takes too long for these. */
function stall(...slow: readonly number[]): Fail {
  const all = new Set(slow);
  return (items) => {
    if (items.some((item) => all.has(item))) throw new TimedOutError("canceled");
  };
}

const stallAll: Fail = () => {
  throw new TimedOutError("canceled");
};

describe.concurrent("a batch that takes too long", () => {
  it("is tried a few times, and then in parts: what gets through is delivered, and the slow item is held", async () => {
    const sink = new TestSink(stall(1_234));
    const held = await sink.deliver(upTo(4_000));
    expect(held).toMatchObject({ items: [1_234], as: "slow", because: `${TOO_SLOW}: number`, error: { message: "canceled" } });
    expect(sink.got).toEqual(upTo(4_000).filter((item) => item !== 1_234));
    expect(sink.sent.filter((items) => items.includes(1_234)).map(({ length }) => length)).toEqual([4_000, 4_000, 4_000, 63, 1]);
    expect(sink.sent.length).toBeLessThan(150);
    expect(sink.splits).toBe(1);
    expect(sink.errors).toEqual([]);
  });

  it("is not split into parts if the delay goes away", async () => {
    const sink = new TestSink((_, tryNumber) => {
      if (tryNumber < 3) throw new TimedOutError("canceled");
    });
    expect(await sink.deliver(upTo(4))).toBeUndefined();
    expect(sink.sent).toEqual([upTo(4), upTo(4), upTo(4)]);
    expect(sink.unavailable).toBe(2);
  });

  it("never buries its slow item, however many others get through", async () => {
    const sink = new TestSink(stall(7));
    for (let round = 1; round < 30; round++) {
      await sink.deliver(upTo(10, 100 * round));
      expect(await sink.deliver([7], "held", round)).toMatchObject({ items: [7] });
    }
    expect(sink.buried).toEqual([]);
    // Most of the time it was not even tried.
    expect(sink.sent.filter((items) => items.includes(7)).length).toBeLessThan(6);
    sink.fail = () => {};
    await expect.poll(() => sink.deliver([7], "held", 30), { timeout: 10_000 }).toBeUndefined();
  });

  it("holds up no other batch with other items of the slow one's subject", async () => {
    const sink = new TestSink(stall(3, 4, 5), ofThree);
    expect((await sink.deliver(upTo(9)))?.items).toEqual([3, 4, 5]);
    sink.sent.length = 0;
    expect((await sink.deliver([0, 1, 2, 4, 9, 10]))?.items).toEqual([4]);
    expect(sink.sent).toEqual([[0, 1, 2, 9, 10]]);
  });

  it.each([
    [1, 3],
    [20, 6],
    [4_000, 9],
  ])(
    "is an outage if nothing gets through: reported, paced, and with no more tries than any other: %s items",
    async (size, most) => {
      const sink = new TestSink(stallAll);
      const held = await sink.deliver(upTo(size), "held");
      expect(held).toMatchObject({ as: "unavailable", because: NOTHING_GETS_THROUGH });
      expect(sorted(held?.items)).toEqual(upTo(size));
      expect(sink.sent).toHaveLength(most);
      expect(sink.unavailable).toBe(most);
      expect(sink.splits).toBe(0);
      sink.sent.length = 0;
      const begun = performance.now();
      await sink.deliver([0], "held", 2);
      // One try, because the outage is known; and a pause that has grown.
      expect(sink.sent).toEqual([[0]]);
      expect(performance.now() - begun).toBeGreaterThan(50 * (most - 1));
      sink.fail = () => {};
      expect(await sink.deliver(upTo(size), "held", 3)).toBeUndefined();
      expect(sink.sent.slice(1)).toEqual([upTo(size)]);
    },
    120_000,
  );

  it("is not an outage while others get through", async () => {
    const sink = new TestSink(stall(7));
    await sink.deliver([7, 8]);
    const reported = sink.unavailable;
    expect(reported).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    await sink.deliver([7], "held", 2);
    expect(sink.sent.at(-1)).toEqual([7]);
    expect(sink.unavailable).toBe(reported);
  });

  it.each([
    ["first", upTo(10)],
    ["last", upTo(20, 80)],
    ["every tenth", upTo(10).map((index) => index * 10)],
  ])(
    "gets its good items through sooner or later, if the slow ones are %s",
    async (_, slow) => {
      const sink = new TestSink(stall(...slow));
      let rest: readonly number[] = upTo(100);
      for (let round = 1; round < 40 && sink.delivered.length < 100 - slow.length; round++) {
        rest = (await sink.deliver(rest, "held", round))?.items ?? [];
      }
      expect(sink.got).toEqual(upTo(100).filter((item) => !slow.includes(item)));
      expect(sorted(rest)).toEqual(slow);
    },
    120_000,
  );

  it("lets a refused item be found beside a slow one", async () => {
    const sink = new TestSink((items, tryNumber) => {
      stall(30)(items, tryNumber);
      refuse(70)(items, tryNumber);
    });
    expect(await sink.deliver(upTo(100))).toMatchObject({ items: [30], as: "slow" });
    expect(sink.buried).toEqual([[70, "refused"]]);
    expect(sink.got).toEqual(upTo(100).filter((item) => item !== 30 && item !== 70));
  });

  it("does not bury an item whose last try takes too long", async () => {
    let tries = 0;
    const sink = new TestSink((items) => {
      if (!items.includes(7)) return;
      if (items.length === 1 && ++tries === 2) throw new TimedOutError("canceled");
      throw new PermanentError("bad");
    });
    expect((await sink.deliver(upTo(10)))?.items).toEqual([7]);
    expect(sink.buried).toEqual([]);
  });

  it("is given back when the process exits meanwhile", async () => {
    const drain = new Drain();
    const sink = new TestSink(stallAll, { drain });
    const delivery = sink.deliver(upTo(100));
    setTimeout(() => drain.begin(60_000), 1_500);
    await expect(delivery).rejects.toBeInstanceOf(GivenBack);
  });
});

describe.concurrent("a fault that comes and goes", () => {
  it("buries no more innocent items than the limit allows", async () => {
    let seed = 1;
    const random = (): number => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647;
    const sink = new TestSink(
      () => {
        if (random() < 0.5) throw new PermanentError("now and then");
      },
      { burials: new BurialLimit(5, () => 0) },
    );
    for (let batch = 0; batch < 50; batch++) await sink.deliver(upTo(100, batch * 100));
    expect(sink.buried.length).toBeLessThanOrEqual(5);
  });
});

describe.concurrent("the search for the item at fault", () => {
  it("ends soon when nothing gets through, for each kind", async () => {
    const sink = new TestSink(refuseAll);
    await sink.deliver(upTo(4_000));
    expect(sink.sent.length).toBeLessThan(60);
    const kinds = new TestSink(refuseAll, { kindOf: (item) => String(item % 5) });
    await kinds.deliver(upTo(4_000));
    expect(kinds.sent.length).toBeLessThan(220);
  });

  it.each(["nothing has happened", "nothing got through", "too much was buried"])("costs little when %s before", async (before) => {
    let now = 0;
    const sink = new TestSink(refuseAll, { burials: new BurialLimit(before === "too much was buried" ? 10 : 1_000, () => now) });
    if (before === "nothing got through") await sink.deliver(upTo(4_000, 10_000));
    sink.fail = refuse(1_234, ...upTo(100).map((index) => 20_000 + index * 40));
    const earlier = before === "too much was buried" ? await sink.deliver(upTo(4_000, 20_000)) : undefined;
    expect(earlier?.because).toBe(before === "too much was buried" ? TOO_MANY_BURIALS : undefined);
    now += 60_000;
    sink.sent.length = 0;
    sink.buried.length = 0;
    const held = await sink.deliver(upTo(4_000));
    expect(sink.sent.length).toBeLessThan(40);
    expect(sink.sent.flat().length).toBeLessThan(13_000);
    // Held items of an earlier job count against it, until as many more have got through.
    expect([...sink.buried.map(([item]) => item), ...(held?.items ?? [])]).toEqual([1_234]);
  });

  it("costs little for each of several bad items", async () => {
    const bad = upTo(40).map((index) => index * 100 + 7);
    const sink = new TestSink(refuse(...bad));
    expect(await sink.deliver(upTo(4_000))).toBeUndefined();
    expect(sink.buried).toHaveLength(40);
    expect(sink.sent.length).toBeLessThan(40 * 2 * Math.log2(4_000));
  });

  it("keeps a kind that is refused from costing a search of every batch", async () => {
    const sink = new TestSink(
      (items) => {
        if (items.some((item) => item % 10 === 1)) throw new PermanentError("violates check constraint");
      },
      { kindOf: (item) => String(item % 10) },
    );
    for (let batch = 0; batch < 3; batch++) {
      const begun = sink.sent.length;
      const held = await sink.deliver(upTo(4_000, batch * 4_000));
      expect(sink.sent.length - begun).toBeLessThan(200);
      expect(sorted(held?.items)).toEqual(upTo(400).map((index) => batch * 4_000 + index * 10 + 1));
    }
    expect(sink.buried).toEqual([]);
  });

  it("comes to an end when many bad items are together, and as many good ones got through", async () => {
    const bad = upTo(90, 1_000);
    const sink = new TestSink(refuse(...bad));
    let held = await sink.deliver(bad, "held", 1);
    for (let round = 2; round < 20; round++) held = await sink.deliver(held?.items ?? [], "held", round);
    expect(held?.items).toHaveLength(90);
    await sink.deliver(upTo(90));
    for (let round = 20; round < 40 && held !== undefined; round++) held = await sink.deliver(held.items, "held", round);
    expect(sorted(sink.buried.map(([item]) => item))).toEqual(bad);
  });

  it("finds the few good items among many bad ones, sooner or later, and loses none", async () => {
    const good = new Set(upTo(40).map((index) => index * 25));
    const sink = new TestSink((items) => {
      if (items.some((item) => !good.has(item))) throw new PermanentError("bad");
    });
    let rest: readonly number[] = upTo(1_000);
    for (let round = 1; round < 400 && sink.delivered.length < 40; round++) rest = (await sink.deliver(rest, "held", round))?.items ?? [];
    expect(sink.got).toEqual(sorted([...good]));
    expect(sorted([...rest, ...sink.got, ...sink.buried.map(([item]) => item)])).toEqual(upTo(1_000));
  });

  it("buries no more than the limit, delivers the good items all the same, and holds the rest", async () => {
    const bad = upTo(30).map((index) => index * 10);
    const sink = new TestSink(refuse(...bad), { burials: new BurialLimit(5) });
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
