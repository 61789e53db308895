import { PermanentError } from "@celery-metrics-exporter/runtime";
import { describe, expect, it } from "vitest";
import { NewerPayloadError } from "../../src/contract/errors.ts";
import { begunBefore, decodeIds, encodeIds, idsIn } from "../../src/queue/scheduled-ids.ts";

describe("the payload of a list of ids", () => {
  it("gives back the ids, and the jobs that were begun before", () => {
    const payload = encodeIds(["a", "b"], ["job"]);
    expect(payload).toEqual({ v: 1, ids: ["a", "b"], begun: ["job"] });
    expect(decodeIds(payload)).toEqual(["a", "b"]);
    expect(begunBefore(payload)).toEqual(["job"]);
  });

  it("says nothing of jobs where none was begun", () => {
    expect(encodeIds(["a"])).toEqual({ v: 1, ids: ["a"] });
    expect(begunBefore(encodeIds(["a"]))).toEqual([]);
  });

  it.each([[null], [undefined], ["begun"], [{ begun: "job" }], [{ begun: null }], [{ begun: [1, null] }]])(
    "names no jobs where it cannot be read: %j",
    (payload) => {
      expect(begunBefore(payload)).toEqual([]);
    },
  );

  it("leaves out jobs that have no name", () => {
    expect(begunBefore({ begun: ["job", 1] })).toEqual(["job"]);
  });

  it("says of a newer version that it is newer", () => {
    expect(() => decodeIds({ v: 2, ids: ["a"] })).toThrow(NewerPayloadError);
    expect(() => decodeIds({ v: 2, ids: ["a"] })).toThrow("a list of ids");
  });

  it.each([
    ["null", null, "ids payload of unknown version (none)"],
    ["a text", "ids", "ids payload of unknown version (none)"],
    ["no version", { ids: ["a"] }, "ids payload of unknown version (none)"],
    ["an older version", { v: 0, ids: ["a"] }, "ids payload of unknown version 0"],
    ["a version that is no number", { v: "2", ids: ["a"] }, 'ids payload of unknown version "2"'],
    ["no ids", { v: 1 }, "ids payload is malformed"],
    ["ids that are no list", { v: 1, ids: "a" }, "ids payload is malformed"],
    ["an id that is a number", { v: 1, ids: ["a", 1] }, "ids payload is malformed"],
  ])("refuses %s", (_, payload, message) => {
    expect(() => decodeIds(payload)).toThrow(new PermanentError(message));
  });

  it("tells the number of ids as Redis holds it, and 1 where it cannot be read", () => {
    expect(idsIn(JSON.stringify(encodeIds(["a", "b", "c"])))).toBe(3);
    expect(idsIn("{")).toBe(1);
    expect(idsIn("{}")).toBe(1);
  });
});
