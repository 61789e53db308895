import type { CeleryEvent } from "@celery-metrics-exporter/celery";
import { taskFailed, taskReceived, taskRetried, taskSent, taskSucceeded } from "@celery-metrics-exporter/celery/testing";
import { DEAD_LETTER_QUEUE, DeadLetters, decodeBatch, encodeBatch, type DeadLetter } from "@celery-metrics-exporter/pipeline";
import { Metrics, createLogger } from "@celery-metrics-exporter/runtime";
import { startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { runCommand } from "../src/program.ts";
import { runProgram, startProgram } from "./harness.ts";

const PREFIX = "{replay}";
/** A busy machine takes a long time to start a program. */
const TIMEOUT_MS = 120_000;
let server: RedisServer;
let env: Readonly<Record<string, string>>;
let redis: Redis;
let letters: DeadLetters;

beforeAll(async () => {
  server = await startRedis();
  env = { REDIS_URL: server.url, QUEUE_PREFIX: PREFIX };
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
  letters = new DeadLetters({ redis, prefix: PREFIX, logger: createLogger("test", "silent"), metrics: new Metrics(), source: undefined });
});
afterEach(() => redis.flushall());
afterAll(async () => {
  await letters.close();
  redis.disconnect();
  await server.stop();
});

/** The output of the command, run in this process. */
async function outputOf(...args: string[]): Promise<string> {
  return outputWith({}, ...args);
}

async function outputWith(settings: Readonly<Record<string, string>>, ...args: string[]): Promise<string> {
  let output = "";
  const plain = { isInteractive: false, columns: 100, bold: String, dim: String, green: String, red: String, yellow: String };
  await runCommand(["replay", ...args], { ...env, ...settings }, { ...plain, write: (text) => void (output += text) });
  return output;
}

const undecodable: DeadLetter = { source: "receiver", reason: "body", detail: "", raw: "{", readAs: { contentType: "application/json" } };

function refused(count: number, source = "postgres"): DeadLetter[] {
  return Array.from({ length: count }, (_, index) => ({
    source,
    reason: "refused",
    detail: "",
    event: { type: "task-started", hostname: "w1@host-a", timestamp: 1, uuid: `${source}-${index}` },
  }));
}

const keyOf = (queue: string) => `${PREFIX}:${queue}`;
const lettersLeft = () => redis.llen(`${keyOf(DEAD_LETTER_QUEUE)}:wait`);

/** Ids of the events that wait in an exporter queue. */
async function idsIn(queue: string): Promise<string[]> {
  return (await eventsIn(queue)).map((event) => ("uuid" in event ? String(event.uuid) : ""));
}

async function eventsIn(queue: string): Promise<CeleryEvent[]> {
  const jobs = await redis.lrange(`${keyOf(queue)}:wait`, 0, -1);
  const payloads = await Promise.all(jobs.map((job) => redis.hget(`${keyOf(queue)}:${job}`, "data")));
  return payloads.flatMap((data) => decodeBatch(JSON.parse(data ?? "")).events);
}

it("lists the letters in a dry run, and changes nothing", async () => {
  await letters.add([...refused(12), ...refused(1, "datadog"), undecodable]);
  expect(await outputOf("--dry-run")).toBe(
    [
      "source    reason   letters  replayable",
      "postgres  refused       12          12",
      "datadog   refused        1           1",
      "receiver  body           1           0",
      "",
      "13 could be replayed, 1 left (1 still not readable).",
      "To remove the letters that cannot be replayed, use --discard.",
      "",
    ].join("\n"),
  );
  expect(await lettersLeft()).toBe(14);
  expect(await idsIn("postgres")).toEqual([]);
});

it("replays the requested letters, and reports what it did", async () => {
  await letters.add([undecodable, ...refused(3), ...refused(1, "datadog")]);
  expect(await outputOf("--source", "postgres", "--limit", "2")).toBe("2 replayed.\n");
  expect(await idsIn("postgres")).toEqual(["postgres-0", "postgres-1"]);
  expect(await outputOf("--reason", "refused")).toBe("2 replayed.\n");
  expect(await outputOf("--reason", "refused")).toBe("No dead letters to replay.\n");
  expect(await lettersLeft()).toBe(1);
});

it("removes only what cannot be replayed, with --discard", async () => {
  const gone = { ...undecodable, raw: "[redacted]" };
  const { readAs: _, ...redactedLetter } = gone;
  await letters.add([undecodable, ...refused(3), redactedLetter, ...refused(1, "promtail")]);
  const why = "1 still not readable; 1 redacted: nothing was kept; 1 of an unknown exporter";
  expect(await outputOf("--discard", "--dry-run")).toContain(`3 could be replayed, 3 would be discarded (${why}).\n`);
  expect(await lettersLeft()).toBe(6);
  expect(await outputOf("--discard", "--source", "receiver", "--limit", "1")).toBe("1 discarded (1 rejected again).\n");
  expect(await outputOf("--discard")).toBe("3 replayed, 2 discarded (1 redacted: nothing was kept; 1 of an unknown exporter).\n");
  expect(await lettersLeft()).toBe(0);
  expect(await idsIn("postgres")).toEqual(["postgres-0", "postgres-1", "postgres-2"]);
});

it("leaves letters of an exporter that EXPORTERS does not name, because no processor would read its queue", async () => {
  await letters.add([...refused(1, "datadog"), ...refused(2)]);
  expect(await outputWith({ EXPORTERS: "postgres" })).toContain("2 replayed, 1 left (1 of an exporter that EXPORTERS does not list).\n");
  expect(await idsIn("datadog")).toEqual([]);
  // Without EXPORTERS, the exporters with a queue count: here only the other one.
  expect(await outputOf()).toContain("0 replayed, 1 left");
  expect(await outputWith({ EXPORTERS: "datadog" })).toBe("1 replayed.\n");
  expect(await idsIn("datadog")).toEqual(["datadog-0"]);
});

it("removes all letters of a source and reason with --discard-all, and replays none", async () => {
  await letters.add([...refused(3), ...refused(2, "datadog"), undecodable]);
  expect(await outputOf("--discard-all", "--source", "postgres", "--dry-run")).toContain("3 would be discarded.\n");
  expect(await lettersLeft()).toBe(6);
  expect(await outputOf("--discard-all", "--source", "postgres", "--reason", "refused")).toBe("3 discarded.\n");
  expect(await lettersLeft()).toBe(3);
  expect(await idsIn("postgres")).toEqual([]);
});

it(
  "loses nothing when it is killed half way; the next run does the rest, and a letter that stays is no failure",
  { timeout: TIMEOUT_MS },
  async () => {
    await letters.add([...refused(4_000), undecodable]);
    const program = startProgram(["replay"], { env });
    await expect.poll(lettersLeft, { timeout: TIMEOUT_MS, interval: 5 }).toBeLessThan(4_000);
    program.signal("SIGKILL");
    await program.exitCode;
    expect(await lettersLeft()).toBeGreaterThan(1);
    const { exitCode, errors, output } = await runProgram(["replay"], { env });
    expect({ exitCode, errors }).toEqual({ exitCode: 0, errors: "" });
    expect(output).toMatch(/^(\d+000 letters …\n)*\d+ replayed, 1 left \(1 rejected again\)\.\n.*--discard\.\n$/);
    expect(await lettersLeft()).toBe(1);
    expect(new Set(await idsIn("postgres"))).toEqual(new Set(refused(4_000).map((_, index) => `postgres-${index}`)));
  },
);

describe("with the settings of `start`", () => {
  const readable: DeadLetter = {
    ...undecodable,
    raw: JSON.stringify({ type: "task-started", hostname: "w1@host-a", timestamp: 1, uuid: "readable" }),
  };

  it("finds the letters in the broker's Redis", async () => {
    await letters.add(refused(2));
    const settings = { REDIS_URL: "", CELERY_BROKER_URL: `${server.url}?visibility_timeout=60` };
    expect(await outputWith(settings)).toBe("2 replayed.\n");
    expect(await idsIn("postgres")).toEqual(["postgres-0", "postgres-1"]);
  });

  it("puts what has become readable into the existing queues", async () => {
    await redis.hset(`${keyOf("postgres")}:meta`, "opts.maxLenEvents", "100");
    await letters.add([readable]);
    expect(await outputOf("--dry-run")).toContain("1 could be replayed.");
    expect(await outputOf()).toBe("1 replayed.\n");
    expect(await idsIn("postgres")).toEqual(["readable"]);
    expect(await redis.keys(`${keyOf("datadog")}:*`)).toEqual([]);
  });

  it("puts it into the queues of EXPORTERS", async () => {
    await redis.hset(`${keyOf("postgres")}:meta`, "opts.maxLenEvents", "100");
    await letters.add([readable]);
    expect(await outputWith({ EXPORTERS: "datadog" })).toBe("1 replayed.\n");
    expect(await idsIn("datadog")).toEqual(["readable"]);
    expect(await idsIn("postgres")).toEqual([]);
  });

  it("puts it into the queue of every exporter if there is no queue yet", async () => {
    await letters.add([readable]);
    await outputOf();
    expect([await idsIn("datadog"), await idsIn("postgres")]).toEqual([["readable"], ["readable"]]);
  });
});

it.each([
  ["ERR_USAGE", ["--source", "postgers"], 'Unknown source "postgers". Did you mean "postgres"?'],
  ["ERR_USAGE", ["--discard-all"], "--discard-all requires --source or --reason."],
  ["ERR_USAGE", ["--limit", "0"], '--limit requires a whole number above 0, not "0".'],
  ["ERR_USAGE", ["--dryrun"], 'Unknown option "--dryrun". Did you mean "--dry-run"?'],
  ["ERR_UNAVAILABLE", ["--redis", "redis://127.0.0.1:9", "--startup-timeout-seconds", "1"], "Cannot reach Redis"],
  ["ERR_CONFIG_INVALID", ["--redis", "http://127.0.0.1"], "REDIS_URL"],
])("ends with %s after %j", async (code, args, message) => {
  await expect(outputOf(...args)).rejects.toMatchObject({ code, message: expect.stringContaining(message) as string });
});

const json = (value: unknown): DeadLetter => ({
  ...undecodable,
  reason: "content_type",
  raw: JSON.stringify(value),
  readAs: { contentType: "application/json" },
});

/** The whole content of Redis. */
async function everything(): Promise<string> {
  const keys = await redis.keys("*");
  const hashes = await Promise.all(keys.map(async (key) => ((await redis.type(key)) === "hash" ? redis.hgetall(key) : {})));
  return JSON.stringify(hashes);
}

describe("a replay, with redaction on, of letters from before", () => {
  const SECRET = "hunter2";
  const KEY = "a key that nobody guesses";
  const HASH = `<hmac:${"0a".repeat(16)}>`;
  const MODES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    drop: { REDACT_MODE: "drop" },
    hash: { REDACT_MODE: "hash", REDACT_HASH_KEY: KEY },
    patterns: { REDACT_MODE: "patterns", REDACT_PATTERNS: SECRET },
  };
  /** Every field that can be hidden. */
  const secrets = (): CeleryEvent[] => [
    taskSent({ uuid: "sent", args: `('${SECRET}',)`, kwargs: `{'card': '${SECRET}'}` }),
    taskReceived({ uuid: "received", args: `('${SECRET}',)`, kwargs: `{'card': '${SECRET}'}` }),
    taskSucceeded({ uuid: "succeeded", result: `'${SECRET}'` }),
    taskRetried({ uuid: "retried", exception: `E('${SECRET}')`, traceback: `Traceback ${SECRET}` }),
    taskFailed({ uuid: "failed", exception: `E('${SECRET}')`, traceback: `Traceback ${SECRET}` }),
  ];
  const ofExporter = (source: string): DeadLetter[] => [
    ...secrets().map((event) => ({ source, reason: "refused", detail: "", event })),
    ...secrets().map((event) => ({ source, reason: "crash", detail: "", event })),
    { source, reason: "payload", detail: "", payload: encodeBatch({ broker: "redis", events: secrets() }) },
    { source, reason: "failed", detail: "", raw: "task-1", readAs: "id to forget" },
  ];
  it.each(Object.entries(MODES))("stores nothing that %s hides, whatever letter contained it", async (_mode, settings) => {
    await letters.add([
      ...ofExporter("postgres"),
      ...ofExporter("datadog"),
      json([...secrets(), { type: "task-sent", args: SECRET }, SECRET]),
      ...secrets().map((event) => ({ source: "receiver", reason: "future", detail: "", event })),
    ]);
    expect(await everything()).toContain(SECRET);
    expect(await outputWith(settings)).toBe("30 replayed.\n");
    expect(await everything()).not.toContain(SECRET);
    const uuids = ["sent", "received", "succeeded", "retried", "failed"];
    for (const queue of ["postgres", "datadog"]) expect(new Set(await idsIn(queue))).toEqual(new Set(uuids));
    // Messages that could still not be read came back without their content.
    expect(await lettersLeft()).toBe(2);
  });

  it.each([
    [{ REDACT_MODE: "hash" }, "REDACT_HASH_KEY: is required"],
    [{ REDACT_MODE: "patterns" }, "REDACT_PATTERNS: is required"],
    [{ REDACT_PATTERNS: SECRET }, "REDACT_MODE: must be patterns"],
    [{ REDACT_FIELDS: "args" }, "REDACT_MODE: is required"],
  ])("refuses %j like the receiver, and stores nothing", async (settings, problem) => {
    await letters.add(ofExporter("postgres"));
    await expect(outputWith(settings)).rejects.toThrow(problem);
    expect(await eventsIn("postgres")).toEqual([]);
  });

  it("does not hash a hash again, but hashes everything that a client sends", async () => {
    const hashed = taskSucceeded({ uuid: "hashed", result: HASH });
    await letters.add([
      { source: "postgres", reason: "refused", detail: "", event: hashed },
      { source: "postgres", reason: "payload", detail: "", payload: encodeBatch({ broker: "redis", events: [hashed] }) },
      { source: "receiver", reason: "future", detail: "", event: hashed },
    ]);
    await outputWith(MODES["hash"] ?? {});
    expect(await eventsIn("postgres")).toEqual([hashed, hashed, hashed]);
    await redis.flushall();
    await letters.add([
      json([hashed]),
      { source: "postgres", reason: "refused", detail: "", event: { ...hashed, result: `${HASH} ` } },
      { source: "postgres", reason: "refused", detail: "", event: { ...hashed, result: `x${HASH}` } },
    ]);
    await outputWith(MODES["hash"] ?? {});
    const results = (await eventsIn("postgres")).map((event) => ("result" in event ? event.result : undefined));
    expect(results).toHaveLength(3);
    for (const result of results) expect(result).toMatch(/^<hmac:(?!0a0a)[0-9a-f]{32}>$/);
  });

  it("hides only the named fields", async () => {
    await letters.add(ofExporter("postgres").slice(0, 5));
    await outputWith({ REDACT_MODE: "drop", REDACT_FIELDS: "args,traceback" });
    expect(await eventsIn("postgres")).toEqual(
      secrets().map((event) => Object.fromEntries(Object.entries(event).filter(([field]) => field !== "args" && field !== "traceback"))),
    );
  });
});
