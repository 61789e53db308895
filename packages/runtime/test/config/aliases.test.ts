import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { ConfigError, aliased, describeConfig, integer, loadConfig, reportAliases, secret, withAliases } from "../../src/index.ts";

const Config = z.object({
  PORT_OF_IT: aliased(integer(9808, 0, 65_535).describe("The port."), { variable: "CE_PORT" }, { variable: "OLDER_PORT" }),
  WORDS: aliased(z.string().default("none").describe("Words."), {
    variable: "CE_WORDS",
    read: (value) => (value.includes(",") ? { problem: "must not contain a comma" } : value.replaceAll(" ", ",")),
  }),
  BROKER_URL: aliased(
    secret(z.string().startsWith("redis://", "must be a Redis")).describe("The broker."),
    { variable: "CE_BROKER_URL" },
    { variable: "CE_RETRY_INTERVAL", advice: "it is not needed" },
  ),
});
const SETTINGS = describeConfig(Config);
const BROKER = { BROKER_URL: "redis://h" };

function problemsOf(env: Record<string, string>): readonly string[] {
  try {
    loadConfig(Config, env);
  } catch (thrown) {
    if (thrown instanceof ConfigError) return thrown.problems;
    throw thrown;
  }
  return [];
}

describe("an alias", () => {
  it("sets a setting that is not set, converted to its form", () => {
    const config = loadConfig(Config, { CE_BROKER_URL: "redis://other", CE_PORT: "1234", CE_WORDS: "a b" });
    expect(config).toEqual({ BROKER_URL: "redis://other", PORT_OF_IT: 1_234, WORDS: "a,b" });
    expect(loadConfig(Config, { ...BROKER, CE_PORT: "", PORT_OF_IT: "" }).PORT_OF_IT).toBe(9_808);
  });

  it("has no effect if the setting is set, also in a file", () => {
    const file = join(mkdtempSync(join(tmpdir(), "cme-alias-")), "port");
    writeFileSync(file, "5\n");
    const alias = { ...BROKER, CE_PORT: "1234" };
    for (const own of [{ PORT_OF_IT: "5" }, { PORT_OF_IT_FILE: file }]) {
      expect(loadConfig(Config, { ...alias, ...own }).PORT_OF_IT).toBe(5);
      expect(withAliases(SETTINGS, { ...alias, ...own })).toEqual({ ...alias, ...own });
      expect(reportAliases(SETTINGS, { ...alias, ...own })).toEqual({
        used: [],
        warnings: [{ setting: "CE_PORT", problem: "is ignored, because PORT_OF_IT is set too" }],
      });
    }
  });

  it("that comes first counts", () => {
    const env = { ...BROKER, OLDER_PORT: "1", CE_PORT: "2" };
    expect(loadConfig(Config, env).PORT_OF_IT).toBe(2);
    expect(reportAliases(SETTINGS, env)).toEqual({
      used: [{ alias: "CE_PORT", setting: "PORT_OF_IT" }],
      warnings: [{ setting: "OLDER_PORT", problem: "is ignored, because CE_PORT is set too" }],
    });
  });

  it("is reported in the same way before and after its value was filled in, once for all roles, and without the value", () => {
    const env = { CE_BROKER_URL: "redis://:hunter2@h", CE_WORDS: "hunter2 a", CE_RETRY_INTERVAL: "hunter2" };
    const filled = withAliases(SETTINGS, env);
    expect(filled).toEqual({ ...env, BROKER_URL: "redis://:hunter2@h", WORDS: "hunter2,a" });
    const report = reportAliases([...SETTINGS, ...SETTINGS], env);
    expect(report).toEqual({
      used: [
        { alias: "CE_WORDS", setting: "WORDS" },
        { alias: "CE_BROKER_URL", setting: "BROKER_URL" },
      ],
      warnings: [{ setting: "CE_RETRY_INTERVAL", problem: "it is not needed" }],
    });
    expect(reportAliases(SETTINGS, filled)).toEqual(report);
    expect(JSON.stringify(report)).not.toContain("hunter2");
  });

  it("is named with what is wrong with it, and never shows a secret", () => {
    const wrong = { CE_PORT: "many", CE_WORDS: "a,hunter2", CE_BROKER_URL: "amqp://:hunter2@h" };
    const expected = [
      "CE_WORDS: must not contain a comma (it stands for WORDS)",
      'PORT_OF_IT: must be a number (got "many"); it is set by CE_PORT',
      "BROKER_URL: must be a Redis; it is set by CE_BROKER_URL",
    ];
    expect(problemsOf(wrong)).toEqual(expected);
    expect(problemsOf(withAliases(SETTINGS, wrong) as Record<string, string>)).toEqual(expected);
    expect(problemsOf({ ...BROKER, ...wrong, PORT_OF_IT: "1", WORDS: "a" })).toEqual([]);
  });
});
