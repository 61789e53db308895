/** The environment of one measurement: empty queues and tables, processes of every role, a publisher and an agent. Measures their usage. */
import { setTimeout as sleep } from "node:timers/promises";
import { migrate } from "@celery-metrics-exporter/db";
import { eventsQueueName } from "@celery-metrics-exporter/pipeline";
import { connectPublisher, type Publisher } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { Client } from "pg";
import { Fleet } from "../fleet/fleet.ts";
import { sumOf } from "../fleet/own-metrics.ts";
import type { Environment } from "../fleet/role-process.ts";
import { Agent } from "./agent.ts";
import type { Expected, Status } from "./expected.ts";
import { usageOf, type Usage } from "./process-usage.ts";
import { prepareBurst, publishBurst, type Framing } from "./prepared-load.ts";
import type { Servers } from "./servers.ts";

/** The roles that most scenarios measure: those that `EXPORTERS` starts by default. */
export const ROLES = ["receiver", "datadog-processor", "postgres-processor"] as const;
export type RoleName = (typeof ROLES)[number] | "prometheus-processor";

export const EXPORTER_NAMES = ["datadog", "postgres"] as const;
export type ExporterName = (typeof EXPORTER_NAMES)[number] | "prometheus";
export type BrokerName = "RabbitMQ" | "Redis";

export interface StageOptions {
  readonly broker: BrokerName;
  /** Default: one process per role. */
  readonly processes?: Readonly<Partial<Record<RoleName, number>>>;
  readonly env?: Environment;
}

/** Roles and servers. There are two Redis servers; `Redis` is the one with the exporter queues. */
export type Consumer = RoleName | "RabbitMQ" | "Redis" | "broker Redis" | "PostgreSQL";

export type UsageByConsumer = ReadonlyMap<Consumer, Usage>;

/** Number of warm-up events: V8 keeps optimising for a long time, and the Store is never empty in real life. */
export const WARM_UP_EVENTS = 200_000;
/** Longer than any measurement takes. */
const DELIVERY_TIMEOUT_MS = 600_000;
const ONE_OF_EACH = { receiver: 1, "datadog-processor": 1, "postgres-processor": 1 } as const;
const POLL_MS = 50;
/** Interval of reading a process's metrics, which costs it milliseconds: more often, this would affect the measurement. */
const ASK_MS = 250;
const METRICS: Readonly<Record<Status, string>> = {
  SUCCESS: "celery.task.success_count",
  FAILURE: "celery.task.fail_count",
  REVOKED: "celery.task.revoked_count",
  REJECTED: "celery.task.rejected_count",
};

/** When everything had arrived, in Unix time in ms. */
export interface Delivered {
  readonly rowsAt: number;
  readonly metricsAt: number;
}

export interface BurstCost {
  /** CPU time per event, in µs. */
  readonly used: ReadonlyMap<Consumer, number>;
  /** From the first published event to the last committed row. */
  readonly eventsPerSecond: number;
}

export class Stage {
  readonly fleet: Fleet;
  readonly publisher: Publisher;
  readonly redis: Redis;
  readonly database: Client;
  readonly agent: Agent;
  /** The metrics of its processes. */
  readonly env: Environment;
  readonly #servers: Servers;
  readonly #drop: () => Promise<void>;

  private constructor(
    parts: Pick<Stage, "fleet" | "publisher" | "redis" | "database" | "agent" | "env">,
    servers: Servers,
    drop: () => Promise<void>,
  ) {
    this.fleet = parts.fleet;
    this.publisher = parts.publisher;
    this.redis = parts.redis;
    this.database = parts.database;
    this.agent = parts.agent;
    this.env = parts.env;
    this.#servers = servers;
    this.#drop = drop;
  }

  /** Resolves when every process is ready and receives what is published. */
  static async open(servers: Servers, { broker, processes = ONE_OF_EACH, env = {} }: StageOptions): Promise<Stage> {
    const name = `bench_${Date.now()}`;
    const brokerUrl = broker === "RabbitMQ" ? `${servers.rabbitmq.url}/${name}` : `${servers.brokerRedis.url}/0`;
    const databaseUrl = Object.assign(new URL(servers.postgres.url), { pathname: `/${name}` }).href;
    const redis = new Redis(servers.redis.url);
    await redis.flushall();
    if (broker === "RabbitMQ") await createVhost(servers, name);
    await administer(servers, `CREATE DATABASE ${name}`);
    await migrate(databaseUrl);
    const agent = await Agent.start();
    const roleEnv = {
      CELERY_BROKER_URL: brokerUrl,
      REDIS_URL: servers.redis.url,
      DATABASE_URL: databaseUrl,
      DD_AGENT_HOST: "127.0.0.1",
      DD_DOGSTATSD_PORT: String(agent.port),
      LOG_LEVEL: "info",
      ...env,
    };
    const fleet = await Fleet.start({ env: roleEnv, processes });
    const publisher = await connectPublisher(brokerUrl);
    const database = new Client({ connectionString: databaseUrl });
    await database.connect();
    return new Stage({ fleet, publisher, redis, database, agent, env: roleEnv }, servers, async () => {
      await administer(servers, `DROP DATABASE ${name} WITH (FORCE)`);
      if (broker === "RabbitMQ") await servers.rabbitmq.ctl("delete_vhost", name);
    });
  }

