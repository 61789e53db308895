/** Remote control of real Celery workers, on both brokers. */
import type { BrokerLink } from "@celery-metrics-exporter/broker";
import { createVhost, startCeleryWorker, startRedis, startSentinel, type CeleryWorker } from "@celery-metrics-exporter/testkit";
import { connect } from "amqplib";
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import type { Control } from "../src/index.ts";
import { BROKERS, openControl, type TestBroker } from "./broker.ts";

const WAIT = { timeoutMs: 5_000 };
const anything: unknown = expect.anything();
const aString: unknown = expect.any(String);
const aNumber: unknown = expect.any(Number);

interface Row {
  readonly method: string;
  readonly args?: Readonly<Record<string, unknown>>;
  readonly reply: unknown;
}

const POOLS = {
  prefork: { "max-concurrency": 2, processes: [aNumber, aNumber] },
  threads: { "max-concurrency": 2, threads: aNumber },
  solo: { "max-concurrency": 1, processes: [aNumber] },
} as const;
type Pool = keyof typeof POOLS;

/** What a worker of the queue `default` answers to the commands that change nothing. */
function inspections(pool: Pool): readonly Row[] {
  return [
    { method: "ping", reply: { ok: "pong" } },
    { method: "active_queues", reply: [expect.objectContaining({ name: "default", routing_key: "default", exchange: anything })] },
    {
      method: "stats",
      reply: expect.objectContaining({
        pid: aNumber,
        uptime: aNumber,
        prefetch_count: aNumber,
        pool: expect.objectContaining(POOLS[pool]) as unknown,
      }),
    },
    { method: "active", args: { safe: null }, reply: [] },
    { method: "reserved", reply: [] },
    { method: "scheduled", reply: [] },
    { method: "revoked", reply: [] },
    { method: "registered", args: { taskinfoitems: [] }, reply: expect.arrayContaining(["inspected.rest"]) },
    { method: "conf", args: { with_defaults: false }, reply: expect.objectContaining({ task_ignore_result: true }) },
    { method: "query_task", args: { ids: ["of-no-task"] }, reply: {} },
    { method: "report", reply: { ok: aString } },
    { method: "clock", reply: { clock: aNumber } },
    // Null without psutil.
    { method: "memsample", reply: expect.toBeOneOf([null, aString]) },
    { method: "memdump", args: { samples: 10 }, reply: aString },
    { method: "heartbeat", reply: null },
  ];
}

/** What `worker@host` (prefork, two processes) answers to those that change something, in the order in which it is asked. */
const CHANGES: readonly Row[] = [
  { method: "revoke", args: { task_id: "of-no-task", terminate: false, signal: "SIGTERM" }, reply: { ok: aString } },
  { method: "terminate", args: { signal: "TERM", task_id: "of-no-task" }, reply: { ok: aString } },
  { method: "rate_limit", args: { task_name: "inspected.rest", rate_limit: "100/m" }, reply: { ok: aString } },
  { method: "time_limit", args: { task_name: "inspected.rest", soft: 60, hard: 120 }, reply: { ok: aString } },
  { method: "pool_grow", args: { n: 1 }, reply: { ok: "pool will grow" } },
  { method: "pool_shrink", args: { n: 1 }, reply: { ok: "pool will shrink" } },
  { method: "pool_restart", args: { modules: null, reload: false, reloader: null }, reply: { ok: aString } },
  {
    method: "add_consumer",
    args: { queue: "second", exchange: null, exchange_type: "direct", routing_key: null },
    reply: { ok: "add consumer second" },
  },
  { method: "cancel_consumer", args: { queue: "second" }, reply: { ok: "no longer consuming from second" } },
  { method: "enable_events", reply: { ok: aString } },
  { method: "disable_events", reply: { ok: aString } },
];

const ERRORS: readonly (Row & { readonly error: RegExp })[] = [
  { method: "no_such_command", reply: undefined, error: /KeyError/ },
  { method: "active_queues", args: { queue: "default" }, reply: undefined, error: /TypeError/ },
  { method: "rate_limit", args: { task_name: "no.task", rate_limit: "1/s" }, reply: undefined, error: /unknown task/ },
  { method: "autoscale", args: { max: 3, min: 1 }, reply: undefined, error: /Autoscale not enabled/ },
];

/** On Redis a worker says that it is ready a moment before it listens. Waits until so many do, without a question to any of them. */
async function listens(control: Control, workers: number): Promise<void> {
  const nobody = { timeoutMs: 0, destination: ["nobody@host"] };
  await vi.waitFor(async () => expect((await control.ask("ping", {}, nobody)).asked).toBe(workers), { timeout: 20_000 });
}

