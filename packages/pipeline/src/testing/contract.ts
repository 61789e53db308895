/** The contract of `Exporter`, as tests that every exporter runs with its real sink. */
import type { CeleryEvent, Observation, TaskEvent } from "@celery-metrics-exporter/celery";
import { customEvent } from "@celery-metrics-exporter/celery/testing";
import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Exporter } from "../contract/exporter.ts";
import { EXPORTERS } from "../contract/exporters.ts";
import { decodeBatch, encodeBatch } from "../queue/batch.ts";
import { SAMPLE_IDS, sampleHistory, sampleObservations } from "./sample-history.ts";
import type { ScheduledJob, TestExporter } from "./test-exporter.ts";

export interface ExporterHarness {
  /** Created but not started (see `createTestExporter`), with its own empty sink. */
  readonly exporter: Exporter;
  /**
   * Waits until nothing is pending, including the second stage, and returns the contents of the sink for `toEqual`: sorted if the order
   * means nothing, and without values that differ from run to run (`created_at`).
   */
  observe(): Promise<unknown>;
  /**
   * For a sink that cannot tell what it got before: whether `contents` contain all of `whole`, and nothing else except what a second stage
   * that was killed has reported twice. Without this, both must be equal.
   */
  hasAll?(contents: unknown, whole: unknown): boolean;
  /** Makes the sink unreachable. Omit both if that is not possible (UDP). */
  breakSink?(): Promise<void>;
  mendSink?(): Promise<void>;
  /** Makes the sink refuse writes although it answers: each command of a pipeline, each statement. Omit both if that is not possible. */
  refuseWrites?(): Promise<void>;
  allowWrites?(): Promise<void>;
  /** Creates another process on the same sink, which can be killed. */
  mortal(): Promise<MortalProcess>;
  /** Stops the exporter and removes the sink. */
  close(): Promise<void>;
}

/** A started exporter, as if in a process that can be killed between two of its effects (see the testkit's `MortalLink`). */
export interface MortalProcess {
  readonly exporter: Exporter;
  /** See `TestExporter`: what it schedules stays in the queue, for another process. */
  holdJobs(): readonly ScheduledJob[];
  /** Allows so many effects from now on. The process dies before the next one. */
  dieAfter(effects: number): void;
  /** Resolves when the process has died. */
  readonly death: Promise<void>;
  close(): Promise<void>;
}

/** Kills the process: the testkit's `MortalLink`, through which the exporter reaches its sink. */
interface Killer {
  dieAfter(requests: number): void;
  readonly death: Promise<void>;
  stop(): Promise<void>;
}

/** Starts an exporter as a process that can be killed. */
export async function startMortal(
  { exporter, holdJobs, close }: Pick<TestExporter, "exporter" | "holdJobs" | "close">,
  link: Killer,
): Promise<MortalProcess> {
  await exporter.start?.();
  return {
    exporter,
    holdJobs,
    dieAfter: (effects) => link.dieAfter(effects),
    death: link.death,
    close: async () => {
      await link.stop();
      await close();
    },
  };
}

type Events = readonly CeleryEvent[];
type Observed = readonly Observation[];
type Export = (events: Events) => Promise<void>;

/** Ways to deliver the same history. Each must leave the same in the sink as a single batch. */
const DELIVERIES: readonly (readonly [name: string, deliver: (history: Events, send: Export) => Promise<void>])[] = [
  ["twice", (history, send) => inTurn([history, history], send)],
  ["in reverse", (history, send) => send(history.toReversed())],
  ["one event at a time", (history, send) => inTurn(chunks(history, 1), send)],
  ["one event at a time, in reverse", (history, send) => inTurn(chunks(history.toReversed(), 1), send)],
  ["in small batches, in any order", (history, send) => inTurn(shuffle(chunks(shuffle(history, 1), 4), 2), send)],
  ["in another order, then whole", (history, send) => inTurn([shuffle(history, 3), history], send)],
  ["in small batches, at the same time", (history, send) => atOnce(chunks(shuffle(history, 4), 3), send)],
  ["three times at the same time", (history, send) => atOnce([history, shuffle(history, 5), history.toReversed()], send)],
];

/** What an exporter or its sink may lack. The tests that need it are then skipped, and one says why. */
type Part = "process" | "forget" | "breakSink" | "refuseWrites";

const PARTS: Readonly<Record<Part, (harness: ExporterHarness) => boolean>> = {
  process: ({ exporter }) => exporter.process !== undefined,
  forget: ({ exporter }) => exporter.forget !== undefined,
  breakSink: (harness) => harness.breakSink !== undefined && harness.mendSink !== undefined,
  refuseWrites: (harness) => harness.refuseWrites !== undefined && harness.allowWrites !== undefined,
};

