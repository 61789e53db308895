import { describe, expect, it } from "vitest";
import { TASK_EVENT_TYPES } from "../../src/model/event.ts";
import { MAX_TIMESTAMP } from "../../src/model/time.ts";
import { Reject, normalise } from "../../src/model/normalise.ts";

const base = { hostname: "w1@host-a", timestamp: 1_795_328_900.25, uuid: "task-1", pid: 12, clock: 3, utcoffset: -6 };
const kept = { hostname: "w1@host-a", timestamp: 1_795_328_900.25, uuid: "task-1" };

/** As kombu 5.3 writes `uuid.UUID`. */
const uuidObject = { __type__: "uuid", __value__: { hex: "3ce907e3796a4b5197cf7cef1b946f91", version: 4 } };

/** The event of type `type` with one field. */
function normaliseWith(type: string, field: string, value: unknown): unknown {
  const event = normalise({ ...base, type, [field]: value });
  if (event instanceof Reject) throw new Error(event.detail);
  return event[field as keyof typeof event];
}

describe("the fields of each type", () => {
  const sent = {
    name: "shop.pay",
    args: "(1,)",
    kwargs: "{}",
    root_id: "root",
    parent_id: "parent",
    retries: 2,
    eta: "2026-11-22T08:00:00.5+00:00",
    expires: "2026-11-22T09:00:00+00:00",
  };
  const described = { ...sent, eta: 1_795_334_400.5, expires: 1_795_338_000 };
  const failure = { exception: "ValueError('x')", traceback: "Traceback…" };
  const extra = { exchange: "", routing_key: "celery", loadavg: [1, 2, 3], unknown: true, __proto__x: 1 };

  it.each([
    ["task-sent", { ...sent, queue: "celery" }, { ...described, queue: "celery" }],
    ["task-sent", { ...sent, again: true, excluded: true }, described],
    ["task-received", { ...sent, queue: "not a field of this type" }, described],
    ["task-started", sent, {}],
    ["task-succeeded", { result: "3", runtime: 0.5, exception: "no" }, { result: "3", runtime: 0.5 }],
    ["task-failed", { ...failure, runtime: 3 }, failure],
    ["task-failed", { exception: "SystemExit(-241)", exited: "not from the wire" }, { exception: "SystemExit(-241)", exited: true }],
    ["task-failed", { ...failure, exited: true }, failure],
    ["task-retried", failure, failure],
    ["task-revoked", { terminated: true, expired: false, signum: 15 }, { terminated: true, expired: false, signum: "15" }],
    ["task-rejected", { requeue: true }, { requeue: true }],
    ["task-cancelled", failure, {}],
    ["task-progress", { ...sent, percent: 50 }, {}],
  ])("%s has its own fields and no others", (type, fields, expected) => {
    expect(normalise({ ...base, ...fields, ...extra, type })).toEqual({ type, ...kept, ...expected });
  });

  const worker = { ...base, freq: 2, active: 0, processed: 12, sw_ident: "py-celery", sw_ver: "5.6.3", sw_sys: "Linux" };

  it.each(["worker-online", "worker-heartbeat", "worker-offline"])("%s has its own fields and no others", (type) => {
    expect(normalise({ ...worker, type, ...extra })).toEqual({
      type,
      hostname: base.hostname,
      timestamp: base.timestamp,
      freq: 2,
      active: 0,
      processed: 12,
      pid: 12,
      loadavg: [1, 2, 3],
      sw_ident: "py-celery",
      sw_ver: "5.6.3",
      sw_sys: "Linux",
    });
  });

  it("a heartbeat that answers a broadcast has no figures", () => {
    expect(normalise({ hostname: base.hostname, timestamp: base.timestamp, type: "worker-heartbeat", pid: 12, clock: 3, freq: 5 })).toEqual(
      {
        type: "worker-heartbeat",
        hostname: base.hostname,
        timestamp: base.timestamp,
        freq: 5,
        pid: 12,
      },
    );
  });

  it.each(["task-sent", "task-received", "task-succeeded", "task-failed", "task-retried", "task-revoked", "task-rejected"])(
    "%s drops null fields",
    (type) => {
      const fields = [
        ...Object.keys(sent),
        "queue",
        "result",
        "runtime",
        "exception",
        "traceback",
        "terminated",
        "expired",
        "signum",
        "requeue",
      ];
      const nulls = Object.fromEntries(fields.map((field) => [field, null]));
      expect(Object.keys(normalise({ ...base, ...nulls, type })).sort()).toEqual(["hostname", "timestamp", "type", "uuid"]);
    },
  );

  it("a worker's event has no fields that are absent", () => {
    const { uuid: _uuid, ...rest } = kept;
    expect(normalise({ ...base, type: "worker-online", freq: null })).toStrictEqual({ ...rest, pid: base.pid, type: "worker-online" });
  });

  it.each(["worker-elect", "worker-elect-ack", "custom", "a/b.c:d-é"])("keeps %s as an event without a task", (type) => {
    expect(normalise({ ...base, type })).toEqual({ type, ...kept });
    expect(normalise({ ...base, type, uuid: [5] })).toStrictEqual({ type, hostname: kept.hostname, timestamp: kept.timestamp });
  });
});

