/** For demos without Celery: simulates tasks and publishes their events in real time. */
import { connectRabbitmq, parseBrokerUrl } from "@celery-metrics-exporter/broker";
import { UnavailableError, backoffMs, pause, redactUrl, redisAddress, toError } from "@celery-metrics-exporter/runtime";
import { publishToRabbitmq, publishToRedis, toFrames, type Publisher, type WireEvent } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { randomUUID } from "node:crypto";
import { TaskCounts, type FinalState } from "./comparison.ts";
import type { Workload } from "./workload.ts";

/** A simulated task, as the events that Celery would send (celery/events, celery/worker/request.py). */
export interface SimulatedTask {
  readonly name: string;
  /** The state it ends in. */
  readonly state: FinalState;
  /** In order of time. */
  readonly events: readonly WireEvent[];
}

interface Kind {
  readonly name: string;
  readonly queue: string;
  readonly meanSeconds: number;
  /** The shares of tasks that fail, and of tasks that are retried first. */
  readonly fails: number;
  readonly retries: number;
  readonly args: string;
}

const KINDS = [
  { name: "shop.charge_card", queue: "payments", meanSeconds: 0.15, fails: 0.05, retries: 0.15, args: "(1042, Decimal('19.99'))" },
  { name: "shop.send_receipt", queue: "mail", meanSeconds: 0.05, fails: 0.02, retries: 0.05, args: "('customer@example.com',)" },
  { name: "shop.resize_image", queue: "images", meanSeconds: 0.4, fails: 0.1, retries: 0, args: "('products/7.png', (640, 480))" },
  { name: "shop.update_stock", queue: "default", meanSeconds: 0.02, fails: 0, retries: 0, args: "({'sku': 'A-7', 'by': -1},)" },
] as const satisfies readonly Kind[];

const WORKER = "celery@simulated";
const CLIENT = "gen1@simulated";
const REVOKED_SHARE = 0.02;

/** One task sent at `startSeconds` to a queue with the prefix `queuePrefix`. `random` returns numbers from 0 to 1. */
export function simulateTask(startSeconds: number, random: () => number = Math.random, queuePrefix = ""): SimulatedTask {
  const kind = KINDS[Math.floor(random() * KINDS.length)] ?? KINDS[0];
  const queue = queuePrefix + kind.queue;
  const uuid = randomUUID();
  const events: WireEvent[] = [];
  let now = startSeconds;
  const send = (type: string, hostname: string, fields: Record<string, unknown> = {}): void => {
    events.push({ hostname, utcoffset: 0, pid: 1, clock: events.length + 1, uuid, ...fields, timestamp: now, type });
  };
  const describe = (retries: number): Record<string, unknown> => {
    return { name: kind.name, args: kind.args, kwargs: "{}", root_id: uuid, parent_id: null, retries, eta: null, expires: null };
  };
  const attempt = (retries: number): number => {
    send("task-sent", CLIENT, { ...describe(retries), queue, exchange: "", routing_key: queue });
    now += 0.002 + random() * 0.05;
    send("task-received", WORKER, describe(retries));
    now += random() * 0.2;
    send("task-started", WORKER);
    const runtime = kind.meanSeconds * (0.5 + random());
    now += runtime;
    return runtime;
  };

  if (random() < REVOKED_SHARE) {
    send("task-sent", CLIENT, { ...describe(0), queue, exchange: "", routing_key: queue });
    now += 0.05;
    send("task-revoked", WORKER, { terminated: false, signum: null, expired: false });
    return { name: kind.name, state: "REVOKED", events };
  }
  let runtime = attempt(0);
  if (random() < kind.retries) {
    send("task-retried", WORKER, { exception: "TimeoutError('upstream')", traceback: "Traceback (most recent call last): …" });
    now += 0.2;
    runtime = attempt(1);
  }
  if (random() < kind.fails) {
    send("task-failed", WORKER, { exception: "ValueError('no such order')", traceback: "Traceback (most recent call last): …" });
    return { name: kind.name, state: "FAILURE", events };
  }
  send("task-succeeded", WORKER, { result: "None", runtime });
  return { name: kind.name, state: "SUCCESS", events };
}

const TICK_MS = 50;
const TASKS_PER_SECOND = 40;

/** Starts sending. @throws {UnavailableError} if the broker cannot be reached. */
export async function startSimulator(brokerUrl: string, queuePrefix: string): Promise<Workload> {
  const publisher = await connectPublisher(brokerUrl);
  const counts = new TaskCounts();
  const stopping = new AbortController();
  let waiting: WireEvent[] = [];
  const sending = { isOn: true };

  const run = async (): Promise<void> => {
    let owed = 0;
    while (!stopping.signal.aborted && (sending.isOn || waiting.length > 0)) {
      const now = Date.now() / 1000;
      if (sending.isOn) owed += (TASKS_PER_SECOND * TICK_MS) / 1000;
      for (; sending.isOn && owed >= 1; owed--) {
        const task = simulateTask(now, Math.random, queuePrefix);
        counts.add(task.name, task.state);
        waiting.push(...task.events);
      }
      const due = waiting.filter(({ timestamp }) => timestamp <= now);
      waiting = waiting.filter(({ timestamp }) => timestamp > now);
      if (due.length > 0) await publisher.publish(toFrames(due));
      await pause(TICK_MS, stopping.signal);
    }
  };
  const running = run();
  const failed = new Promise<never>((_resolve, reject) => void running.catch(reject));
  failed.catch(() => {});
  return {
    description: "by a simulator of Celery's events, because Celery was not found",
    get sent() {
      return counts.total;
    },
    failed,
    finish: async () => {
      sending.isOn = false;
      await running;
      await publisher.confirmed();
    },
    outcome: () => ({ ended: counts, withoutEnd: new Map() }),
    stop: async () => {
      stopping.abort();
      // Closed first: a publisher that waits for its broker to come back would delay the rest.
      await publisher.close().catch(() => {});
      await running.catch(() => {});
    },
  };
}

/** Uses the receiver's connection code, so that a broker URL means the same to both. @throws {UnavailableError} if the broker cannot be reached. */
async function connectPublisher(url: string): Promise<Publisher> {
  const parsed = parseBrokerUrl(url);
  if (!parsed.ok) throw new UnavailableError(`CELERY_BROKER_URL: ${parsed.problem}.`);
  try {
    if (parsed.url.broker === "rabbitmq") {
      const server = firstOf(parsed.url.servers);
      return await publishToRabbitmq(() => connectRabbitmq(server, { use: "demo" }));
    }
    if (parsed.url.broker === "redis") {
      const server = firstOf(parsed.url.servers);
      const address = redisAddress(server, "CELERY_BROKER_URL");
      const redis = new Redis({ ...address, lazyConnect: true, retryStrategy: (attempt) => backoffMs(attempt) });
      redis.on("error", () => {});
      await redis.connect();
      return publishToRedis(redis, server.db, { mustBeHeard: false });
    }
  } catch (thrown) {
    throw new UnavailableError(`Cannot publish to ${redactUrl(url)} (${toError(thrown).message}).`, { cause: thrown });
  }
  throw new UnavailableError("The event simulator supports only RabbitMQ and Redis.");
}

function firstOf<T>([server]: readonly T[]): T {
  if (server === undefined) throw new Error("CELERY_BROKER_URL names no server");
  return server;
}
