/** The best that the servers and the language can do on this machine, for comparison with the other figures. */
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { connectDatabase, upsertTasks } from "@celery-metrics-exporter/db";
import { decodeFrame, type CeleryEvent } from "@celery-metrics-exporter/celery";
import { encodeBatch, eventsQueueName } from "@celery-metrics-exporter/pipeline";
import { findPostgres, findProgram } from "@celery-metrics-exporter/testkit";
import amqp from "amqplib";
import { Queue } from "bullmq";
import { Rounds, type Section } from "../report/figure.ts";
import { prepareBurst, publishBurst, type Framing, type PreparedBurst } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { Stage } from "../stage.ts";

const EVENTS = 100_000;
const EVENTS_PER_BATCH = 4_000;
const ROWS_PER_STATEMENT = 1_200;
const PGBENCH_SECONDS = 5;
const QUEUE = "ceiling";
/** The receiver's default. */
const PREFETCH = 2 * EVENTS_PER_BATCH;

export const ceilings: Scenario = {
  name: "ceilings",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (let round = 1; round <= bench.rounds; round += 1) {
      bench.progress(`ceilings of the servers, round ${round} of ${bench.rounds}`);
      const stage = await Stage.open(bench.servers, { broker: "RabbitMQ", processes: {} });
      try {
        const burst = prepareBurst(EVENTS, "multi");
        const began = process.cpuUsage();
        const events = decode(burst);
        const { user, system } = process.cpuUsage(began);
        rounds.add("decoding alone (frames to events)", "µs CPU per event", (user + system) / events.length);
        rounds.add("JSON.parse alone", "µs CPU per event", parseOnly(burst) / events.length);
        for (const framing of ["multi", "single"] as const) {
          rounds.add(`RabbitMQ: a consumer that only acknowledges, ${framing}`, "events/s", await consumeOnly(stage, framing));
        }
        const batches = inBatches(events);
        const bytes = JSON.stringify(encodeBatch({ broker: "rabbitmq", events: batches[0] ?? [] })).length;
        rounds.add("Redis: redis-benchmark, LPUSH of a text as long as a batch", "events/s", await plainPush(bench, bytes));
        rounds.add("Redis: BullMQ, add of one batch after the other", "events/s", await enqueueOnly(stage, batches));
        rounds.add("PostgreSQL: pgbench, bulk upsert", "rows/s", await plainUpsert(bench, stage));
        rounds.add("PostgreSQL: our statement alone, one connection", "events/s", await upsertOnly(stage, batches));
      } finally {
        await stage.close();
      }
    }
    return {
      title: "Ceilings",
      note: `Each server or step alone on the same machine, with nothing else running. Batches of ${EVENTS_PER_BATCH} events. Each pgbench statement upserts ${ROWS_PER_STATEMENT} rows, about the number of tasks in a batch.`,
      figures: rounds.figures(),
    };
  },
};

function decode({ frames }: PreparedBurst): CeleryEvent[] {
  return frames.flat().flatMap(({ body }) => decodeFrame({ body, contentType: "application/json", contentEncoding: "utf-8" }).events);
}

/** In µs of CPU. */
function parseOnly({ frames }: PreparedBurst): number {
  const began = process.cpuUsage();
  for (const { body } of frames.flat()) JSON.parse(body.toString());
  const { user, system } = process.cpuUsage(began);
  return user + system;
}

function inBatches(events: readonly CeleryEvent[]): CeleryEvent[][] {
  const count = Math.ceil(events.length / EVENTS_PER_BATCH);
  return Array.from({ length: count }, (_, index) => events.slice(index * EVENTS_PER_BATCH, (index + 1) * EVENTS_PER_BATCH));
}