describe.each(Object.entries(BROKERS))("on %s", (name, startBroker) => {
  let broker: TestBroker;
  let control: Control;
  let link: BrokerLink;
  let worker: CeleryWorker;
  const firsts: CeleryWorker[] = [];
  const others: CeleryWorker[] = [];

  const start = async (hostname: string, env: Record<string, string> = {}, more: object = {}): Promise<CeleryWorker> => {
    const listening = firsts.length + others.length + 1;
    const started = await startCeleryWorker({ brokerUrl: broker.url, app: "inspected", queues: ["default"], hostname, env, ...more });
    if (name === "Redis" && env["REMOTE_CONTROL"] !== "0") await listens(control, listening);
    return started;
  };

  beforeAll(async () => {
    broker = await startBroker();
    ({ control, link } = await openControl(broker.url));
    worker = await start("worker@host");
    firsts.push(worker);
  });
  afterEach(async () => {
    await Promise.all(others.splice(0).map((other) => other.kill()));
  });
  afterAll(async () => {
    await worker?.kill();
    await link?.stop();
    await broker?.stop();
  });

  const expected = { ...WAIT, expected: 1 };

  it.each([...inspections("prefork"), ...CHANGES])("$method $args is answered", async ({ method, args = {}, reply }) => {
    const { replies, errors, unreadable } = await control.ask(method, args, expected);
    expect({ replies: Object.fromEntries(replies), errors: errors.size, unreadable }).toEqual({
      replies: { "worker@host": [reply] },
      errors: 0,
      unreadable: [],
    });
  });

  it.each(ERRORS)("$method $args is answered with an error", async ({ method, args = {}, error }) => {
    const answers = await control.ask(method, args, expected);
    expect(answers.replies.size).toBe(0);
    expect(answers.errors.get("worker@host")).toEqual([expect.stringMatching(error)]);
  });

  it.each(["threads", "solo"] as const)("every command that changes nothing is answered by the pool %s", async (pool) => {
    others.push(await start("other@host", {}, { pool }));
    for (const { method, args = {}, reply } of inspections(pool)) {
      const { replies, errors } = await control.ask(method, args, { ...expected, destination: ["other@host"] });
      expect({ method, replies: replies.get("other@host"), errors: errors.size }).toEqual({ method, replies: [reply], errors: 0 });
    }
  });

  it("objgraph is answered, with an error if the worker does not have that library", async () => {
    const { replies, errors } = await control.ask("objgraph", { num: 1, max_depth: 1, type: "NoSuchType" }, expected);
    const answers = [...(replies.get("worker@host") ?? []), ...(errors.get("worker@host") ?? [])];
    expect(answers).toEqual([expect.toBeOneOf([{ filename: aString }, expect.stringContaining("objgraph library")])]);
  });

  it("revoke_by_stamped_headers is answered, since Celery 5.3", async () => {
    const { replies: reports } = await control.ask("report", {}, expected);
    const [, version] = /celery:(\d+\.\d+)/.exec(JSON.stringify(reports.get("worker@host"))) ?? [];
    const args = { headers: { tenant: ["7"] }, terminate: false, signal: "SIGTERM" };
    const { replies, errors } = await control.ask("revoke_by_stamped_headers", args, expected);
    const answer = JSON.stringify([...(replies.get("worker@host") ?? []), ...(errors.get("worker@host") ?? [])]);
    expect(answer).toMatch(Number(version) < 5.3 ? /KeyError/ : /"ok":"headers .* flagged as revoked/);
  });

  it("autoscale is answered by a worker that scales", async () => {
    others.push(await start("other@host", {}, { args: ["--autoscale", "3,1"] }));
    const only = { ...expected, destination: ["other@host"] };
    const { replies } = await control.ask("autoscale", { max: 4, min: 2 }, only);
    expect(replies.get("other@host")).toEqual([{ ok: "autoscale now max=4 min=2" }]);
    const { errors } = await control.ask("pool_grow", { n: 1 }, only);
    expect(errors.get("other@host")).toEqual([expect.stringContaining("autoscale")]);
  });

  it("asks only the nodes that it is told to", async () => {
    others.push(await start("other@host"));
    const both = await control.ask("ping", {}, { ...WAIT, expected: 2 });
    expect([...both.replies.keys()].sort()).toEqual(["other@host", "worker@host"]);
    const one = await control.ask("ping", {}, { ...WAIT, expected: 1, destination: ["other@host"] });
    expect([...one.replies.keys()]).toEqual(["other@host"]);
    expect((await control.ask("ping", {}, { ...WAIT, destination: [] })).replies.size).toBe(0);
  });

  it("keeps the replies of two nodes of one name, and says so", async () => {
    others.push(await start("worker@host"));
    // On RabbitMQ they share a queue, so that each question reaches only one of them.
    const answering = name === "Redis" ? 2 : 1;
    const { replies, duplicates } = await control.ask("stats", {}, { ...WAIT, expected: answering });
    const pids = replies.get("worker@host")?.map((value) => (value as { pid: number }).pid);
    expect(new Set(pids).size).toBe(answering);
    expect(duplicates).toEqual(answering === 2 ? ["worker@host"] : []);
  });

  it.each([
    ["msgpack", "stats", expect.objectContaining({ pid: aNumber }) as unknown],
    // Celery itself cannot write `stats` as YAML.
    ["yaml", "ping", { ok: "pong" }],
  ])("reads replies in %s: to %s", async (serializer, method, reply) => {
    others.push(await start("other@host", { TASK_SERIALIZER: serializer }));
    const { replies } = await control.ask(method, {}, { ...WAIT, expected: 1, destination: ["other@host"] });
    expect(replies.get("other@host")).toEqual([reply]);
  });

  it("asks in msgpack", async () => {
    const inMsgpack = await openControl(broker.url, { serializer: "msgpack", deployment: "msgpack" });
    others.push(await start("other@host", { TASK_SERIALIZER: "msgpack" }));
    const { replies } = await inMsgpack.control.ask("ping", {}, { ...WAIT, expected: 1, destination: ["other@host"] });
    await inMsgpack.link.stop();
    expect(replies.get("other@host")).toEqual([{ ok: "pong" }]);
  });

  it("never loads a pickled reply, and reports it", async () => {
    others.push(await start("other@host", { TASK_SERIALIZER: "pickle", C_FORCE_ROOT: "1" }));
    const { replies, unreadable } = await control.ask("ping", {}, { ...WAIT, expected: 1, destination: ["other@host"] });
    expect(replies.size).toBe(0);
    expect(unreadable).toEqual([{ reason: "pickle", detail: expect.stringContaining("task_serializer") as string }]);
  });

  it("gets no answer from a worker without remote control, without an error", async () => {
    others.push(await start("other@host", { REMOTE_CONTROL: "0" }));
    const { replies, errors } = await control.ask("ping", {}, { timeoutMs: 500 });
    expect([...replies.keys(), ...errors.keys()]).toEqual(["worker@host"]);
  });

  it("drops the replies to questions that are no longer open", async () => {
    const before = control.strays;
    process.kill(worker.pid, "SIGSTOP");
    const { replies: none } = await control.ask("ping", {}, { timeoutMs: 50 });
    process.kill(worker.pid, "SIGCONT");
    expect(none.size).toBe(0);
    const { replies } = await control.ask("clock", {}, expected);
    expect(replies.get("worker@host")).toEqual([{ clock: aNumber }]);
    expect(control.strays).toBe(before + 1);
  });

  it("collects the answers to two questions at once", async () => {
    const [ping, clock] = await Promise.all([control.ask("ping", {}, expected), control.ask("clock", {}, expected)]);
    expect(ping.replies.get("worker@host")).toEqual([{ ok: "pong" }]);
    expect(clock.replies.get("worker@host")).toEqual([{ clock: aNumber }]);
  });

  it(`says how many workers got the question: ${name}`, async () => {
    const { asked } = await control.ask("ping", {}, expected);
    expect(asked).toBe(name === "Redis" ? 1 : undefined);
  });

  it("has no reply to shutdown, which ends the worker", async () => {
    others.push(await start("other@host"));
    const { replies } = await control.ask("shutdown", {}, { timeoutMs: 300, destination: ["other@host"] });
    expect(replies.size).toBe(0);
    await expect.poll(async () => (await control.ask("ping", {}, { timeoutMs: 200 })).replies.has("other@host")).toBe(false);
  });
});

it("gets replies although RabbitMQ does not confirm the question, because a queue refuses it", async () => {
  const vhost = await createVhost();
  const worker = await startCeleryWorker({ brokerUrl: vhost.url, app: "inspected", queues: ["default"], hostname: "worker@host" });
  const { control, link } = await openControl(vhost.url);
  const administrator = await connect(vhost.url);
  try {
    const channel = await administrator.createConfirmChannel();
    await channel.assertQueue("full", { maxLength: 1, overflow: "reject-publish" });
    await channel.bindQueue("full", "celery.pidbox", "");
    channel.sendToQueue("full", Buffer.from("x"));
    await channel.waitForConfirms();
    for (const _ of [1, 2]) {
      const { replies } = await control.ask("ping", {}, { ...WAIT, expected: 1 });
      expect(replies.get("worker@host")).toEqual([{ ok: "pong" }]);
    }
  } finally {
    await worker.kill();
    await administrator.close();
    await link.stop();
    await vhost.drop();
  }
});

it("asks a worker behind a Sentinel, and gets its replies and its events", async () => {
  const server = await startRedis();
  const sentinel = await startSentinel({ masterPort: server.port });
  const brokerUrl = `sentinel://127.0.0.1:${sentinel.port}/3`;
  const events: string[] = [];
  const listener = new Redis(server.url);
  listener.on("pmessage", (_pattern: string, channel: string) => events.push(channel));
  await listener.psubscribe("*celeryev/worker.*");
  const { control, link } = await openControl(brokerUrl);
  const worker = await startCeleryWorker({
    brokerUrl,
    app: "inspected",
    queues: ["default"],
    hostname: "worker@host",
    env: { SENTINEL: "1" },
  });
  try {
    await listens(control, 1);
    const { replies, asked } = await control.ask("ping", {}, WAIT);
    expect({ asked, replies: [...replies] }).toEqual({ asked: 1, replies: [["worker@host", [{ ok: "pong" }]]] });
    const before = events.length;
    expect((await control.ask("heartbeat", {}, WAIT)).replies.get("worker@host")).toEqual([null]);
    await expect.poll(() => events.length).toBeGreaterThan(before);
  } finally {
    await worker.kill();
    await link.stop();
    listener.disconnect();
    await sentinel.stop();
    await server.stop();
  }
});
