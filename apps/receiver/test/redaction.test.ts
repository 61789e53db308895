import { type CeleryEvent, decodeFrame } from "@celery-metrics-exporter/celery";
import { taskFailed, taskReceived, taskSent, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { ConfigError, describeConfig, loadConfig, redactConfig } from "@celery-metrics-exporter/runtime";
import { RE2JS } from "re2js";
import { describe, expect, it } from "vitest";
import { Config } from "../src/config.ts";
import { REDACTABLE_FIELDS, type RedactionRule, createRedaction, redactionOf } from "../src/redaction/redaction.ts";

const KEY = "a key of thirty-two characters !!";
const BROKER = { CELERY_BROKER_URL: "redis://localhost" };

function redact<E extends CeleryEvent>(rule: RedactionRule, event: E, fields = REDACTABLE_FIELDS): E {
  const copy = { ...event };
  createRedaction(fields, rule)({ events: [copy], rejected: [] });
  return copy;
}

const HISTORY = [
  taskSent({ args: "('hunter2',)", kwargs: "{'card': '4111'}" }),
  taskReceived({ args: "('hunter2',)", kwargs: "{}" }),
  taskSucceeded({ result: "'hunter2'" }),
  taskFailed({ exception: "ValueError('hunter2')", traceback: "Traceback: hunter2" }),
];

describe("redaction", () => {
  it("removes only the named fields, with drop", () => {
    const [sent, received, succeeded, failed] = HISTORY.map((event) => redact({ mode: "drop" }, event));
    expect(JSON.stringify([sent, received, succeeded, failed])).not.toMatch(/hunter2|4111/);
    const { args: _args, kwargs: _kwargs, ...rest } = HISTORY[0] as ReturnType<typeof taskSent>;
    expect(sent).toEqual(rest);
    expect(redact({ mode: "drop" }, taskSent({ args: "(1,)", kwargs: "{}" }), ["kwargs"] as never)).toMatchObject({ args: "(1,)" });
  });

  it("gives equal values equal hashes, but only under the same key", () => {
    const hashed = HISTORY.map((event) => redact({ mode: "hash", key: KEY }, event));
    expect(JSON.stringify(hashed)).not.toMatch(/hunter2|4111/);
    expect(hashed[0]).toMatchObject({ args: expect.stringMatching(/^<hmac:[0-9a-f]{32}>$/) as string });
    expect((hashed[0] as { args: string }).args).toBe((hashed[1] as { args: string }).args);
    expect((hashed[0] as { kwargs: string }).kwargs).not.toBe((hashed[1] as { kwargs: string }).kwargs);
    const [other] = HISTORY.map((event) => redact({ mode: "hash", key: `${KEY}x` }, event));
    expect((other as { args: string }).args).not.toBe((hashed[0] as { args: string }).args);
  });

  it.each([
    ["['a@b.org', 'x']", ["[\\w.]+@[\\w.]+"], "['[redacted]', 'x']"],
    ["'4111 1111 1111 1111' 12", ["\\b(?:\\d[ -]?){13,16}"], "'[redacted]' 12"],
    ["{'Password': 'a', 'n': 1}", ["(?i)'password': '[^']*'"], "{[redacted], 'n': 1}"],
    ["one two", ["one", "two"], "[redacted] [redacted]"],
    ["(1,)", ["(1)"], "([redacted],)"],
    ["ключ=тайна", ["ключ=\\S+"], "[redacted]"],
    ["nothing here", ["secret"], "nothing here"],
  ])("replaces each match in %s", (args, patterns, shown) => {
    expect(redact({ mode: "patterns", patterns }, taskSent({ args })).args).toBe(shown);
  });

  it("finds the same matches with and without the quick check for any match", () => {
    const patterns = ["\\bfoo\\b", "(?i)Bar$", "^x+", "[^a-z0-9 ]{2,}", "ß|é", "a.{1,3}c"];
    const expressions = patterns.map((pattern) => RE2JS.compile(pattern));
    const redaction = createRedaction(["args"], { mode: "patterns", patterns });
    const parts = ["foo", "bar", "xx", " ", "a12c", "--", "é", "\n", "7", "fooz", "😀"];
    for (let seed = 0; seed < 1_000; seed++) {
      const text = Array.from({ length: 4 }, (_, index) => parts[(seed * 31 + index * 17 * (seed + 1)) % parts.length]).join("");
      const event = { ...taskSent({ args: text }) };
      redaction({ events: [event], rejected: [] });
      const expected = expressions.reduce((rest, expression) => expression.matcher(rest).replaceAll("[redacted]"), text);
      expect(event.args, JSON.stringify(text)).toBe(expected);
    }
  });

  it("is not blocked by a text made to exhaust an expression", () => {
    const patterns = ["(a+)+$", "(\\w|\\d)*!x"];
    const begun = performance.now();
    redact({ mode: "patterns", patterns }, taskSent({ args: "a".repeat(20_000) + "!" }));
    // JavaScript's own engine would take longer than the age of the universe.
    expect(performance.now() - begun).toBeLessThan(20_000);
  });

  it.each(["drop", "hash", "patterns"] as const)("keeps nothing of unreadable messages, with %s", (mode) => {
    const redaction = createRedaction(
      ["result"],
      { drop: { mode: "drop" }, hash: { mode: "hash", key: KEY }, patterns: { mode: "patterns", patterns: ["x"] } }[mode] as RedactionRule,
    );
    for (const body of [
      '{"args": "hunter2"',
      '[{"type": "task-sent", "args": "hunter2"}]',
      Buffer.from([0x93, 0xc1, ...Buffer.from("hunter2")]),
    ]) {
      const decoded = decodeFrame({ body, contentType: typeof body === "string" ? "application/json" : "application/x-msgpack" });
      const { rejected } = redaction(decoded);
      expect(rejected).toEqual([{ reason: decoded.rejected[0]?.reason, detail: decoded.rejected[0]?.detail, count: 1, raw: "[redacted]" }]);
    }
  });
});

function problems(env: Readonly<Record<string, string>>): string {
  try {
    loadConfig(Config, { ...BROKER, ...env });
    return "";
  } catch (thrown) {
    if (thrown instanceof ConfigError) return thrown.message;
    throw thrown;
  }
}

describe("the settings of the redaction", () => {
  it("are off by default, and otherwise apply to every field by default", () => {
    expect(redactionOf(loadConfig(Config, BROKER))).toBeUndefined();
    const redaction = redactionOf(loadConfig(Config, { ...BROKER, REDACT_MODE: "drop" }));
    const events = HISTORY.map((event) => ({ ...event }));
    redaction?.({ events, rejected: [] });
    expect(JSON.stringify(events)).not.toMatch(/hunter2|4111/);
  });

  it.each([
    [{ REDACT_MODE: "hash" }, /REDACT_HASH_KEY: is required, because REDACT_MODE is hash/],
    [{ REDACT_MODE: "hash", REDACT_HASH_KEY: "hunter2" }, /REDACT_HASH_KEY: must be at least 16/],
    [{ REDACT_MODE: "patterns" }, /REDACT_PATTERNS: is required, because REDACT_MODE is patterns/],
    [{ REDACT_MODE: "patterns", REDACT_PATTERNS: "fine\n(?=look)" }, /REDACT_PATTERNS: expression 2 cannot be used: .*\(\?=/],
    [{ REDACT_MODE: "patterns", REDACT_PATTERNS: "x*" }, /REDACT_PATTERNS: expression 1 cannot be used: it matches everywhere/],
    [{ REDACT_MODE: "drop", REDACT_FIELDS: "args,name" }, /REDACT_FIELDS: unknown field name; fields: args, kwargs/],
    [{ REDACT_MODE: "drop", REDACT_FIELDS: "," }, /REDACT_FIELDS: must name a field/],
    [{ REDACT_FIELDS: "args" }, /REDACT_MODE: is required, because REDACT_FIELDS is set/],
    [{ REDACT_PATTERNS: "x" }, /REDACT_MODE: must be patterns/],
    [{ REDACT_HASH_KEY: KEY }, /REDACT_MODE: must be hash/],
    [{ REDACT_MODE: "mask" }, /REDACT_MODE: /],
  ])("%j would hide less than it seems, and is refused", (env, message) => {
    expect(problems(env)).toMatch(message);
    expect(problems(env)).not.toContain("hunter2");
  });

  it.each([
    [{ REDACT_MODE: "drop" }, undefined],
    [{ REDACT_MODE: "hash", REDACT_HASH_KEY: KEY }, expect.stringMatching(/^<hmac:[0-9a-f]{32}>$/)],
    [{ REDACT_MODE: "patterns", REDACT_PATTERNS: "hun\r\n\nter2" }, "('[redacted][redacted]',)"],
  ])("%j say what is done", (env, shown) => {
    const event = { ...taskSent({ args: "('hunter2',)" }) };
    redactionOf(loadConfig(Config, { ...BROKER, ...env }))?.({ events: [event], rejected: [] });
    expect(event.args).toEqual(shown);
    expect("args" in event).toBe(shown !== undefined);
    expect(problems(env)).toBe("");
  });

  it("leave a hash alone in what was stored, and hash what is sent though it looks like one", () => {
    const config = loadConfig(Config, { ...BROKER, REDACT_MODE: "hash", REDACT_HASH_KEY: KEY });
    const hashed = (args: string, input?: "sent" | "stored"): unknown => {
      const event = { ...taskSent({ args }) };
      redactionOf(config, input)?.({ events: [event], rejected: [] });
      return event.args;
    };
    const hash = hashed("('hunter2',)") as string;
    expect(hashed("('hunter2',)", "stored")).toBe(hash);
    expect(hashed(hash, "stored")).toBe(hash);
    expect(hashed(hash)).not.toBe(hash);
    expect(hashed(hash, "sent")).toBe(hashed(hash));
  });

  it("hide what is no text as JSON", () => {
    const event = { ...taskSent(), args: ["hunter2"] };
    createRedaction(["args"], { mode: "patterns", patterns: ["hunter2"] }, "stored")({ events: [event], rejected: [] });
    expect(event.args).toBe('["[redacted]"]');
  });

  it.each([
    [
      { REDACT_MODE: "drop", REDACT_FIELDS: "args,name,other" },
      "unknown field name, other; fields: args, kwargs, result, exception, traceback",
    ],
    [{ REDACT_MODE: "drop", REDACT_PATTERNS: "x" }, "REDACT_MODE: must be patterns, because REDACT_PATTERNS is set."],
    [{ REDACT_MODE: "patterns", REDACT_PATTERNS: "x\n(" }, "expression 2 cannot be used"],
    [{ REDACT_MODE: "patterns", REDACT_PATTERNS: "x", REDACT_HASH_KEY: KEY }, "REDACT_MODE: must be hash, because REDACT_HASH_KEY is set."],
  ])("%j are refused in these words", (env, message) => {
    expect(problems(env)).toContain(message);
  });

  it("have a key that is never shown", () => {
    const config = loadConfig(Config, { ...BROKER, REDACT_MODE: "hash", REDACT_HASH_KEY: KEY });
    expect(JSON.stringify(redactConfig(Config, config))).not.toContain(KEY);
    expect(describeConfig(Config).find(({ name }) => name === "REDACT_HASH_KEY")?.secret).toBe(true);
  });
});
