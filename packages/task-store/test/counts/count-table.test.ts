import { scaled } from "@celery-metrics-exporter/testkit";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CountTable, type Counts, type GaugeCount } from "../../src/counts/count-table.ts";
import type { ShardCounts } from "../../src/counts/task-counts.ts";

const all = (): boolean => true;

function write(fields: Readonly<Record<string, number | string>>): string {
  return Object.entries(fields).flat().join(" ");
}

function shard(counts: Readonly<Record<string, number | string>>, floors: Readonly<Record<string, number>> = {}): ShardCounts {
  return { counts: write(counts), floors: write(floors) };
}

function toRecord(list: readonly GaugeCount[]): Record<string, number> {
  return Object.fromEntries(list.map(({ set, code, count }) => [`${set}.${code}`, count]));
}

/** By field, without what is 0. */
function shown({ codes, bySet, gauges }: Counts): Record<string, number> {
  const fields: Record<string, number> = {};
  for (const [set, counts] of bySet) {
    for (const [code, number] of codes) if (counts.get(number) !== 0) fields[`${set}.${code}`] = counts.get(number);
  }
  for (const { set, code, count } of gauges) fields[`${set}.${code}`] = count;
  return fields;
}

describe("CountTable", () => {
  it("adds up the shards", () => {
    const table = new CountTable();
    expect(shown(table.read([shard({ "a.s": 1, "a.S": 2 }), shard({ "a.S": 3, "b.s": 4 })], all))).toEqual({
      "a.s": 1,
      "a.S": 5,
      "b.s": 4,
    });
  });

  it("shows the floor of a field until its count has reached it, also if it has no count", () => {
    const table = new CountTable();
    expect(shown(table.read([shard({ "a.s": 1, "b.s": 9 }, { "a.s": 3, "b.s": 3, "c.s": 2 })], all))).toEqual({
      "a.s": 3,
      "b.s": 9,
      "c.s": 2,
    });
  });

  it("knows a field again wherever it is", () => {
    const table = new CountTable();
    table.read([shard({ "a.s": 1, "b.s": 2, "c.s": 3 })], all);
    expect(shown(table.read([shard({ "c.s": 4, "aa.s": 5, "a.s": 6, "a.ss": 7, "b.s": 8 })], all))).toEqual({
      "a.s": 6,
      "a.ss": 7,
      "aa.s": 5,
      "b.s": 8,
      "c.s": 4,
    });
  });

  it("never shows less than before, except of gauges", () => {
    const table = new CountTable();
    table.read([shard({ "a.s": 5, "a.q1": 5, "b.s": 5 })], all);
    expect(shown(table.read([shard({ "a.s": 3, "a.q1": 2 })], all))).toEqual({ "a.s": 5, "a.q1": 2, "b.s": 5 });
    expect(shown(table.read([shard({})], all))).toEqual({ "a.s": 5, "b.s": 5 });
  });

  it("begins anew with a set that was not shown in between, and mixes it up with no other", () => {
    const table = new CountTable();
    table.read([shard({ "a.s": 5, "b.s": 1 })], all);
    expect(shown(table.read([shard({ "a.s": 5, "b.s": 1 })], (set) => set !== "a"))).toEqual({ "b.s": 1 });
    // The first to come gets the place of the one that went.
    expect(shown(table.read([shard({ "a.s": 5, "c.s": 1, "b.s": 1 })], (set) => set !== "a"))).toEqual({ "b.s": 1, "c.s": 1 });
    expect(shown(table.read([shard({ "a.s": 2, "c.s": 1, "b.s": 1 })], all))).toEqual({ "a.s": 2, "b.s": 1, "c.s": 1 });
  });

  it("leaves earlier reads as they were", () => {
    const table = new CountTable();
    const first = table.read([shard({ "a.s": 1, "b.s": 1 })], all);
    table.read([shard({ "b.s": 2, "b.S": 2 })], (set) => set !== "a");
    table.read([shard({ "b.s": 3, "c.s": 3 })], all);
    expect(shown(first)).toEqual({ "a.s": 1, "b.s": 1 });
    expect(first.bySet.get("b")?.get(first.codes.get("S"))).toBe(0);
  });

  it("reads numbers of any length, and shows none below 0", () => {
    const table = new CountTable();
    const numbers = { "a.s": "999999999999999", "a.S": "9007199254740993", "a.T": "9223372036854775807", "a.V": "1e5", "b.s": "-3" };
    expect(shown(table.read([shard(numbers)], all))).toEqual({
      "a.s": 999_999_999_999_999,
      "a.S": 9_007_199_254_740_992,
      "a.T": 2 ** 63,
      "a.V": 100_000,
    });
  });

  it("has what a table of maps has, after any reads", () => {
    const set = fc.constantFrom("a", "b", "aa", "c");
    const code = fc.constantFrom("s", "S", "ss", "F1", "q1", "q2");
    const fields = fc.uniqueArray(fc.record({ set, code, count: fc.integer({ min: 1, max: 20 }) }), {
      selector: (field) => `${field.set}.${field.code}`,
      maxLength: 12,
    });
    const floors = fields.map((list) => list.filter((field) => !field.code.startsWith("q")).slice(0, 2));
    const read = fc.record({
      shards: fc.array(fc.tuple(fields, floors), { minLength: 2, maxLength: 2 }),
      hidden: fc.subarray(["a", "b", "aa", "c"]),
    });
    fc.assert(
      fc.property(fc.array(read, { maxLength: 8 }), (reads) => {
        const table = new CountTable();
        let before: Record<string, number> = {};
        for (const { shards, hidden } of reads) {
          const isShown = (id: string): boolean => !hidden.includes(id);
          const wanted: Record<string, number> = {};
          for (const [counts, lowest] of shards) {
            const own = { ...toRecord(lowest) };
            for (const [field, count] of Object.entries(toRecord(counts))) own[field] = Math.max(count, own[field] ?? 0);
            for (const [field, count] of Object.entries(own)) wanted[field] = (wanted[field] ?? 0) + count;
          }
          for (const [field, count] of Object.entries(before))
            if (!field.includes(".q")) wanted[field] = Math.max(count, wanted[field] ?? 0);
          before = Object.fromEntries(
            Object.entries(wanted).filter(([field]) => field.includes(".q") || isShown(field.slice(0, field.indexOf(".")))),
          );
          const found = table.read(
            shards.map(([counts, lowest]) => shard(toRecord(counts), toRecord(lowest))),
            isShown,
          );
          const sums = new Map<string, number>();
          for (const gauge of found.gauges)
            sums.set(`${gauge.set}.${gauge.code}`, (sums.get(`${gauge.set}.${gauge.code}`) ?? 0) + gauge.count);
          expect({ ...shown({ ...found, gauges: [] }), ...Object.fromEntries(sums) }).toEqual(before);
        }
      }),
      { numRuns: scaled(300, 5_000) },
    );
  });
});