  /** Usage since each process began; for a role, the sum of its processes. */
  usage(): UsageByConsumer {
    const { rabbitmq, brokerRedis, redis, postgres } = this.#servers;
    const usage = new Map<Consumer, Usage>();
    for (const role of [...ROLES, "prometheus-processor"] as const)
      usage.set(role, sum(this.fleet.processes(role).map(({ child }) => usageOf(child.pid ?? 0))));
    usage.set("RabbitMQ", usageOf(rabbitmq.pid));
    usage.set("broker Redis", usageOf(brokerRedis.pid));
    usage.set("Redis", usageOf(redis.pid));
    usage.set("PostgreSQL", usageOf(postgres.pid));
    return usage;
  }

  /**
   * Resolves when every task has its final row and every metric has been sent. Call it when everything is published.
   *
   * @throws {Error} if that takes longer than `timeoutMs`, or if there is more than expected: wrong results are not measured.
   */
  async delivered(expected: Expected, timeoutMs = DELIVERY_TIMEOUT_MS): Promise<Delivered> {
    const deadline = Date.now() + timeoutMs;
    let rowsAt: number | undefined;
    let metricsAt: number | undefined;
    for (; rowsAt === undefined || metricsAt === undefined; await sleep(POLL_MS)) {
      if (Date.now() > deadline) throw new Error(`lost: ${await this.#shortfall(expected)}`);
      if (this.agent.tasks >= expected.tasks && this.agent.samples >= expected.samples) metricsAt ??= Date.now();
      // Counting the rows of a large table costs as much as a batch.
      if (rowsAt === undefined && (await this.#waiting("postgres")) === 0) {
        const emptyAt = Date.now();
        if ((await this.finalRows()) >= expected.tasks) rowsAt = emptyAt;
      }
    }
    await this.#check(expected);
    return { rowsAt, metricsAt };
  }

  /**
   * Publishes and waits for the result: a new process compiles its code, and its first events cost several times as much as the later ones.
   * The next measurement expects these events too.
   */
  async warmUp(framing: Framing): Promise<Expected> {
    const { frames, expected } = prepareBurst(WARM_UP_EVENTS, framing);
    await publishBurst(this.publisher, frames);
    await this.delivered(expected);
    return expected;
  }

  /** Warms up, publishes this many events as fast as the broker accepts them, and returns their cost and their rate. */
  async measureBurst(events: number, framing: Framing): Promise<BurstCost> {
    const expected = await this.warmUp(framing);
    const burst = prepareBurst(events, framing);
    expected.addAll(burst.expected);
    const before = this.usage();
    const began = Date.now();
    await publishBurst(this.publisher, burst.frames);
    // The grace for late events is not work, but it is over when the metrics are sent.
    const { rowsAt } = await this.delivered(expected);
    const used = microsPerEvent(before, this.usage(), burst.expected.events);
    return { used, eventsPerSecond: (burst.expected.events / (rowsAt - began)) * 1_000 };
  }

  /**
   * Publishes this many events, and returns the cost of each until all of them are in the queues of these exporters, which no processor reads.
   *
   * @param expected everything published before; these events are added.
   */
  async measureEnqueuing(events: number, exporters: readonly ExporterName[], expected: Expected): Promise<Map<Consumer, number>> {
    const burst = prepareBurst(events, "multi");
    expected.addAll(burst.expected);
    const before = this.usage();
    await publishBurst(this.publisher, burst.frames);
    await this.untilEnqueued(exporters, expected);
    return microsPerEvent(before, this.usage(), burst.expected.events);
  }

  /** Resolves when the receivers have enqueued everything expected for these exporters. */
  async untilEnqueued(exporters: readonly ExporterName[], expected: Expected): Promise<void> {
    for (const exporter of exporters) {
      await until(`events in the queue of ${exporter}`, async () => (await this.enqueued(exporter)) >= expected.takenBy(exporter));
    }
  }

  /** Resolves when the processors have taken this many events. */
  async untilExported(exporter: ExporterName, events: number): Promise<void> {
    await until(`events taken by ${exporter}`, async () => (await this.exported(exporter)) >= events);
  }

  /** Resolves when the metrics of this many tasks have been sent. */
  async untilSent(tasks: number): Promise<void> {
    await until("metrics", () => Promise.resolve(this.agent.tasks >= tasks));
  }

  async finalRows(): Promise<number> {
    const { rows } = await this.database.query<{ done: string }>("select count(*) as done from celery_task where finished_at is not null");
    return Number(rows[0]?.done);
  }

  /** Bytes of the Redis with the exporter queues: `used_memory`. */
  async redisBytes(): Promise<number> {
    return Number(/^used_memory:(\d+)/m.exec(await this.redis.info("memory"))?.[1]);
  }

  /** Makes that Redis rewrite its append-only file now and not during a measurement. */
  async rewriteAof(): Promise<void> {
    const rests = async (): Promise<boolean> => (await this.redis.info("persistence")).includes("aof_rewrite_in_progress:0");
    // It also rewrites the file each time it has doubled, and accepts no second command meanwhile.
    await until("the end of a rewriting", rests);
    await this.redis.bgrewriteaof();
    await until("the end of the rewriting", rests);
  }

  /** Stops the processes of a role, or all of them, where they are, or continues them. */
  signal(signal: "SIGSTOP" | "SIGCONT", role?: RoleName): void {
    for (const { child } of this.fleet.processes(role)) child.kill(signal);
  }

  /** Number of events that the receivers have put into an exporter queue. */
  enqueued(exporter: ExporterName): Promise<number> {
    return sumOf(this.fleet.processes("receiver"), "events_enqueued_total", { exporter });
  }

  /** Number of events that the processors have taken from it. */
  exported(exporter: ExporterName): Promise<number> {
    return sumOf(this.fleet.processes(`${exporter}-processor`), "events_exported_total", { exporter });
  }

  /** Number of broker connections that receivers lost. */
  reconnects(): Promise<number> {
    return sumOf(this.fleet.processes("receiver"), "broker_reconnects_total");
  }

  /** @throws {Error} if a process does not exit with 0. */
  async close(): Promise<void> {
    await this.publisher.close();
    const codes = await this.fleet.stop();
    this.agent.close();
    await this.database.end();
    await this.redis.quit();
    await this.#drop();
    if (codes.some((code) => code !== 0)) throw new Error(`processes ended with ${codes.join()}`);
  }

  async #waiting(exporter: string): Promise<number> {
    const key = `{cme}:${eventsQueueName(exporter)}`;
    return (await this.redis.llen(`${key}:wait`)) + (await this.redis.llen(`${key}:active`));
  }

