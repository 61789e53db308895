/** The naive Postgres processor: one statement per event. */
import { Worker } from "bullmq";
import { Redis } from "ioredis";
import { Pool } from "pg";
import { CONCURRENCY, FINAL_STATES, POSTGRES_QUEUE, ready, setting, type NaiveEvent } from "./naive.ts";

const pool = new Pool({ connectionString: setting("DATABASE_URL"), max: CONCURRENCY });
const redis = new Redis(setting("REDIS_URL"), { maxRetriesPerRequest: null });
const worker = new Worker<NaiveEvent>(POSTGRES_QUEUE, async ({ data }) => store(data), { connection: redis, concurrency: CONCURRENCY });
await worker.waitUntilReady();
ready();

const INSTANTS: Readonly<Record<string, string>> = {
  "task-sent": "sent_at",
  "task-received": "received_at",
  "task-started": "started_at",
};

async function store(event: NaiveEvent): Promise<void> {
  const status = FINAL_STATES[event.type] ?? null;
  const instant = status === null ? (INSTANTS[event.type] ?? "retried_at") : "finished_at";
  await pool.query(
    `insert into naive_task (task_id, name, queue, args, kwargs, result, exception, runtime, status, ${instant})
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, to_timestamp($10))
     on conflict (task_id) do update set name = coalesce(excluded.name, naive_task.name), queue = coalesce(excluded.queue, naive_task.queue),
       args = coalesce(excluded.args, naive_task.args), kwargs = coalesce(excluded.kwargs, naive_task.kwargs),
       result = coalesce(excluded.result, naive_task.result), exception = coalesce(excluded.exception, naive_task.exception),
       runtime = coalesce(excluded.runtime, naive_task.runtime), status = coalesce(excluded.status, naive_task.status),
       ${instant} = coalesce(excluded.${instant}, naive_task.${instant})`,
    [
      event.uuid,
      event.name,
      event.queue,
      event["args"],
      event["kwargs"],
      event["result"],
      event["exception"],
      event.runtime,
      status,
      event.timestamp,
    ],
  );
}
