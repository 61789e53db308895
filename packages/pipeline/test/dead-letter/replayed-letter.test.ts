import { decodeFrame } from "@celery-metrics-exporter/celery";
import { taskFailed, taskStarted } from "@celery-metrics-exporter/celery/testing";
import { describe, expect, it } from "vitest";
import { encodeBatch } from "../../src/queue/batch.ts";
import {
  type DeadLetter,
  FUTURE,
  RECEIVER,
  REDACTED,
  type StoredLetter,
  letterOf,
  lettersOfFuture,
  shorten,
} from "../../src/dead-letter/letter.ts";
import { encodeIds } from "../../src/queue/scheduled-ids.ts";
import { type Replayed, replayed as replayedIn } from "../../src/dead-letter/replayed-letter.ts";

const event = taskFailed({ traceback: "x".repeat(20_000) });
const refused = { source: "postgres", reason: "refused", detail: "check violation" };
const payload = { source: "datadog", reason: "payload", detail: "batch payload of unknown version 2" };

function replayed(letter: StoredLetter, exporters = ["datadog", "postgres"]): Replayed {
  return replayedIn(letter, { exporters, now: Date.now() / 1_000 });
}

/** The letter for a message whose body is a list of this one item. */
function received(item: unknown): DeadLetter {
  const [reject] = decodeFrame({ body: JSON.stringify([item]), contentType: "application/json" }).rejected;
  if (reject === undefined) throw new Error("not rejected");
  return letterOf(reject);
}