async function consumeOnly(stage: Stage, framing: Framing): Promise<number> {
  const { frames, expected } = prepareBurst(EVENTS, framing);
  const connection = await amqp.connect(stage.env["CELERY_BROKER_URL"] ?? "");
  const channel = await connection.createChannel();
  await channel.assertQueue(QUEUE, { durable: true, arguments: { "x-queue-type": "quorum" } });
  await channel.bindQueue(QUEUE, "celeryev", "task.#");
  await publishBurst(stage.publisher, frames);
  await channel.prefetch(PREFETCH);
  const messages = frames.flat().length;
  const began = Date.now();
  await new Promise<void>((resolve) => {
    let taken = 0;
    void channel.consume(QUEUE, (message) => {
      taken += 1;
      if (message !== null && (taken % EVENTS_PER_BATCH === 0 || taken === messages)) channel.ack(message, true);
      if (taken === messages) resolve();
    });
  });
  const seconds = (Date.now() - began) / 1_000;
  await channel.deleteQueue(QUEUE);
  await connection.close();
  return expected.events / seconds;
}

async function plainPush({ servers }: Bench, bytes: number): Promise<number> {
  const program = findProgram(["redis-benchmark", "valkey-benchmark"]);
  if (program === undefined) return Number.NaN;
  const args = ["-p", String(servers.redis.port), "-t", "lpush", "-n", "4000", "-c", "4", "-d", String(bytes), "--csv"];
  const { stdout } = await promisify(execFile)(program, args);
  return Number(/"LPUSH[^"]*","([\d.]+)"/.exec(stdout)?.[1]) * EVENTS_PER_BATCH;
}

async function enqueueOnly(stage: Stage, batches: readonly (readonly CeleryEvent[])[]): Promise<number> {
  const connection = stage.redis.duplicate();
  const queue = new Queue(eventsQueueName("postgres"), { connection, prefix: "{ceiling}" });
  await queue.waitUntilReady();
  const payloads = batches.map((events) => encodeBatch({ broker: "rabbitmq", events }));
  const began = Date.now();
  for (const payload of payloads) await queue.add("batch", payload);
  const seconds = (Date.now() - began) / 1_000;
  await queue.close();
  await connection.quit();
  return (batches.length * EVENTS_PER_BATCH) / seconds;
}

/** Half of the rows are new and half exist, as for tasks whose later events arrive. */
async function plainUpsert({ servers }: Bench, stage: Stage): Promise<number> {
  const folder = findPostgres();
  const program = folder === undefined ? undefined : findProgram(["pgbench"], [folder]);
  if (program === undefined) return Number.NaN;
  const script = join(servers.redis.folder, "upsert.sql");
  writeFileSync(
    script,
    `\\set base random(1, 100000)
insert into celery_task (task_id, name, queue, status, worker, args, kwargs, result, last_event_at, state_precedence, state_rank, state_at, state_hostname)
select md5((:base + i)::text), 'shop.charge', 'payments', 'SUCCESS', 'w1@host-a', '(1, ''customer@example.com'')', '{}', '{}', now(), 2, 6, now(), 'w1@host-a'
from generate_series(1, ${ROWS_PER_STATEMENT}) as i order by 1
on conflict (task_id) do update set status = excluded.status, worker = excluded.worker, result = excluded.result,
  last_event_at = excluded.last_event_at, state_at = excluded.state_at, updated_at = now();\n`,
  );
  const args = ["-n", "-f", script, "-T", String(PGBENCH_SECONDS), "-c", "2", "-j", "1", stage.env["DATABASE_URL"] ?? ""];
  const { stdout } = await promisify(execFile)(program, args);
  return Number(/tps = ([\d.]+)/.exec(stdout)?.[1]) * ROWS_PER_STATEMENT;
}

async function upsertOnly(stage: Stage, batches: readonly (readonly CeleryEvent[])[]): Promise<number> {
  const database = await connectDatabase({ url: stage.env["DATABASE_URL"] ?? "" });
  const began = Date.now();
  for (const events of batches) await upsertTasks(database, events);
  const seconds = (Date.now() - began) / 1_000;
  await database.close();
  return (batches.length * EVENTS_PER_BATCH) / seconds;
}
