import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import {
  BaseConfig,
  ConfigError,
  describeConfig,
  flag,
  integer,
  list,
  loadConfig,
  redactConfig,
  redactUrl,
  secret,
  url,
} from "../../src/index.ts";

const Config = z.object({
  ...BaseConfig.shape,
  BROKER_URL: url(["amqp", "redis"]).describe("The broker."),
  GRACE_MS: integer(2000, 0, 60_000).describe("Grace."),
  READ_ONLY: flag(true).describe("Whether nothing may be changed."),
  EXPORTERS: list("datadog,postgres").describe("Exporters."),
  PASSWORD: secret(z.string().min(8)).optional().describe("The password."),
});

function problemsOf(env: Record<string, string>): readonly string[] {
  try {
    loadConfig(Config, env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

function fileOf(content: string): string {
  const file = join(mkdtempSync(join(tmpdir(), "cme-config-")), "value");
  writeFileSync(file, content);
  return file;
}

describe("loadConfig", () => {
  it("fills in the defaults and converts types", () => {
    const config = loadConfig(Config, { BROKER_URL: "amqp://broker", READ_ONLY: "no", EXPORTERS: " datadog , ,postgres" });
    expect(config).toMatchObject({
      GRACE_MS: 2000,
      READ_ONLY: false,
      EXPORTERS: ["datadog", "postgres"],
      REDIS_URL: "redis://127.0.0.1:6379",
    });
  });

  it.each([
    ["INFO", "info"],
    ["WARNING", "warn"],
    ["Warn", "warn"],
    ["CRITICAL", "fatal"],
    ["Debug", "debug"],
    ["silent", "silent"],
  ])("accepts the log level %s", (LOG_LEVEL, level) => {
    expect(loadConfig(BaseConfig, { LOG_LEVEL }).LOG_LEVEL).toBe(level);
  });

  it.each(["True", "TRUE", "1", "yes", "On"])("accepts %s as true, and words in any case", (value) => {
    const config = loadConfig(z.object({ ON: flag(false), KIND: z.enum(["quorum", "classic"]).default("quorum") }), {
      ON: value,
      KIND: "Classic",
    });
    expect(config).toEqual({ ON: true, KIND: "classic" });
  });

  it.each(["loud", "constructor", "__proto__"])("lists the log levels if given %s", (LOG_LEVEL) => {
    expect(problemsOf({ BROKER_URL: "amqp://broker", LOG_LEVEL })).toEqual([
      expect.stringMatching(new RegExp(`^LOG_LEVEL: must be .*fatal.* \\(got "${LOG_LEVEL}"\\)$`)),
    ]);
  });

  it("reports every problem at once", () => {
    const problems = problemsOf({ GRACE_MS: "soon", READ_ONLY: "perhaps", LOG_LEVEL: "loud" });
    expect(problems).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^BROKER_URL: is required. The broker\.$/),
        expect.stringMatching(/^GRACE_MS: must be a number/),
        expect.stringMatching(/^READ_ONLY: must be true or false/),
        expect.stringMatching(/^LOG_LEVEL: /),
      ]),
    );
  });

  it.each([
    ["BROKER_URL", "http://user:hunter2@broker"],
    ["PASSWORD", "hunter2"],
  ])("never shows the value of %s", (name, value) => {
    const problems = problemsOf({ BROKER_URL: "amqp://broker", [name]: value }).join("\n");
    expect(problems).toContain(name);
    expect(problems).not.toContain("hunter2");
  });

  it("treats an empty variable as unset", () => {
    expect(loadConfig(Config, { BROKER_URL: "amqp://broker", GRACE_MS: "" }).GRACE_MS).toBe(2000);
  });

  it.each([
    ["from a file\n", "from a file"],
    ["from a file\r\n\n", "from a file"],
    [" with blanks \n", " with blanks "],
    ["two\nlines, then\n", "two\nlines, then"],
  ])("reads a value from the file in NAME_FILE, without trailing line ends: %j", (content, value) => {
    expect(loadConfig(Config, { BROKER_URL: "amqp://broker", PASSWORD_FILE: fileOf(content) }).PASSWORD).toBe(value);
  });

  it("treats an empty file as unset and prefers the variable to a file", () => {
    expect(loadConfig(Config, { BROKER_URL: "amqp://broker", PASSWORD_FILE: fileOf("\n") }).PASSWORD).toBeUndefined();
    const both = { BROKER_URL: "amqp://broker", PASSWORD: "the variable", PASSWORD_FILE: fileOf("from a file") };
    expect(loadConfig(Config, both).PASSWORD).toBe("the variable");
  });

  it("reports an unreadable file by its variable", () => {
    expect(problemsOf({ BROKER_URL: "amqp://broker", PASSWORD_FILE: "/nonexistent" })).toEqual(["PASSWORD_FILE: cannot be read (ENOENT)"]);
  });

  it("reports the unreadable file of a required setting once", () => {
    expect(problemsOf({ BROKER_URL_FILE: "/nonexistent" })).toEqual(["BROKER_URL_FILE: cannot be read (ENOENT)"]);
  });

  it("suggests a misspelt variable for a missing required setting, without its value", () => {
    const Required = z.object({ CELERY_BROKER_URL: url(["amqp"]).describe("The broker.") });
    for (const variable of ["CELERY_BROKR_URL", "CELERY_BROKER_URI", "celery_broker_url", "CELERY_BROKR_URL_FILE"]) {
      expect(() => loadConfig(Required, { [variable]: "amqp://hunter2" })).toThrow(
        new RegExp(`- CELERY_BROKER_URL: is required \\(${variable} is set but is not a setting: a misspelling\\?\\)\\. The broker\\.$`),
      );
    }
    expect(() => loadConfig(Required, { CELERY_RESULT_BACKEND: "x", CELERY_BROKR_URL: "" })).toThrow(/is required\. The broker/);
  });

  it.each([
    ["LOG_FORMAT", "pretty", /^LOG_FORMAT: must be one of auto, json, text \(got "pretty"\)$/],
    ["LOG_LEVEL", "loud", /^LOG_LEVEL: must be one of trace, .*silent, or of Python's DEBUG, .*WARNING.* \(got "loud"\)$/],
    ["PASSWORD", "short", /^PASSWORD: must have at least 8 characters$/],
  ])("reports in plain words which values are valid instead of %s=%s", (name, value, problem) => {
    expect(problemsOf({ BROKER_URL: "amqp://broker", [name]: value })).toEqual([expect.stringMatching(problem)]);
  });

  it.each(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "NOTSET"])(
    "accepts Python's level %s, which the error message lists",
    (LOG_LEVEL) => {
      expect(() => loadConfig(BaseConfig, { LOG_LEVEL })).not.toThrow();
    },
  );

  it.each(["amqp://u:pa/ss@host", "amqp://u:12/34@host", "amqp://u:pa#ss@host", "amqp://u:p%zz@host", "amqp://host:99999"])(
    "rejects an invalid URL and suggests the cause: %s",
    (broker) => {
      const [problem] = problemsOf({ BROKER_URL: broker });
      expect(problem).toMatch(/^BROKER_URL: .*%2F/);
      expect(problem).not.toContain("ss@");
    },
  );

  it.each([
    ["GRACE_MS", "-1", "at least 0"],
    ["GRACE_MS", "60001", "at most 60000"],
    ["GRACE_MS", "1.5", "whole number"],
  ])("rejects %s=%s: %s", (name, value, reason) => {
    expect(problemsOf({ BROKER_URL: "amqp://broker", [name]: value }).join()).toContain(reason);
  });
});

