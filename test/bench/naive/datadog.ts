/** The naive Datadog processor: one write to Redis per event, and one datagram per metric of an ended task. */
import { createSocket } from "node:dgram";
import { Worker } from "bullmq";
import { Redis } from "ioredis";
import { CONCURRENCY, DATADOG_QUEUE, FINAL_STATES, ready, setting, type NaiveEvent } from "./naive.ts";

const COUNTERS: Readonly<Record<string, string>> = { SUCCESS: "success", FAILURE: "fail", REVOKED: "revoked", REJECTED: "rejected" };

const redis = new Redis(setting("REDIS_URL"), { maxRetriesPerRequest: null });
const socket = createSocket("udp4");
const port = Number(setting("DD_DOGSTATSD_PORT"));
const worker = new Worker<NaiveEvent>(DATADOG_QUEUE, async ({ data }) => store(data), { connection: redis, concurrency: CONCURRENCY });
await worker.waitUntilReady();
ready();

async function store(event: NaiveEvent): Promise<void> {
  const key = `naive:task:${event.uuid}`;
  await redis.hset(key, event.type, JSON.stringify(event));
  const state = FINAL_STATES[event.type];
  if (state === undefined) return;
  const known = Object.values(await redis.hgetall(key)).map((text) => JSON.parse(text) as NaiveEvent);
  const field = (name: "name" | "queue"): string => known.find((each) => each[name] !== undefined)?.[name] ?? "unknown";
  const tags = `|#task_name:${field("name")},queue:${field("queue")}`;
  const at = (type: string): number | undefined => known.find((each) => each.type === type)?.timestamp;
  send(`celery.task.${COUNTERS[state] ?? ""}_count:1|c${tags}`);
  const [sentAt, startedAt] = [at("task-sent") ?? at("task-received"), at("task-started")];
  if (startedAt !== undefined && sentAt !== undefined) send(`celery.task.wait_time:${startedAt - sentAt}|d${tags}`);
  if (startedAt !== undefined) send(`celery.task.run_time:${event.runtime ?? event.timestamp - startedAt}|d${tags}`);
  await redis.expire(key, 3_600);
}

function send(line: string): void {
  socket.send(line, port, "127.0.0.1");
}