/** What a process does until it is killed, and what another one does afterwards. */
interface Killing {
  readonly before?: (victim: MortalProcess) => Promise<void>;
  readonly work: (victim: MortalProcess) => Promise<unknown>;
  readonly afterwards: (harness: ExporterHarness, jobs: readonly ScheduledJob[]) => Promise<void>;
  readonly wanted: unknown;
  /** Whether the harness may accept repetitions, with `hasAll`. */
  readonly mayRepeat?: boolean;
}

/**
 * Declares the suite. `makeHarness` is called at least once in each test.
 *
 * @param lacks the parts that this exporter or its sink does not have, with the reason. A part that is missing and not named here fails.
 */
export function describeExporter(
  name: string,
  makeHarness: () => Promise<ExporterHarness>,
  lacks: Readonly<Partial<Record<Part, string>>> = {},
): void {
  const has = (...needed: readonly Part[]): boolean => needed.every((part) => lacks[part] === undefined);
  const parts = (Object.keys(PARTS) as Part[]).map((part): [title: string, part: Part] => [
    has(part) ? `has \`${part}\`` : `has no \`${part}\`: ${lacks[part]}`,
    part,
  ]);

  describe(`${name} keeps the contract of an exporter`, () => {
    const history = sampleHistory(Math.floor(Date.now() / 1_000) - 10);
    const open: ExporterHarness[] = [];
    let empty: unknown;
    let whole: unknown;

    const makeNew = async (): Promise<ExporterHarness> => {
      const harness = await makeHarness();
      open.push(harness);
      return harness;
    };
    const make = async (): Promise<{ harness: ExporterHarness; send: Export }> => {
      const harness = await makeNew();
      await harness.exporter.start?.();
      return { harness, send: (events) => harness.exporter.export(events, new AbortController().signal) };
    };
    const closeAll = async (): Promise<void> => {
      await Promise.all(open.splice(0).map((harness) => harness.close()));
    };

    /** The contents of a new harness's sink after these events. */
    const pictureOf = async (events: Events): Promise<unknown> => {
      const { harness, send } = await make();
      if (events.length > 0) await send(events);
      return harness.observe();
    };

    /** Kills a process before its first effect, another before its second, and so on, until one does all its work. */
    const expectNoLoss = async ({ before, work, afterwards, wanted, mayRepeat = false }: Killing): Promise<void> => {
      let hasDied = true;
      let effects = 0;
      for (; hasDied; effects++) {
        const { harness } = await make();
        const victim = await harness.mortal();
        const jobs = victim.holdJobs();
        await before?.(victim);
        victim.dieAfter(effects);
        const died = victim.death.then(() => true);
        const worked = work(victim).then(() => false);
        // The work of a dead process may never end.
        hasDied = await Promise.race([died, worked.catch(() => died)]);
        const left = [...jobs];
        await victim.close();
        await afterwards(harness, left);
        const contents = await harness.observe();
        const isFine = mayRepeat && harness.hasAll?.(contents, wanted) === true;
        if (!isFine) expect(contents, `killed after ${effects} effects`).toEqual(wanted);
        await closeAll();
      }
      expect(effects, "it dies at least once").toBeGreaterThan(1);
    };

    /** The contents of a new harness's sink after it has observed these one after the other; undefined if it does not observe. */
    const pictureAfter = async (...groups: readonly Observed[]): Promise<unknown> => {
      const { harness } = await make();
      if (harness.exporter.observe === undefined) return undefined;
      for (const group of groups) await observe(harness, group);
      return harness.observe();
    };

    beforeAll(async () => {
      empty = await pictureOf([]);
      whole = await pictureOf(history);
      await closeAll();
    });
    afterEach(closeAll);

    describe("delivery", () => {
      it("leaves something in its sink", () => {
        expect(whole).not.toEqual(empty);
      });

      it.each(DELIVERIES)("leaves the same when the history comes %s", async (_, deliver) => {
        const { harness, send } = await make();
        await deliver(history, send);
        expect(await harness.observe()).toEqual(whole);
      });

      it("leaves the same when the history comes again after all of it was processed", async () => {
        const { harness, send } = await make();
        await send(history);
        await harness.observe();
        await send(shuffle(history, 6));
        expect(await harness.observe()).toEqual(whole);
      });

      it("needs no more than what the receiver enqueues for it", async ({ skip }) => {
        const registration = EXPORTERS.find((exporter) => exporter.name === name);
        if (registration === undefined) skip("it is not registered");
        const { harness, send } = await make();
        const { takes = [], omits = [] } = registration ?? {};
        const taken = history.filter(({ type }) => (takes as readonly string[]).includes(type));
        await send(decodeBatch(encodeBatch({ broker: "test", events: taken }, new Set(omits))).events);
        expect(await harness.observe()).toEqual(whole);
      });

      it("does nothing for an empty batch", async () => {
        const { harness, send } = await make();
        await send([]);
        expect(await harness.observe()).toEqual(empty);
      });

      it("neither creates nor changes a task for a custom event", async () => {
        const { harness, send } = await make();
        const custom = history.map((event) => customEvent({ uuid: event.uuid, timestamp: event.timestamp + 60 }));
        await send([...history, ...custom, customEvent({ uuid: "99999999-9999-4999-8999-999999999999" })]);
        expect(await harness.observe()).toEqual(whole);
      });

      it("does not modify events", async () => {
        const { send } = await make();
        const events = structuredClone(history).map((event) => Object.freeze(event));
        await send(Object.freeze(events));
        expect(events).toEqual(history);
      });
    });

    it.each(parts)("%s", async (_, part) => {
      const isThere = PARTS[part](await makeNew());
      expect(isThere, "the argument `lacks` of describeExporter names what is missing, and only that").toBe(has(part));
    });

    describe("forgetting", () => {
      const { failed, unsent, orphan } = SAMPLE_IDS;

      it.runIf(has("forget"))("removes all of a task, and nothing of the others", async () => {
        const { harness, send } = await make();
        await send(history);
        await forget(harness, [unsent, orphan]);
        expect(await harness.observe()).toEqual(await pictureOf(without(history, unsent, orphan)));
      });

      it.runIf(has("forget"))("keeps a task that has a task-sent, because an excluded task has none", async () => {
        const { harness, send } = await make();
        await send(history);
        await forget(harness, [failed]);
        expect(await harness.observe()).toEqual(whole);
      });

      it.runIf(has("forget"))("can be repeated, and accepts tasks that it never saw", async () => {
        const { harness, send } = await make();
        await forget(harness, [unsent, "never-seen"]);
        await send(history);
        await forget(harness, [unsent]);
        await forget(harness, [unsent]);
        await forget(harness, []);
        expect(await harness.observe()).toEqual(await pictureOf(without(history, unsent)));
      });
    });

    describe("observing", () => {
      const now = Math.floor(Date.now() / 1_000);
      const [older, newer] = [sampleObservations(now - 20), sampleObservations(now - 10)];

      it("keeps the newest observation of each type, in any order and repeated", async ({ skip }) => {
        const expected = await pictureAfter(newer);
        if (expected === undefined) skip();
        expect(await pictureAfter(older)).not.toEqual(expected);
        expect(await pictureAfter(older, newer), "in order").toEqual(expected);
        expect(await pictureAfter(newer, older, newer, older), "twice, ending with the older ones").toEqual(expected);
        expect(await pictureAfter([...newer, ...older]), "together").toEqual(expected);
        expect(await pictureAfter(...[...newer, ...older].map((observation) => [observation])), "one by one").toEqual(expected);
      });

      it("observes nothing, and does not modify observations", async ({ skip }) => {
        const { harness } = await make();
        if (harness.exporter.observe === undefined) skip();
        await observe(harness, []);
        expect(await harness.observe()).toEqual(empty);
        const observations = structuredClone(newer).map((observation) => Object.freeze(observation));
        await observe(harness, Object.freeze(observations));
        expect(observations).toEqual(newer);
      });

      it("throws while its sink is unavailable, and takes the observations when it is back", async ({ skip }) => {
        const { harness } = await make();
        if (harness.breakSink === undefined || harness.mendSink === undefined || harness.exporter.observe === undefined) skip();
        const expected = await pictureAfter(newer);
        await observe(harness, older);
        await harness.breakSink?.();
        await expect(observe(harness, newer)).rejects.toBeInstanceOf(UnavailableError);
        await harness.mendSink?.();
        await untilServed(() => observe(harness, newer));
        expect(await harness.observe()).toEqual(expected);
      });
    });

    describe("trouble", () => {
      it.runIf(has("breakSink"))("throws while its sink is unavailable, and delivers when it is back", async () => {
        const { harness, send } = await make();
        await send(history.slice(0, 5));
        await harness.breakSink?.();
        await expect(send(history)).rejects.toBeInstanceOf(UnavailableError);
        await harness.mendSink?.();
        await untilServed(() => send(history));
        expect(await harness.observe()).toEqual(whole);
      });

      it.runIf(has("breakSink", "forget"))("throws from `forget` too while its sink is unavailable", async () => {
        const { harness, send } = await make();
        const { unsent } = SAMPLE_IDS;
        await send(history);
        await harness.breakSink?.();
        await expect(forget(harness, [unsent])).rejects.toBeInstanceOf(UnavailableError);
        await harness.mendSink?.();
        await untilServed(() => forget(harness, [unsent]));
        expect(await harness.observe()).toEqual(await pictureOf(without(history, unsent)));
      });

      it.runIf(has("refuseWrites"))("says that its sink refuses writes, and delivers when it takes them again", async () => {
        const { harness, send } = await make();
        await send(history.slice(0, 5));
        await harness.refuseWrites?.();
        await expect(send(history)).rejects.toBeInstanceOf(UnavailableError);
        await harness.allowWrites?.();
        await untilServed(() => send(history));
        expect(await harness.observe()).toEqual(whole);
      });

      it("loses nothing when it is killed between any two effects of an export", async () => {
        await expectNoLoss({
          work: ({ exporter }) => exporter.export(history, new AbortController().signal),
          afterwards: ({ exporter }) => exporter.export(history, new AbortController().signal),
          wanted: whole,
        });
      }, 120_000);

      it.runIf(has("process"))(
        "loses nothing when it is killed between any two effects of `process`",
        async () => {
          let first: readonly ScheduledJob[] = [];
          await expectNoLoss({
            before: async (victim) => {
              await victim.exporter.export(history, new AbortController().signal);
              first = [...victim.holdJobs()];
            },
            work: ({ exporter }) => processInTurn(exporter, first),
            // The batch is done and does not come again: only its jobs do.
            afterwards: ({ exporter }, jobs) => processInTurn(exporter, jobs),
            wanted: whole,
            mayRepeat: true,
          });
        },
        120_000,
      );

      it.runIf(has("forget"))(
        "loses nothing of other tasks, and keeps nothing of these, when it is killed between any two effects of `forget`",
        async () => {
          const ids = [SAMPLE_IDS.unsent, SAMPLE_IDS.orphan];
          const wanted = await pictureOf(without(history, ...ids));
          await expectNoLoss({
            before: ({ exporter }) => exporter.export(history, new AbortController().signal),
            work: async ({ exporter }) => exporter.forget?.(ids, new AbortController().signal),
            afterwards: async (harness, jobs) => {
              await forget(harness, ids);
              await processInTurn(harness.exporter, jobs);
            },
            wanted,
          });
        },
        120_000,
      );

      it("can be aborted, and takes the same batch again", async () => {
        const { harness, send } = await make();
        await harness.exporter.export(history, AbortSignal.abort()).catch(() => {});
        const soon = new AbortController();
        const interrupted = harness.exporter.export(history, soon.signal).catch(() => {});
        soon.abort();
        await interrupted;
        await send(history);
        expect(await harness.observe()).toEqual(whole);
      });
    });

    describe("life", () => {
      it("stops without having been started, and twice", async () => {
        await expect(stopTwice(await makeNew())).resolves.toBeUndefined();
      });

      it("stops twice after it has worked", async () => {
        const { harness, send } = await make();
        await send(history);
        await expect(stopTwice(harness)).resolves.toBeUndefined();
      });
    });
  });
}