describe("an event is rejected", () => {
  it.each([
    ["not_an_event", null],
    ["not_an_event", undefined],
    ["not_an_event", 1],
    ["not_an_event", "task-started"],
    ["not_an_event", true],
    ["not_an_event", []],
    ["not_an_event", [{ ...base, type: "task-started" }]],
    ["type", {}],
    ["type", { ...base }],
    ["type", { ...base, type: null }],
    ["type", { ...base, type: 5 }],
    ["type", { ...base, type: "" }],
    ["type", { ...base, type: "two words" }],
    ["type", { ...base, type: "line\nbreak" }],
    ["type", { ...base, type: "nul\0" }],
    ["type", { ...base, type: "lone\uD800" }],
    ["type", { ...base, type: "x".repeat(129) }],
    ["type", { ...base, type: ["task-started"] }],
    ["timestamp", { ...base, type: "task-started", timestamp: undefined }],
    ["timestamp", { ...base, type: "task-started", timestamp: null }],
    ["timestamp", { ...base, type: "task-started", timestamp: "1795328900" }],
    ["timestamp", { ...base, type: "task-started", timestamp: Number.NaN }],
    ["timestamp", { ...base, type: "task-started", timestamp: Infinity }],
    ["timestamp", { ...base, type: "task-started", timestamp: -1 }],
    ["timestamp", { ...base, type: "task-started", timestamp: MAX_TIMESTAMP + 1 }],
    ["timestamp", { ...base, type: "task-started", timestamp: 1_795_328_900_250 }],
    ["timestamp", { ...base, type: "worker-heartbeat", timestamp: null }],
    ["timestamp", { ...base, type: "custom", timestamp: null }],
    ["uuid", { ...base, type: "task-started", uuid: undefined }],
    ["uuid", { ...base, type: "task-started", uuid: null }],
    ["uuid", { ...base, type: "task-started", uuid: "" }],
    ["uuid", { ...base, type: "task-started", uuid: 7.5 }],
    ["uuid", { ...base, type: "task-started", uuid: 2 ** 53 }],
    ["uuid", { ...base, type: "task-started", uuid: true }],
    ["uuid", { ...base, type: "task-started", uuid: ["a"] }],
    ["uuid", { ...base, type: "task-started", uuid: {} }],
    ["uuid", { ...base, type: "task-started", uuid: "a\0b" }],
    ["uuid", { ...base, type: "task-started", uuid: "x".repeat(513) }],
    ["uuid", { ...base, type: "task-started", uuid: { __type__: "uuid", __value__: { hex: "short" } } }],
    ["uuid", { ...base, type: "task-started", uuid: { __type__: "uuid", __value__: { hex: `0${uuidObject.__value__.hex}` } } }],
    ["uuid", { ...base, type: "task-started", uuid: { __type__: "uuid", __value__: { hex: `${uuidObject.__value__.hex}0` } } }],
    ["uuid", { ...base, type: "task-started", uuid: { __type__: "uuid", __value__: { hex: [uuidObject.__value__.hex] } } }],
  ])("%s: %o", (reason, value) => {
    expect(normalise(value)).toMatchObject({ reason });
    expect(normalise(value)).toBeInstanceOf(Reject);
  });

  it.each(TASK_EVENT_TYPES)("%s without a task", (type) => {
    expect(normalise({ ...base, type, uuid: undefined })).toMatchObject({ reason: "uuid" });
  });

  it.each([0, 1, MAX_TIMESTAMP])("but not for the timestamp %d", (timestamp) => {
    expect(normalise({ ...base, type: "task-started", timestamp })).toEqual({ type: "task-started", ...kept, timestamp });
  });

  it("but not for a task id of 512 characters that is not a UUID", () => {
    expect(normaliseWith("task-started", "uuid", "é".repeat(512))).toBe("é".repeat(512));
  });
});

