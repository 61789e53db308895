/** Which facts the entry of a task with very many attempts loses. `many-attempts.test.ts` does the same with the Store. */
import { toMicroseconds, type TaskEvent } from "@celery-metrics-exporter/celery";
import { taskReceived, taskSent, taskStarted, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { describe, expect, it } from "vitest";
import { LONG_FIELDS, NOTHING_TO_FORGET, isLong, type Forgotten } from "../../src/completions/forget.ts";
import { summarise } from "../../src/completions/summarise.ts";
import { hostnameHash } from "../../src/facts/encoding.ts";
import { factOf } from "../../src/facts/fact.ts";
import { parseTaskEntry, type TaskEntry } from "../../src/facts/task-entry.ts";
import { entryOf } from "../summary-of.ts";

const START = 1_795_328_900;
const HOSTNAME = hostnameHash(taskStarted().hostname);
const KEPT = 512;
const KEPT_STARTS = 256;
const KEPT_UNUSED = 4_096;

const upTo = (count: number): number[] => Array.from({ length: count }, (_, number) => number);
const at = (seconds: number): { timestamp: number } => ({ timestamp: START + seconds });
const instant = (seconds: number): string => toMicroseconds(START + seconds).toString(36);
const factsOf = (events: readonly TaskEvent[]): string[] => events.map((event) => factOf(event) ?? "").sort();
const sorted = ({ fields }: Forgotten): string[] => [...fields].sort();
const untilOf = ({ until }: Forgotten): Map<string, string> =>
  new Map(upTo(until.length / 2).map((index) => [until[2 * index] ?? "", until[2 * index + 1] ?? ""]));

/** It waits 250 ms, and runs as long where it ends. */
function attempt(number: number, retries: number, name = "app.poll"): TaskEvent[] {
  const message = { name, retries };
  return [
    taskSent({ ...at(number), ...message }),
    taskReceived({ ...at(number + 0.125), ...message }),
    taskStarted({ ...at(number + 0.25) }),
  ];
}
const end = (number: number): TaskEvent => taskSucceeded({ ...at(number + 0.5), runtime: 0.25 });
const life = (number: number, name?: string): TaskEvent[] => [...attempt(number, 0, name), end(number)];

describe("a task with very many attempts", () => {
  it("is long from a size on", () => {
    expect([LONG_FIELDS - 1, LONG_FIELDS].map((size) => isLong({ size } as TaskEntry))).toEqual([false, true]);
  });

  it("forgets nothing before it is long", () => {
    expect(summarise(entryOf(upTo(700).flatMap((number) => life(number)))).forgotten).toBe(NOTHING_TO_FORGET);
  });

  it("forgets all attempts but the latest, and until when", () => {
    const { forgotten, completions } = summarise(entryOf(upTo(1_000).flatMap((number) => life(number))));
    expect(completions).toHaveLength(1_000);
    expect(sorted(forgotten)).toEqual(factsOf(upTo(1_000 - KEPT).flatMap((number) => life(number))));
    expect(untilOf(forgotten)).toEqual(
      new Map([
        [HOSTNAME, instant(999 - KEPT + 0.5)],
        ["", instant(999 - KEPT)],
      ]),
    );
    expect(forgotten.unused).toBe(0);
  });

  it("forgets an attempt only once it is sent: the latest starts wait for their end", () => {
    const { forgotten, fields } = summarise(entryOf(upTo(1_100).flatMap((number) => attempt(number, number))));
    const sent = 1_100 - KEPT_STARTS;
    expect([...fields].sort()).toEqual(factsOf(upTo(sent).flatMap((number) => attempt(number, number).slice(2))));
    expect(sorted(forgotten)).toEqual(factsOf(upTo(sent - KEPT).flatMap((number) => attempt(number, number))));
    expect(untilOf(forgotten).get(HOSTNAME)).toBe(instant(sent - KEPT - 1 + 0.25));
  });

  it("forgets what was sent before, too", () => {
    const sent = upTo(900).flatMap((number) => life(number));
    const { forgotten, completions } = summarise(entryOf(life(900), sent));
    expect(completions).toHaveLength(1);
    expect(sorted(forgotten)).toEqual(factsOf(upTo(901 - KEPT).flatMap((number) => life(number))));
  });

  it("keeps the attempts that ended last, not those that started last", () => {
    const long = [...attempt(-1, 0), taskSucceeded({ ...at(2_000), runtime: 2_000.75 })];
    const others = upTo(1_000).flatMap((number) => life(number));
    const { forgotten } = summarise(entryOf([...long, ...others]));
    expect(sorted(forgotten)).toEqual(factsOf(upTo(1_001 - KEPT).flatMap((number) => life(number))));
  });

  it("keeps the message of an attempt that is forgotten where one that is kept has it too", () => {
    const [sent, ...first] = life(0, "app.copied") as [TaskEvent, ...TaskEvent[]];
    const others = upTo(1_000).flatMap((number) => life(number + 10));
    const [, ...again] = life(2_000, "app.copied");
    const { forgotten } = summarise(entryOf([sent, ...first, ...others, ...again]));
    expect(sorted(forgotten)).toEqual(factsOf([...first, ...upTo(1_001 - KEPT).flatMap((number) => life(number + 10))]));
  });

  it("forgets ends that have no start", () => {
    const ends = upTo(LONG_FIELDS).map((number) => end(number));
    const { forgotten } = summarise(entryOf(ends));
    expect(sorted(forgotten)).toEqual(factsOf(ends.slice(0, -KEPT)));
    expect(untilOf(forgotten)).toEqual(new Map([[HOSTNAME, instant(LONG_FIELDS - KEPT - 0.5)]]));
  });

  it("forgets the oldest messages that nothing has used, and counts them", () => {
    const sent = upTo(KEPT_UNUSED + 4).map((number) => taskSent({ ...at(number), name: "app.sent" }));
    const received = upTo(KEPT_UNUSED + 100).map((number) => taskReceived({ ...at(number), name: "app.received", retries: 1 }));
    const { forgotten } = summarise(entryOf([...sent, ...received].toReversed()));
    expect(sorted(forgotten)).toEqual(factsOf([...sent.slice(0, 4), ...received.slice(0, 100)]));
    expect(untilOf(forgotten)).toEqual(
      new Map([
        ["", instant(3)],
        [HOSTNAME, instant(99)],
      ]),
    );
    expect(forgotten.unused).toBe(104);
    expect(summarise(entryOf([...sent.slice(4), ...received.slice(100)])).forgotten).toEqual(NOTHING_TO_FORGET);
  });

  it("gives up the oldest starts of which no message is known, and counts them unless the task has ended", () => {
    const started = upTo(KEPT_UNUSED + KEPT_STARTS + 600).map((number) => taskStarted(at(number)));
    const going = summarise(entryOf(started));
    expect([...going.fields].sort()).toEqual(factsOf(started.slice(0, 600)));
    expect(sorted(going.forgotten)).toEqual(factsOf(started.slice(0, 600 - KEPT)));
    expect(going).toMatchObject({ waits: [], lacks: undefined, forgotten: { unused: 600 } });
    const ended = summarise(entryOf([...started, taskSucceeded({ ...at(9_000), runtime: 1 })]));
    expect(ended.fields).toHaveLength(started.length + 1);
    expect(ended).toMatchObject({ lacks: "name", forgotten: { unused: 0 } });
  });

  it("forgets the hostnames that ended longest ago, beyond 512", () => {
    const hash = upTo(600).flatMap((number) => [`wpod${number}`, ((number * 7) % 600).toString(36)]);
    const facts = upTo(1_000).flatMap((number) => factsOf(life(number)).flatMap((field) => [field, ""]));
    const { forgotten } = summarise(parseTaskEntry([...hash, `w${HOSTNAME}`, "0", ...facts]));
    const hostnames = forgotten.fields.filter((field) => field.startsWith("w"));
    // The task's hostname and all clients are kept too.
    const expected = upTo(600).filter((number) => (number * 7) % 600 < 600 + 2 - 512);
    expect(hostnames.sort()).toEqual(expected.map((number) => `wpod${number}`).sort());
    const few = summarise(parseTaskEntry([...hash.slice(0, 2 * 510), ...facts])).forgotten.fields;
    expect(few.filter((field) => field.startsWith("w"))).toEqual([]);
    const many = summarise(parseTaskEntry([...hash.slice(0, 2 * 511), ...facts])).forgotten.fields;
    expect(many.filter((field) => field.startsWith("w"))).toEqual(["wpod0"]);
  });
});
