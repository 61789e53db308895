import { unpack } from "msgpackr";
import { describe, expect, it } from "vitest";
import { isTaskEvent, type TaskEvent } from "../src/model/event.ts";
import { corpusNames, readCorpus, type CorpusFrame, type ExpectedRow } from "../src/testing/corpus.ts";

/** Numbers of frames, events and tasks that name themselves as their parent, counted by a program that shares no code with ours. */
const SIZES = {
  "celery-5.2-redis": { frames: 694, events: 879, selfParents: 88 },
  "celery-5.2-amqp": { frames: 649, events: 786, selfParents: 68 },
  "celery-5.6-redis": { frames: 574, events: 727, selfParents: 60 },
  "celery-5.6-amqp": { frames: 601, events: 767, selfParents: 50 },
  "celery-5.6-amqp-msgpack": { frames: 289, events: 343, selfParents: 14 },
  "celery-5.2-endings-redis": { frames: 97, events: 136, selfParents: 8 },
  "celery-5.6-endings-amqp": { frames: 86, events: 137, selfParents: 8 },
  "celery-5.2-threads-redis": { frames: 58, events: 86, selfParents: 8 },
  "celery-5.6-threads-redis": { frames: 57, events: 81, selfParents: 8 },
};

describe.each(corpusNames)("the recording %s", (name) => {
  const corpus = readCorpus(name);
  const taskEvents = corpus.events.filter((event) => isTaskEvent(event));

  it("decodes completely, without a reject", () => {
    expect(corpus.frames.flatMap((frame) => corpus.decode(frame).rejected)).toEqual([]);
    expect({ frames: corpus.frames.length, events: corpus.events.length }).toEqual({
      frames: SIZES[name].frames,
      events: SIZES[name].events,
    });
  });

  it("contains the same tasks as its expected rows", () => {
    expect(new Set(taskEvents.map(({ uuid }) => uuid))).toEqual(new Set(Object.keys(corpus.expected)));
  });

  it("contains the fields of the expected rows", () => {
    for (const [id, row] of Object.entries(corpus.expected)) {
      const events = taskEvents.filter(({ uuid }) => uuid === id);
      expect(row).toMatchObject(described(events));
      expect(succeeded(events)).toEqual(
        row.status === "SUCCESS" ? [{ result: row.result, runtime: row.runtime, finished_at: row.finished_at }] : [],
      );
    }
  });

  it("has no task that is its own parent, although its frames say so", () => {
    expect(
      corpus.frames.flatMap((frame) => rawEvents(frame)).filter((raw) => raw.parent_id === raw.uuid && raw.uuid !== undefined),
    ).toHaveLength(SIZES[name].selfParents);
    expect(taskEvents.filter((event) => "parent_id" in event && event.parent_id === event.uuid)).toEqual([]);
  });
});

/** The first `task-sent` as a part of the row, with the name and queue of the latest; nothing if there is none. */
function described(events: readonly TaskEvent[]): Partial<ExpectedRow> {
  const sent = events.filter((event) => event.type === "task-sent").sort((a, b) => a.timestamp - b.timestamp);
  const [first] = sent;
  if (first === undefined) return {};
  const { name = null, queue = null } = sent.at(-1) ?? first;
  const { args = null, kwargs = null, root_id = null, timestamp } = first;
  return { name, queue, args, kwargs, root_id, sent_at: timestamp };
}

function succeeded(events: readonly TaskEvent[]): unknown[] {
  return events.flatMap((event) =>
    event.type === "task-succeeded" ? [{ result: event.result, runtime: event.runtime, finished_at: event.timestamp }] : [],
  );
}

interface RawEvent {
  readonly uuid?: string;
  readonly parent_id?: string | null;
}

/** The events of a frame, without fields that we add. */
function rawEvents(frame: CorpusFrame): RawEvent[] {
  const body = frame.transport === "amqp" ? frame.body : Buffer.from((JSON.parse(frame.payload) as { body: string }).body, "base64");
  const isMsgpack = frame.transport === "amqp" && frame.properties.contentType === "application/x-msgpack";
  return [isMsgpack ? unpack(body) : JSON.parse(body.toString())].flat() as RawEvent[];
}
