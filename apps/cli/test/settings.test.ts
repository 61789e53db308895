import { MAX_TIMER_MS, describeConfig, integer, secret, type ConfigSchema } from "@celery-metrics-exporter/runtime";
import { expect, it } from "vitest";
import { z } from "zod";
import { SummaryConfig } from "../src/report/summary-role.ts";
import { ALL_ROLES } from "../src/roles.ts";
import { groupSettings, toOption } from "../src/settings.ts";

const shared = { SHARED: integer(1, 0).describe("Shared.") };
const receiver = { name: "receiver", Config: z.object({ ...shared, BROKER: z.string().describe("Broker.") }) };
const one = { name: "one-processor", Config: z.object({ ...shared, BATCH: integer(1, 0).describe("Batch."), KEY: secret(z.string()) }) };
const two = { name: "two-processor", Config: z.object({ ...shared, BATCH: integer(2, 0).describe("Batch.") }) };

it("groups settings by the roles that share them", () => {
  const groups = groupSettings([receiver, one, two]).map(({ title, settings }) => [title, settings.map(({ name }) => name)]);
  expect(groups).toEqual([
    ["every role", ["SHARED"]],
    ["receiver", ["BROKER"]],
    // It has another default, so there are two settings of this name.
    ["one-processor", ["BATCH", "KEY"]],
    ["two-processor", ["BATCH"]],
  ]);
});

it("names the roles of a group", () => {
  expect(groupSettings([one, receiver, { name: "three", Config: z.object({}) }])[0]?.title).toBe("one-processor and receiver");
});

it("turns a setting into an option", () => {
  expect(toOption("DATADOG_GRACE_MS")).toBe("datadog-grace-ms");
});

const schemas: readonly ConfigSchema[] = [...ALL_ROLES.map(({ Config }) => Config), SummaryConfig];
const times = schemas.flatMap((schema) =>
  describeConfig(schema).flatMap(({ name }) => (/_(MS|SECONDS|DAYS)$/.test(name) ? [[name, schema] as const] : [])),
);

it.each(times)("limits the time %s, so that no timer overflows", (name, schema) => {
  const field = schema.shape[name] as z.ZodType;
  const takes = (value: number): boolean => field.safeParse(String(value)).success;
  // Finds the longest accepted time by bisection.
  let [longest, tooLong] = [1_000, Number.MAX_SAFE_INTEGER];
  expect([takes(longest), takes(tooLong)]).toEqual([true, false]);
  while (tooLong - longest > 1) {
    const middle = Math.floor((longest + tooLong) / 2);
    if (takes(middle)) longest = middle;
    else tooLong = middle;
  }
  const isWait = /TIMEOUT|WAIT|GRACE|LEASE|BATCH|SUMMARY/.test(name);
  const unitMs = name.endsWith("_MS") ? 1 : name.endsWith("_SECONDS") ? 1_000 : 86_400_000;
  // A wait plus an addition, or doubled, must fit too; the end of a retention time must be a valid date.
  expect(longest * unitMs).toBeLessThanOrEqual(isWait ? MAX_TIMER_MS / 2 : 8.64e15 - Date.now());
});
