import { integer, secret } from "@celery-metrics-exporter/runtime";
import { expect, it } from "vitest";
import { z } from "zod";
import { groupSettings, toOption } from "../src/settings.ts";

const shared = { SHARED: integer(1, 0).describe("Shared.") };
const receiver = { name: "receiver", Config: z.object({ ...shared, BROKER: z.string().describe("Broker.") }) };
const one = { name: "one-processor", Config: z.object({ ...shared, BATCH: integer(1, 0).describe("Batch."), KEY: secret(z.string()) }) };
const two = { name: "two-processor", Config: z.object({ ...shared, BATCH: integer(2, 0).describe("Batch.") }) };

it("groups settings by the roles that have them", () => {
  const groups = groupSettings([receiver, one, two]).map(({ title, settings }) => [title, settings.map(({ name }) => name)]);
  expect(groups).toEqual([
    ["every role", ["SHARED"]],
    ["receiver", ["BROKER"]],
    // Another default: two settings of one name.
    ["one-processor", ["BATCH", "KEY"]],
    ["two-processor", ["BATCH"]],
  ]);
});

it("names the roles of a group", () => {
  expect(groupSettings([one, receiver, { name: "three", Config: z.object({}) }])[0]?.title).toBe("one-processor and receiver");
});

it("makes an option of a setting", () => {
  expect(toOption("DATADOG_GRACE_MS")).toBe("datadog-grace-ms");
});
