/** The life of an invented task, as the events Celery would send (celery/events, celery/worker/request.py). For demos without Celery. */
import { randomUUID } from "node:crypto";
import type { FinalState } from "./comparison.ts";

/** An event as it is on the wire. */
export interface WireEvent {
  readonly type: string;
  /** Unix time in seconds. */
  readonly timestamp: number;
  readonly [field: string]: unknown;
}

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
  /** The share of tasks that fail, and of those that are tried once more first. */
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

/** One task sent at `startSeconds`, to a queue whose name begins with `queuePrefix`. `random` gives numbers from 0 to 1. */
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
