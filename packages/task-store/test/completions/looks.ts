/** What a task sends does not depend on when it is looked at. */
import { orderingTimestamp, precedenceOf, stateOf, STATE_RANK, type TaskEvent } from "@celery-metrics-exporter/celery";
import {
  split,
  taskFailed,
  taskReceived,
  taskRejected,
  taskRevoked,
  taskSent,
  taskStarted,
  taskSucceeded,
} from "@celery-metrics-exporter/celery/testing";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Labels } from "../../src/completions/attempts.ts";
import { summarise } from "../../src/completions/summarise.ts";
import type { TaskStore } from "../../src/task-store.ts";
import { ID, START, histories, type History } from "../lives.ts";

/** What these tests need of the Store. */
export type LookedAt = Pick<TaskStore, "apply" | "claim" | "settle">;

/** As the exporter has it: how long a task that lacks something is put off. */
const PATIENCE_SECONDS = 60;
const HELD_UP_SECONDS = 5;
const RUNS = 150;

interface Sent extends Labels {
  readonly state: string;
  /** What a run took, or what an attempt waited. */
  readonly seconds: number | undefined;
}

/** Applies batches in order of time, and looks at the task after each, as the exporter does. */
class Looker {
  readonly sent: Sent[] = [];
  /** That of the run that ended last. */
  lastState: string | undefined;
  readonly #store: LookedAt;
  #reported = false;
  #since: number | undefined;

  constructor(store: LookedAt) {
    this.#store = store;
  }