describe("describeConfig", () => {
  it("reports for each setting its default and whether it is required or secret", () => {
    const settings = new Map(describeConfig(Config).map((setting) => [setting.name, setting]));
    expect(settings.get("BROKER_URL")).toEqual({
      name: "BROKER_URL",
      description: "The broker.",
      defaultValue: undefined,
      required: true,
      secret: true,
      aliases: [],
    });
    expect(settings.get("EXPORTERS")?.defaultValue).toBe("datadog,postgres");
    expect(settings.get("LOG_LEVEL")?.defaultValue).toBe("info");
    expect(settings.get("PASSWORD")).toMatchObject({ required: false, secret: true });
    expect(settings.get("GRACE_MS")?.secret).toBe(false);
  });
});

describe("redaction", () => {
  it("shows a configuration without its secrets", () => {
    const config = loadConfig(Config, { BROKER_URL: "amqp://user:hunter2@broker/vhost", PASSWORD: "hunter2hunter2" });
    const shown = redactConfig(Config, config);
    expect(redactConfig(Config, { ...config, PASSWORD: "a://hunter2" })).toMatchObject({ PASSWORD: "[redacted]" });
    expect(shown).toMatchObject({ BROKER_URL: "amqp://***@broker/vhost", PASSWORD: "[redacted]", GRACE_MS: 2000 });
    expect(JSON.stringify(shown)).not.toContain("hunter2");
  });

  it.each([
    ["amqp://user:pass@host:5672//", "amqp://***@host:5672//"],
    ["redis://:p%40ss@host/0?password=x", "redis://***@host/0"],
    ["amqp://u:p@a;amqp://u:p@b", "amqp://***@a;amqp://***@b"],
    ["redis://127.0.0.1:6379", "redis://127.0.0.1:6379"],
    // The second entry could be the end of a password.
    ["amqp://u:p@a;u:p@b", "amqp://***;***@b"],
    ["postgres://u:pa;ss@host/db", "postgres://***@host/db"],
    ["redis://:pa;s;s@host;host2:6380/0?x=y", "redis://***@host;host2:6380/0"],
    ["sentinel://:p@a:1/0?ssl_ca_certs=x;sentinel://b:2", "sentinel://***@a:1/0;sentinel://b:2"],
    ["postgres://host/db?password=pa@ss", "postgres://***"],
    ["postgres://u:pa/ss@host/db", "postgres://***@host/db"],
    ["postgres://u:pa#ss?x@host/db", "postgres://***"],
    ["redis://:pa/ss@host", "redis://***@host"],
  ])("removes user, password and query from %s", (value, shown) => {
    expect(redactUrl(value)).toBe(shown);
  });
});