function without(history: readonly TaskEvent[], ...ids: string[]): Events {
  return history.filter(({ uuid }) => !ids.includes(uuid));
}

async function forget({ exporter }: ExporterHarness, ids: readonly string[]): Promise<void> {
  await exporter.forget?.(ids, new AbortController().signal);
}

async function processInTurn(exporter: Exporter, jobs: readonly ScheduledJob[]): Promise<void> {
  for (const job of jobs) await exporter.process?.(job.ids, new AbortController().signal, job);
}

async function observe({ exporter }: ExporterHarness, observations: Observed): Promise<void> {
  await exporter.observe?.(observations, new AbortController().signal);
}

async function stopTwice({ exporter }: ExporterHarness): Promise<void> {
  await exporter.stop?.();
  await exporter.stop?.();
}

async function inTurn(batches: readonly Events[], send: Export): Promise<void> {
  for (const batch of batches) await send(batch);
}

async function atOnce(batches: readonly Events[], send: Export): Promise<void> {
  await Promise.all(batches.map(send));
}

/** A sink that has just come back may refuse for a moment; the host waits too. */
async function untilServed(attempt: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + 15_000;
  for (;;) {
    try {
      return await attempt();
    } catch (thrown) {
      if (!(thrown instanceof UnavailableError) || Date.now() > deadline) throw thrown;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, index) => items.slice(index * size, (index + 1) * size));
}

/** Fisher-Yates with a linear congruential generator: the same order at every run. */
function shuffle<T>(items: readonly T[], seed: number): T[] {
  const shuffled = [...items];
  let state = seed;
  for (let index = shuffled.length - 1; index > 0; index--) {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    const other = state % (index + 1);
    [shuffled[index], shuffled[other]] = [shuffled[other] as T, shuffled[index] as T];
  }
  return shuffled;
}