  /** @param until when the next batch comes. */
  async deliver(batch: readonly TaskEvent[], now: number, until: number): Promise<void> {
    if ((await this.#store.apply(batch)).length > 0) this.#reported = true;
    if (!this.#reported) return;
    const claim = (await this.#store.claim("1", [ID])).get(ID);
    if (claim?.outcome !== "claimed") {
      this.#reported = false;
      return;
    }
    const summary = summarise(claim.entry);
    this.#since ??= now;
    if (summary.lacks !== undefined && until - this.#since < PATIENCE_SECONDS) return;
    this.lastState = summary.completions.toSorted((a, b) => a.finishedAt - b.finishedAt).at(-1)?.state ?? this.lastState;
    for (const { runTime, ...completion } of summary.completions) this.sent.push({ ...completion, seconds: runTime });
    for (const { basis, ...wait } of summary.waits) this.sent.push({ ...wait, state: basis });
    await this.#store.settle("1", new Map([[ID, summary]]));
    this.#reported = false;
    this.#since = undefined;
  }

  /** Rounded, since which of two reports a few milliseconds apart ends a run may depend on when they come. */
  told(): string[] {
    return this.sent
      .map(({ state, seconds }) => `${state} ${seconds === undefined ? "" : (Math.round(seconds * 20) / 20).toFixed(2)}`)
      .sort();
  }

  /** What each is counted under. Without what has no start: nothing may tell its attempt. */
  labels(): string[] {
    return this.sent
      .filter(({ seconds }) => seconds !== undefined)
      .map(({ state, name, queue }) => `${state} ${name} ${queue}`)
      .sort();
  }

  states(): string[] {
    return this.sent
      .map(({ state }) => state)
      .filter((state) => state === state.toUpperCase())
      .sort();
  }
}

/** A batch is not held up for longer than a few seconds. */
function inTime(batch: readonly TaskEvent[]): TaskEvent[][] {
  const batches: TaskEvent[][] = [];
  for (const event of batch) {
    const last = batches.at(-1);
    if (last === undefined || event.timestamp - (last[0]?.timestamp ?? 0) > HELD_UP_SECONDS) batches.push([event]);
    else last.push(event);
  }
  return batches;
}

/** The state that the row of a task shows. */
function rowState(events: readonly TaskEvent[]): string | undefined {
  const greatest = events.toSorted(byRow).at(-1);
  return greatest && stateOf(greatest);
}

function byRow(a: TaskEvent, b: TaskEvent): number {
  return (
    precedenceOf(a) - precedenceOf(b) || orderingTimestamp(a) - orderingTimestamp(b) || STATE_RANK[stateOf(a)] - STATE_RANK[stateOf(b)]
  );
}

/**
 * Whether the row should show the end that was sent last. Otherwise by design: a row has no room for a rejection beside another end, nor knows
 * which run an exit or a revocation belongs to, and an event that is not final is no end.
 */
function isComparable(events: readonly TaskEvent[]): boolean {
  const isRevokedUnbegun = events.some((event) => event.type === "task-revoked" && event.terminated === false);
  const isExitAlone = events.some((event) => event.type === "task-failed" && event.exited === true);
  return (
    !isRevokedUnbegun &&
    !isExitAlone &&
    events.some((event) => precedenceOf(event) === 3) &&
    !events.some(({ type }) => type === "task-rejected")
  );
}

const told: fc.Arbitrary<{ history: History; batches: TaskEvent[][] }> = histories.chain((history) =>
  split(history.events).map((batches) => ({ history, batches: batches.flatMap(inTime) })),
);

const WHERE = { uuid: ID, hostname: "w1@host-a" };
const at = (seconds: number): { uuid: string; hostname: string; timestamp: number } => ({ ...WHERE, timestamp: START + seconds });
const sentAt = (seconds: number): TaskEvent => taskSent({ uuid: ID, timestamp: START + seconds });
const EXIT = { exception: "SystemExit(-241)", exited: true };
const run = [sentAt(0), taskReceived(at(1)), taskStarted(at(2))];
const wait = "sent 2.00";
const terminated = (seconds: number): TaskEvent => taskRevoked({ ...at(seconds), terminated: true });
const expired = (seconds: number): TaskEvent => taskRevoked({ ...at(seconds), expired: true });
const revoked = (seconds: number): TaskEvent => taskRevoked(at(seconds));
const succeeded = (seconds: number, runtime: number): TaskEvent => taskSucceeded({ ...at(seconds), runtime });

/** Three messages that waited in a queue, and were run one after the other. */
function backlog(received: readonly number[]): TaskEvent[] {
  const sent = [0, 100, 200].map(sentAt);
  const runs = [300.5, 311.5, 322.5].flatMap((second) => [taskStarted(at(second)), succeeded(second + 10, 9.999)]);
  return [...sent, ...received.map((second) => taskReceived(at(second))), ...runs].toSorted((a, b) => a.timestamp - b.timestamp);
}
const BACKLOG = ["SUCCESS 10.00", "SUCCESS 10.00", "SUCCESS 10.00", "sent 122.50", "sent 211.50", "sent 300.50"];

/** @param emptyStore the Store, without any task. */
export function describeLooks(emptyStore: () => Promise<LookedAt>): void {
  async function inOneLook(events: readonly TaskEvent[]): Promise<Looker> {
    const looker = new Looker(await emptyStore());
    await looker.deliver(events, 0, Number.POSITIVE_INFINITY);
    return looker;
  }

  async function inManyLooks(batches: readonly (readonly TaskEvent[])[]): Promise<Looker> {
    const looker = new Looker(await emptyStore());
    for (const [index, batch] of batches.entries()) {
      await looker.deliver(batch, batch.at(-1)?.timestamp ?? 0, batches[index + 1]?.at(-1)?.timestamp ?? Number.POSITIVE_INFINITY);
    }
    return looker;
  }

  describe("the same is sent, looked at once or after each event,", () => {
    it.each<[string, TaskEvent[], string[]]>([
      ["of a copy that expired before it started, with no run", [sentAt(0), taskReceived(at(1)), expired(2)], ["REVOKED "]],
      ["of a task that was revoked when it was received", [sentAt(0), revoked(2)], ["REVOKED "]],
      [
        "of a copy that expired while the task ran",
        [...run, expired(3_600), succeeded(7_202, 7_200)],
        ["REVOKED ", "SUCCESS 7200.00", wait],
      ],
      ["of a late copy that expired", [...run, succeeded(7, 5), taskReceived(at(29)), expired(30)], ["REVOKED ", "SUCCESS 5.00", wait]],
      [
        "of a late copy that was revoked",
        [...run, taskFailed(at(7)), taskReceived(at(29)), revoked(30)],
        ["FAILURE 5.00", "REVOKED ", wait],
      ],
      ["of a termination that the task survived", [...run, terminated(10), succeeded(15, 13)], ["SUCCESS 13.00", wait]],
      ["of a termination that the task made a failure of", [...run, terminated(10), taskFailed(at(15))], ["FAILURE 13.00", wait]],
      [
        "of a termination that the task survived for long",
        [...run, terminated(10), succeeded(100, 98)],
        ["REVOKED ", "SUCCESS 98.00", wait],
      ],
      ["of a termination and its exit", [...run, terminated(10), taskFailed({ ...at(10.005), ...EXIT })], ["REVOKED ", wait]],
      ["of a termination and a long cleaning up", [...run, terminated(10), taskFailed({ ...at(25), ...EXIT })], ["REVOKED ", wait]],
      ["of a termination told twice", [...run, terminated(10), terminated(12)], ["REVOKED ", wait]],
      ["of a rejection that is a failure too", [...run, taskRejected(at(5)), taskFailed(at(5.002))], ["FAILURE 3.00", wait]],
      ["of a failure reported twice", [...run, taskFailed(at(5)), taskFailed(at(5.002))], ["FAILURE 3.00", wait]],
      [
        "of two runs at once on one worker that both fail",
        [taskReceived(at(1)), taskStarted(at(2)), taskReceived(at(3)), taskStarted(at(4)), taskFailed(at(10)), taskFailed(at(20))],
        ["FAILURE 18.00", "FAILURE 6.00", "received 1.00", "received 1.00"],
      ],
      [
        "of two runs at once on one worker that are both terminated",
        [...run, taskReceived(at(3)), taskStarted(at(4)), terminated(10), terminated(20)],
        ["REVOKED ", "REVOKED ", wait, "sent 4.00"],
      ],
      [
        "of a retry whose end comes before its start",
        [
          ...run,
          taskSent({ uuid: ID, timestamp: START + 100, retries: 1 }),
          taskFailed(at(110)),
          taskReceived({ ...at(101), retries: 1 }),
          taskStarted(at(102)),
        ],
        ["FAILURE 8.00", wait, "sent 2.00"],
      ],
      ["of a backlog of one id, received one by one", backlog([300.4, 311.4, 322.4]), BACKLOG],
      ["of a backlog of one id, received at once", backlog([300.1, 300.2, 300.3]), BACKLOG],
      ["of a backlog of one id, of which nothing was received", backlog([]), BACKLOG],
      ["of a backlog of one id, of which one was received", backlog([311.4]), BACKLOG],
      [
        "of a task that was redelivered, and later sent again",
        [
          ...run,
          taskReceived(at(100)),
          taskStarted(at(101)),
          succeeded(103, 2),
          sentAt(104),
          taskReceived(at(106)),
          taskStarted(at(109)),
          succeeded(110, 1),
        ],
        ["SUCCESS 1.00", "SUCCESS 2.00", "sent 101.00", wait, "sent 5.00"],
      ],
    ])("%s", async (_, events, expected) => {
      expect((await inOneLook(events)).told()).toEqual(expected.toSorted());
      expect((await inManyLooks(events.map((event) => [event]))).told()).toEqual(expected.toSorted());
    });
  });

  describe("what is sent of a task", () => {
    it("is what happened, whenever it is looked at, and nothing more when events come again", async () => {
      await fc.assert(
        fc.asyncProperty(told, async ({ history, batches }) => {
          const once = await inOneLook(history.events);
          expect(once.states()).toEqual([...history.ends].sort());
          const often = await inManyLooks(batches);
          expect(often.told()).toEqual(once.told());
          expect(often.labels()).toEqual(once.labels());
          for (const again of batches) await often.deliver(again, 0, Number.POSITIVE_INFINITY);
          expect(often.told()).toEqual(once.told());
        }),
        { numRuns: RUNS },
      );
    }, 120_000);

    it("ends in the state that the row shows, where a row can tell", async () => {
      await fc.assert(
        fc.asyncProperty(
          histories.filter(({ events }) => isComparable(events)),
          async ({ events }) => {
            expect((await inOneLook(events)).lastState).toBe(rowState(events));
          },
        ),
        { numRuns: RUNS },
      );
    }, 120_000);
  });
}
