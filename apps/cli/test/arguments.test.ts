import { BaseConfig } from "@celery-metrics-exporter/runtime";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { readArguments } from "../src/arguments.ts";
import { UsageError, type Command } from "../src/command.ts";
import { groupSettings } from "../src/settings.ts";

const Config = BaseConfig.extend({ DATADOG_GRACE_MS: z.coerce.number().default(2000), CELERY_BROKER_URL: z.string() });
const command: Command = {
  name: "start",
  summary: "",
  options: [
    { name: "check-config", description: "" },
    { name: "seconds", value: "n", description: "" },
  ],
  settings: groupSettings([{ name: "role", Config }]),
  run: async () => {},
};

describe("the command line", () => {
  it("lets settings given as options override the environment", () => {
    const env = { DATADOG_GRACE_MS: "1", LOG_LEVEL: "warn" };
    const args = ["--datadog-grace-ms", "500", "--broker=redis://r", "--check-config", "--seconds", "20"];
    const invocation = readArguments(command, args, env);
    expect(invocation.env).toEqual({ DATADOG_GRACE_MS: "500", LOG_LEVEL: "warn", CELERY_BROKER_URL: "redis://r" });
    expect(invocation.options).toEqual(
      new Map([
        ["check-config", ""],
        ["seconds", "20"],
      ]),
    );
    expect(env).toEqual({ DATADOG_GRACE_MS: "1", LOG_LEVEL: "warn" });
  });

  it("accepts the long name of an aliased setting too, and the -- that pnpm passes through", () => {
    expect(readArguments(command, ["--", "--celery-broker-url", "redis://r"], {}).env).toEqual({ CELERY_BROKER_URL: "redis://r" });
  });

  it.each([
    [["--datadog-grace", "5"], 'Unknown option "--datadog-grace". Did you mean "--datadog-grace-ms"?'],
    [["--frobnicate"], 'Unknown option "--frobnicate".'],
    [["-b"], 'Unknown option "-b".'],
    // An alias exists only together with its setting.
    [["--database", "x"], 'Unknown option "--database".'],
    [["--seconds"], "--seconds needs a value."],
    [["--broker"], "--broker needs a value."],
    [["--check-config=yes"], "--check-config takes no value."],
    [["amqp://host"], 'start takes no argument "amqp://host".'],
  ])("refuses %j", (args, message) => {
    expect(() => readArguments(command, args, {})).toThrow(new UsageError(message));
  });
});