describe("a replayed letter", () => {
  it.each<[string, StoredLetter, unknown]>([
    ["of an exporter is its event again, whole", shorten({ ...refused, event }), { to: "exporter", exporter: "postgres", event }],
    [
      "of an event that was too long to be kept stays",
      shorten({ ...refused, event: taskFailed({ traceback: "x".repeat(40_000) }) }),
      { to: "nobody", because: "cut: only a part was kept" },
    ],
    [
      "of an id to process is that id",
      { ...refused, source: "datadog", raw: "task-1", readAs: "id to process" },
      { to: "process", exporter: "datadog", id: "task-1" },
    ],
    [
      "of an id to process that the exporter has marked is the same",
      { ...refused, source: "datadog", raw: "\0task-1", readAs: "id to process" },
      { to: "process", exporter: "datadog", id: "\0task-1" },
    ],
    [
      "of an id to forget is that id",
      { ...refused, raw: "task-1", readAs: "id to forget" },
      { to: "forget", exporter: "postgres", id: "task-1" },
    ],
    [
      "of the receiver that can be decoded now is its events, and the rejects among them",
      { source: RECEIVER, reason: "content_type", raw: JSON.stringify([taskStarted(), 5]), readAs: { contentType: "application/json" } },
      { to: "every exporter", events: [taskStarted()], rejected: [expect.objectContaining({ reason: "not_an_event" })] },
    ],
    ["of the receiver that cannot be decoded still stays", received({ type: "task-started" }), { to: "nobody", because: "rejected again" }],
    [
      "of the receiver that was too long to be kept stays",
      received({ type: "task-started", x: "x".repeat(5_000) }),
      { to: "nobody", because: "cut: only a part was kept" },
    ],
    [
      "of the receiver of which redaction kept nothing stays, and is not called cut",
      { ...letterOf({ reason: "body", detail: "", raw: REDACTED, count: 1 }) },
      { to: "nobody", because: "redacted: nothing was kept" },
    ],
    [
      "of a message that is the word [redacted] is decoded",
      { source: RECEIVER, reason: "body", raw: REDACTED, readAs: { contentType: "application/json" } },
      { to: "nobody", because: "rejected again" },
    ],
    [
      "of an event from the future that is none any more goes to every exporter",
      { source: RECEIVER, reason: FUTURE, detail: "", event },
      { to: "every exporter", events: [event], rejected: [], wasDecoded: true },
    ],
    [
      "of an event from the future that is still one stays",
      { source: RECEIVER, reason: FUTURE, detail: "", event: taskStarted({ timestamp: 3_999_999_999 }) },
      { to: "nobody", because: "more than a day ahead of this host's clock" },
    ],
    [
      "of a message that can be decoded now and is from the future stays",
      {
        source: RECEIVER,
        reason: "content_type",
        raw: JSON.stringify(taskStarted({ timestamp: 3_999_999_999 })),
        readAs: { contentType: "application/json" },
      },
      { to: "nobody", because: "more than a day ahead of this host's clock" },
    ],
    [
      "of a payload of events goes to the events' queue",
      { ...payload, payload: encodeBatch({ broker: "redis", events: [event] }) },
      { to: "queue", queueName: "datadog", jobName: "batch", payload: encodeBatch({ broker: "redis", events: [event] }) },
    ],
    [
      "of a payload of ids goes to the processing queue",
      { ...payload, payload: encodeIds(["task-1"]) },
      { to: "queue", queueName: "datadog-processing", jobName: "ids", payload: encodeIds(["task-1"]) },
    ],
    [
      "of a payload that is unknown still stays",
      { ...payload, payload: { v: 9 } },
      { to: "nobody", because: "payload of an unknown version" },
    ],
    ["of an exporter that is gone stays", { ...refused, source: "promtail", event }, { to: "nobody", because: "of an unknown exporter" }],
    ...[null, "x", 5, [], {}, { type: "task-failed" }, { ...taskFailed(), uuid: 5 }, { ...taskFailed(), exception: {} }].map(
      (stored): [string, StoredLetter, unknown] => [
        `of ${JSON.stringify(stored).slice(0, 60)} in place of an event stays`,
        { ...refused, event: stored },
        { to: "nobody", because: stored === null ? "not a valid dead letter" : "not an event in the format of this release" },
      ],
    ),
    ...[
      { source: RECEIVER, raw: 5, readAs: "body" },
      { source: RECEIVER, raw: "{}", readAs: "body" },
      { source: RECEIVER, raw: {}, readAs: { contentType: "application/json" } },
      { source: RECEIVER, raw: "task-1", readAs: "id to forget" },
      { source: RECEIVER, payload: encodeIds(["task-1"]) },
      { source: "datadog", raw: { a: 1 }, readAs: "id to process" },
      { source: "datadog", raw: "", readAs: "id to process" },
      { source: "postgres", raw: "", readAs: "id to forget" },
      { source: "postgres", raw: "{}", readAs: "event" },
    ].map((stored): [string, StoredLetter, unknown] => [
      `that is ${JSON.stringify(stored)} stays`,
      stored,
      { to: "nobody", because: "not a valid dead letter" },
    ]),
    ["of a source that is no name stays", { source: { a: 1 }, event }, { to: "nobody", because: "of an unknown exporter" }],
    ["that is none stays", { source: RECEIVER }, { to: "nobody", because: "not a valid dead letter" }],
    ["that is nothing stays", {}, { to: "nobody", because: "of an unknown exporter" }],
  ])("%s", (_given, letter, expected) => {
    expect(replayed(JSON.parse(JSON.stringify(letter)) as StoredLetter)).toEqual(expected);
  });

  it("of an exporter that is not in use stays: its queue may have no reader", () => {
    const letter = { ...refused, source: "datadog", event };
    expect(replayed(letter, ["postgres"])).toEqual({ to: "nobody", because: "of an exporter that EXPORTERS does not list" });
    expect(replayed(letter, ["datadog"])).toMatchObject({ to: "exporter" });
  });

  it("exists for each of the first hundred future events of a batch, and once for the others, which stays", () => {
    const events = Array.from({ length: 250 }, (_, index) => taskStarted({ uuid: String(index) }));
    const all = lettersOfFuture(events);
    expect(all.slice(0, 100).map((letter) => letter.event)).toEqual(events.slice(0, 100));
    expect(all.slice(100)).toMatchObject([{ event: events[100], detail: expect.stringContaining("(150 alike)") as string }]);
    expect(replayed(all[100] ?? {})).toEqual({ to: "nobody", because: "cut: only a part was kept" });
    expect(lettersOfFuture(events.slice(0, 101)).map((letter) => replayed({ ...letter }).to)).toEqual(Array(101).fill("every exporter"));
  });

  it("stays if it represents several inputs that are alike", () => {
    const { rejected } = decodeFrame({ body: JSON.stringify(Array.from({ length: 103 }, () => 5)), contentType: "application/json" });
    const last = rejected.map(letterOf).at(-1) ?? {};
    expect(last).toMatchObject({ detail: expect.stringContaining("(3 alike)") as string });
    expect(replayed(last)).toEqual({ to: "nobody", because: "cut: only a part was kept" });
  });
});