  /** Compares by status, not only in total: a wrong status is as bad as a lost task. */
  async #check({ tasks, samples, byStatus }: Expected): Promise<void> {
    const { rows } = await this.database.query<{ status: Status; tasks: string }>(
      "select status, count(*) as tasks from celery_task group by status",
    );
    const stored = new Map(rows.map((row) => [row.status, Number(row.tasks)]));
    for (const [status, wanted] of byStatus) {
      const found = { rows: stored.get(status) ?? 0, metrics: this.agent.counts.get(METRICS[status]) ?? 0 };
      if (found.rows !== wanted || found.metrics !== wanted) {
        throw new Error(`${status}: ${found.rows} rows and metrics of ${found.metrics} tasks instead of ${wanted}`);
      }
    }
    if (this.agent.tasks !== tasks || this.agent.samples !== samples) {
      throw new Error(`metrics: ${this.agent.tasks} tasks, ${this.agent.samples} samples instead of ${tasks} and ${samples}`);
    }
  }

  async #shortfall({ tasks, samples }: Expected): Promise<string> {
    const rows = await this.finalRows();
    return `${rows} of ${tasks} rows, metrics of ${this.agent.tasks} of ${tasks} tasks, ${this.agent.samples} of ${samples} samples`;
  }
}

/** @throws {Error} if it takes so long that it will never happen. */
export async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + DELIVERY_TIMEOUT_MS;
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`${what} did not arrive within ${DELIVERY_TIMEOUT_MS / 1_000} s`);
    await sleep(ASK_MS);
  }
}

/** CPU time used between two moments, in µs per event. */
export function microsPerEvent(before: UsageByConsumer, after: UsageByConsumer, events: number): Map<Consumer, number> {
  return new Map(
    [...after].map(([consumer, { cpuSeconds }]) => {
      return [consumer, ((cpuSeconds - (before.get(consumer)?.cpuSeconds ?? 0)) / events) * 1_000_000];
    }),
  );
}

function sum(usages: readonly Usage[]): Usage {
  return {
    cpuSeconds: usages.reduce((total, { cpuSeconds }) => total + cpuSeconds, 0),
    residentBytes: usages.reduce((total, { residentBytes }) => total + residentBytes, 0),
  };
}

async function createVhost({ rabbitmq }: Servers, name: string): Promise<void> {
  await rabbitmq.ctl("add_vhost", name);
  await rabbitmq.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*");
}

async function administer({ postgres }: Servers, statement: string): Promise<void> {
  const client = new Client({ connectionString: postgres.url });
  await client.connect();
  await client.query(statement);
  await client.end();
}
