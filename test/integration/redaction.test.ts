/** With redaction, what users put into their tasks is stored nowhere: in no Redis command, in no key, in no row. */
import type { AmqpFrame } from "@celery-metrics-exporter/celery/testing";
import { sharedRabbitmqUrl, startRedis } from "@celery-metrics-exporter/testkit";
import { once } from "node:events";
import { Redis } from "ioredis";
import { describe, expect, it, vi } from "vitest";
import { startWholePipeline, type WholePipeline } from "./whole-pipeline.ts";

const SECRET = "hunter2-4111111111111111";
/** A number among the arguments that must become unrecognisable. */
const NUMBER = 987_654_321_012;
const NAME = "shop.tasks.charge";

const MODES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  drop: { REDACT_MODE: "drop" },
  hash: { REDACT_MODE: "hash", REDACT_HASH_KEY: "a key that nobody guesses" },
  patterns: { REDACT_MODE: "patterns", REDACT_PATTERNS: `hunter2-\\d+\n\\b${NUMBER}\\b` },
};

function frame(body: Buffer | string, contentType = "application/json"): AmqpFrame {
  const properties = { contentType, contentEncoding: "utf-8", headers: { hostname: "w1@host" }, deliveryMode: 1, priority: 0 };
  return { transport: "amqp", routingKey: "task.multi", body: Buffer.from(body), properties };
}

/** Two tasks, one of which fails, with secrets in strings, numbers and lists; then messages that cannot be read. */
function frames(): { readonly readable: readonly AmqpFrame[]; readonly unreadable: readonly AmqpFrame[]; readonly events: number } {
  const at = Date.now() / 1_000 - 10;
  const event = (type: string, uuid: string, seconds: number, fields: object): object => ({
    type,
    uuid,
    hostname: "w1@host",
    timestamp: at + seconds,
    utcoffset: 0,
    pid: 1,
    clock: 1,
    ...fields,
  });
  const values = { args: `('${SECRET}', ${NUMBER})`, kwargs: `{'card': '${SECRET}'}` };
  const events = [
    event("task-sent", "good", 0, { name: NAME, queue: "q", ...values }),
    event("task-received", "good", 1, { name: NAME, args: [SECRET, NUMBER], kwargs: { card: SECRET } }),
    event("task-started", "good", 2, {}),
    event("task-succeeded", "good", 3, { result: NUMBER, runtime: 1 }),
    event("task-received", "bad", 1, { name: NAME, ...values }),
    event("task-started", "bad", 2, {}),
    event("task-retried", "bad", 3, { exception: `ValueError('${SECRET}')`, traceback: `Traceback\n${SECRET}` }),
    event("task-failed", "bad", 4, { exception: `ValueError('${SECRET}')`, traceback: `Traceback\n${SECRET}` }),
    event("task-custom", "bad", 5, { order: SECRET }),
  ];
  const unreadable = [
    frame(JSON.stringify(events).slice(0, -3)),
    frame(JSON.stringify([{ ...events[0], timestamp: "soon" }, SECRET])),
    frame(Buffer.concat([Buffer.from([0x93, 0xc1]), Buffer.from(SECRET)]), "application/x-msgpack"),
    frame(`cos\nsystem\n(S'${SECRET}'\n`, "application/x-python-serialize"),
    frame(SECRET, "text/plain"),
  ];
  return { readable: [frame(JSON.stringify(events))], unreadable, events: events.length };
}

/** The texts in which the secret can appear: itself, and the base64 of any text that contains it, at each of the three offsets. */
const TRACES = [
  SECRET,
  String(NUMBER),
  ...[0, 1, 2].map((offset) =>
    Buffer.from("x".repeat(offset) + SECRET)
      .toString("base64")
      .slice(4, 4 + 20),
  ),
];

interface Searched {
  readonly commands: number;
  readonly letters: number;
  readonly rows: readonly Record<string, unknown>[];
  /** The places where it was found. */
  readonly found: readonly string[];
}