describe("single fields", () => {
  it.each([
    ["utcoffset never shifts the timestamp", "task-started", "timestamp", 1_795_328_900.25, 1_795_328_900.25],
    ["a missing hostname is unknown", "task-started", "hostname", undefined, "unknown"],
    ["an empty hostname is unknown", "task-started", "hostname", "", "unknown"],
    ["a hostname that is an object is unknown", "task-started", "hostname", {}, "unknown"],
    ["a task that is its own parent has none", "task-sent", "parent_id", "task-1", undefined],
    ["a parent is kept", "task-sent", "parent_id", "task-2", "task-2"],
    ["an empty parent is none", "task-sent", "parent_id", "", undefined],
    ["a parent id that is too long is dropped, not cut", "task-sent", "parent_id", "x".repeat(513), undefined],
    ["a UUID object of kombu 5.3", "task-sent", "root_id", uuidObject, "3ce907e3-796a-4b51-97cf-7cef1b946f91"],
    ["a whole number as the task's id", "task-sent", "uuid", 12_345, "12345"],
    ["a whole number", "task-sent", "parent_id", -7, "-7"],
    ["a UUID object as the task's id", "task-sent", "uuid", uuidObject, "3ce907e3-796a-4b51-97cf-7cef1b946f91"],
    ["an empty name is none", "task-sent", "name", "", undefined],
    ["names are cut at 512 characters", "task-sent", "name", "n".repeat(600), "n".repeat(512)],
    ["queues are cut at 512 characters", "task-sent", "queue", "q".repeat(600), "q".repeat(512)],
    ["an empty text is kept", "task-succeeded", "result", "", ""],
    ["text of 65,536 characters is kept", "task-failed", "traceback", "t".repeat(65_536), "t".repeat(65_536)],
    ["longer text is cut", "task-failed", "traceback", "t".repeat(65_537), "t".repeat(65_536)],
    ["a cut splits no character", "task-failed", "traceback", `${"t".repeat(65_535)}😀`, "t".repeat(65_535)],
    ["NULs are removed", "task-failed", "exception", "a\0b\0", "ab"],
    ["NULs are removed from names", "task-sent", "name", "a\0b", "ab"],
    ["NULs do not count towards the limit", "task-failed", "traceback", `${"\0".repeat(10)}${"t".repeat(65_536)}`, "t".repeat(65_536)],
    ["lone surrogates become U+FFFD", "task-failed", "exception", "a\uD800b\uDC00", "a\uFFFDb\uFFFD"],
    ["pairs of surrogates are kept", "task-failed", "exception", "😀", "😀"],
    ["a number as text", "task-succeeded", "result", 3, "3"],
    ["a boolean as text", "task-succeeded", "result", true, "true"],
    ["a list is not text", "task-succeeded", "result", [1], undefined],
    ["an object is not text", "task-succeeded", "result", { a: 1 }, undefined],
    ["wrapped bytes are text", "task-succeeded", "result", { __type__: "bytes", __value__: "ab" }, "ab"],
    ["retries must be whole", "task-sent", "retries", 1.5, undefined],
    ["retries must not be negative", "task-sent", "retries", -1, undefined],
    ["retries must fit Postgres' integer", "task-sent", "retries", 2_147_483_648, undefined],
    ["retries of Postgres' greatest integer", "task-sent", "retries", 2_147_483_647, 2_147_483_647],
    ["retries must be a number", "task-sent", "retries", "3", undefined],
    ["a runtime of 0 counts", "task-succeeded", "runtime", 0, 0],
    ["a runtime must not be negative", "task-succeeded", "runtime", -0.1, undefined],
    ["a runtime may be long", "task-succeeded", "runtime", MAX_TIMESTAMP, MAX_TIMESTAMP],
    ["a runtime must not be so long that sums overflow", "task-succeeded", "runtime", 1e308, undefined],
    ["a runtime must be finite", "task-succeeded", "runtime", Infinity, undefined],
    ["a runtime must be a number", "task-succeeded", "runtime", "1", undefined],
    ["terminated must be a boolean", "task-revoked", "terminated", 1, undefined],
    ["signum as an int", "task-revoked", "signum", 15, "15"],
    ["signum as a string", "task-revoked", "signum", "SIGKILL", "SIGKILL"],
    ["an ETA with an offset", "task-sent", "eta", "2026-11-22T13:30:00.000001+05:30", 1_795_334_400.000001],
    ["an ETA without an offset is UTC", "task-sent", "eta", "2026-11-22T08:00:00", 1_795_334_400],
    [
      "a wrapped datetime of kombu 5.3",
      "task-sent",
      "eta",
      { __type__: "datetime", __value__: "2026-11-22T08:00:00+00:00" },
      1_795_334_400,
    ],
    ["an ETA out of range", "task-sent", "eta", "9999-12-31T23:59:59+00:00", undefined],
    ["an ETA that is a number, because it may be relative", "task-sent", "eta", 60, undefined],
    ["expires that is a number, because it may be relative", "task-sent", "expires", 60, undefined],
    ["an ETA in a list", "task-sent", "eta", ["2026-11-22T08:00:00"], undefined],
    ["expires that is not a time", "task-sent", "expires", "soon", undefined],
    ["a pid must be whole", "worker-online", "pid", 1.5, undefined],
    ["a pid must be a number", "worker-online", "pid", "12", undefined],
    ["a pid must not be negative", "worker-online", "pid", -1, undefined],
    ["a pid of 32 bits", "worker-online", "pid", 4_294_967_295, undefined],
    ["a load of one number", "worker-heartbeat", "loadavg", [0.25], [0.25]],
    ["no load at all", "worker-heartbeat", "loadavg", [0, 0, 0], [0, 0, 0]],
    ["an empty load is none", "worker-heartbeat", "loadavg", [], undefined],
    ["a load of four numbers", "worker-heartbeat", "loadavg", [1, 2, 3, 4], undefined],
    ["a load that is a number", "worker-heartbeat", "loadavg", 1.5, undefined],
    ["a load that is a text", "worker-heartbeat", "loadavg", "1.5", undefined],
    ["a load that is an object", "worker-heartbeat", "loadavg", { length: 1, 0: 1 }, undefined],
    ["a load with a text in it", "worker-heartbeat", "loadavg", [1, "2", 3], undefined],
    ["a load with nothing in it", "worker-heartbeat", "loadavg", [1, null, 3], undefined],
    ["a load with a list in it", "worker-heartbeat", "loadavg", [[1], 2, 3], undefined],
    ["a load that is negative", "worker-heartbeat", "loadavg", [1, -0.5, 3], undefined],
    ["a load that is not finite", "worker-heartbeat", "loadavg", [1, Infinity, 3], undefined],
    ["a load that is not a number", "worker-heartbeat", "loadavg", [Number.NaN], undefined],
    ["software's texts are cut", "worker-online", "sw_ident", "s".repeat(600), "s".repeat(512)],
    ["software's texts lose NULs", "worker-online", "sw_ver", "5.6\0", "5.6"],
    ["an empty version is none", "worker-online", "sw_ver", "", undefined],
    ["a system that is a list", "worker-online", "sw_sys", ["Linux"], undefined],
    ["expires as a wrapper of nothing", "task-sent", "expires", { __type__: "datetime", __value__: null }, undefined],
  ])("%s", (...[, type, field, value, expected]) => {
    expect(normaliseWith(type, field, value)).toEqual(expected);
  });

  it.each(["task-sent", "task-received"])("marks a %s whose task is its own parent as sent by the task itself", (type) => {
    expect(normalise({ ...base, type, parent_id: base.uuid })).toMatchObject({ again: true });
    expect(normalise({ ...base, type, parent_id: "task-2" })).not.toHaveProperty("again");
  });

  it.each([undefined, null, 5, ["Traceback"]])("keeps billiard's wrapper if the traceback is %o", (traceback) => {
    const exception = "ExceptionWithTraceback()";
    expect(normalise({ ...base, type: "task-failed", exception, traceback })).toMatchObject({ exception });
  });

  it("copies a load, so that it keeps nothing of the message in memory, nor anything else that a list can have", () => {
    const loadavg = Object.assign([1, 2], { extra: "x" });
    const event = normalise({ ...base, type: "worker-heartbeat", loadavg }) as { loadavg?: unknown };
    expect(event.loadavg).not.toBe(loadavg);
    expect(event.loadavg).toStrictEqual([1, 2]);
  });

  it("reads no field from the prototype", () => {
    const raw: unknown = JSON.parse('{"__proto__": {"type": "task-started", "uuid": "a", "timestamp": 1}}');
    expect(normalise(raw)).toMatchObject({ reason: "type" });
  });
});