/** Runs the tasks through a whole pipeline and searches everything that was stored meanwhile and in the end. */
async function search(mode: string, env: Readonly<Record<string, string>>): Promise<Searched> {
  const server = await startRedis();
  const redis = new Redis(server.url);
  const monitor = await redis.monitor();
  const commands: string[] = [];
  monitor.on("monitor", (_time: string, args: readonly string[]) => void commands.push(args.join(" ")));
  const name = `redaction-${mode}`;
  const pipeline = await startWholePipeline({
    redisUrl: server.url,
    brokerUrl: sharedRabbitmqUrl(),
    name,
    env: { ...env, DATADOG_GRACE_MS: "100", DATADOG_INCOMPLETE_WAIT_MS: "500", STARTUP_TIMEOUT_SECONDS: "60" },
  });
  try {
    const { readable, unreadable, events } = frames();
    await pipeline.publish([...readable, ...unreadable]);
    await pipeline.handled(events);
    // `expect.poll` does not know to which of several concurrent tests it belongs.
    await vi.waitFor(async () => expect(await pipeline.deadLetters()).toBe(unreadable.length + 1), { timeout: 30_000 });
    return await searchAll(pipeline, redis, commands);
  } finally {
    await pipeline.close();
    monitor.disconnect();
    redis.disconnect();
    await once(redis, "end");
    await server.stop();
  }
}

async function searchAll(pipeline: WholePipeline, redis: Redis, commands: readonly string[]): Promise<Searched> {
  const keys = await redis.keys("*");
  const dumps = await Promise.all(keys.map(async (key) => `${key} ${await textOf(redis, key)}`));
  const rows = await pipeline.rows();
  const places = [...commands, ...dumps, ...rows.map((row) => JSON.stringify(row))];
  const letters = commands.filter((command) => command.includes('"source":"receiver"')).length;
  return { commands: commands.length, letters, rows, found: places.filter((place) => TRACES.some((trace) => place.includes(trace))) };
}

async function textOf(redis: Redis, key: string): Promise<string> {
  switch (await redis.type(key)) {
    case "string":
      return (await redis.get(key)) ?? "";
    case "hash":
      return JSON.stringify(await redis.hgetall(key));
    case "list":
      return (await redis.lrange(key, 0, -1)).join(" ");
    case "zset":
      return (await redis.zrange(key, "0", "-1")).join(" ");
    case "set":
      return (await redis.smembers(key)).join(" ");
    case "stream":
      return JSON.stringify(await redis.xrange(key, "-", "+"));
    case "none":
      // It expired meanwhile.
      return "";
    default:
      throw new Error(`${key} is of a type that is not searched`);
  }
}

describe("redaction", () => {
  it.concurrent("is off by default, and this search finds what is stored", async () => {
    const { found, rows } = await search("off", {});
    expect(found.length).toBeGreaterThanOrEqual(5);
    expect(rows.find(({ task_id: id }) => id === "good")).toMatchObject({ args: `('${SECRET}', ${NUMBER})`, result: String(NUMBER) });
  });

  it.concurrent.each(Object.entries(MODES))("leaves no trace with %s, and every task its row", async (mode, env) => {
    const { found, rows, commands, letters } = await search(mode, env);
    expect(found).toEqual([]);
    expect(commands).toBeGreaterThan(10);
    expect(letters).toBeGreaterThan(0);
    const states = Object.fromEntries(rows.map(({ task_id: id, status, name }) => [id, [status, name]]));
    expect(states).toEqual({ good: ["SUCCESS", NAME], bad: ["FAILURE", NAME] });
    const { args, exception } = rows.find(({ task_id: id }) => id === "bad") ?? {};
    const shown: Readonly<Record<string, readonly unknown[]>> = {
      drop: [null, null],
      hash: [expect.stringMatching(/^<hmac:/), expect.stringMatching(/^<hmac:/)],
      patterns: ["('[redacted]', [redacted])", "ValueError('[redacted]')"],
    };
    expect([args, exception]).toEqual(shown[mode]);
  });
});
