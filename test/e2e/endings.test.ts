/** Every way in which a task can end, on each pool of any version of Celery: its row, and one completion per end. */
import {
  ENDINGS_QUEUES,
  sendEndings,
  startCeleryWorker,
  startRedis,
  type CeleryWorker,
  type CeleryWorkerOptions,
  type RedisServer,
} from "@celery-metrics-exporter/testkit";
import { afterEach, describe, expect, it } from "vitest";
import { startWholePipeline, type WholePipeline } from "../integration/whole-pipeline.ts";

const WAIT_MS = 30_000;

/** The expected row; a text that varies between releases is a regular expression. */
interface Ending {
  readonly status: string | RegExp;
  readonly exception?: string | RegExp;
  readonly revoked_by?: string;
  readonly name?: string;
  readonly queue?: string;
  readonly first_name?: string;
  readonly first_queue?: string;
}

const SUCCESS = { status: "SUCCESS" };

function failure(exception: string | RegExp): Ending {
  return { status: "FAILURE", exception };
}

function revoked(revoked_by: string): Ending {
  return { status: "REVOKED", revoked_by };
}

const ANYWHERE: Readonly<Record<string, Ending>> = {
  succeed: SUCCESS,
  fail: failure(String.raw`ValueError('two: lines\nof a message')`),
  fail_without_message: failure("ValueError()"),
  fail_with_cause: failure("RuntimeError('the outer')"),
  fail_with_context: failure("RuntimeError('the outer')"),
  fail_with_key: failure("KeyError('key')"),
  // A process of Celery 5.2 cannot send it.
  fail_unpicklable: failure(/^(?:Unpicklable\('cannot be pickled'\)|MaybeEncodingError\(.*\))$/),
  retry: SUCCESS,
  retry_in_vain: failure("ValueError('in vain')"),
  retry_elsewhere: { ...SUCCESS, name: "endings.retry", queue: "second", first_name: "endings.retry", first_queue: "first" },
  replace: { ...SUCCESS, name: "endings.replacement", queue: "second", first_name: "endings.replace", first_queue: "first" },
  // Celery 5.6.2 sends task-failed too.
  reject: { status: /^(?:REJECTED|FAILURE)$/ },
  reject_with_requeue: SUCCESS,
  // No event reports its end.
  ignore: { status: "STARTED" },
  unregistered: failure("NotRegistered('endings.nothing')"),
  revoke_before_start: revoked("request"),
  expire: revoked("expired"),
};

const IN_PROCESSES: Readonly<Record<string, Ending>> = {
  soft_limit: failure("SoftTimeLimitExceeded()"),
  soft_limit_caught: SUCCESS,
  hard_limit: failure("TimeLimitExceeded(1,)"),
  exit_itself: failure(/^(?:SystemExit\(3\)|WorkerLostError\('Worker exited prematurely: exitcode 3.*'\))$/),
  exit_at_once: failure(/^WorkerLostError\('Worker exited prematurely: exitcode 3.*'\)$/),
  killed: failure(/^WorkerLostError\('Worker exited prematurely: signal 9 \(SIGKILL\).*'\)$/),
  killed_and_requeued: SUCCESS,
  terminate_SIGTERM: revoked("terminated (SIGTERM)"),
  terminate_SIGKILL: revoked("terminated (SIGKILL)"),
  terminate_SIGQUIT: revoked("terminated (SIGQUIT)"),
  // The task fails by itself at the signal of a soft time limit.
  terminate_SIGUSR1: failure("SoftTimeLimitExceeded()"),
  lost: { status: "STARTED" },
};

const WITHOUT_RUN: readonly string[] = ["unregistered", "revoke_before_start", "expire", "ignore", "lost"];

const POOLS = [
  ["prefork", { ...ANYWHERE, ...IN_PROCESSES }],
  ["threads", ANYWHERE],
  ["solo", ANYWHERE],
] as const;

type Row = Readonly<Record<string, unknown>>;

const COUNTERS: Readonly<Record<string, string>> = {
  SUCCESS: "success_count",
  FAILURE: "fail_count",
  REVOKED: "revoked_count",
  REJECTED: "rejected_count",
};

let redis: RedisServer | undefined;
let pipeline: WholePipeline | undefined;
let worker: CeleryWorker | undefined;

afterEach(async () => {
  await worker?.kill();
  await pipeline?.close();
  await redis?.stop();
  [worker, pipeline, redis] = [undefined, undefined, undefined];
});

describe.each(POOLS)("in a pool of %s", (pool, endings) => {
  it("every task results in its row and one completion", async () => {
    const { ids, rows } = await runAll(pool);
    await expect.poll(async () => differences(endings, ids, await rows()), { timeout: WAIT_MS, interval: 250 }).toEqual([]);

    const ended = (await rows()).filter((row) => row["finished_at"] !== null);
    await expect.poll(() => counted(ended), { timeout: WAIT_MS, interval: 250 }).toEqual(expectedCounts(ended));
    expect(pipeline?.sink.errors).toEqual([]);
  });
});

interface Ran {
  /** Each task's id, by its ending. */
  readonly ids: Readonly<Record<string, string>>;
  readonly rows: () => Promise<readonly Row[]>;
}

async function runAll(pool: NonNullable<CeleryWorkerOptions["pool"]>): Promise<Ran> {
  redis = await startRedis();
  const brokerUrl = redis.url;
  // The exchange to which Celery publishes its events.
  const running = await startWholePipeline({
    redisUrl: redis.url,
    brokerUrl,
    name: "celeryev",
    // On a busy machine a worker is late to report that it has sent a task.
    env: { DATADOG_INCOMPLETE_WAIT_MS: "1500", DATADOG_GRACE_MS: "5000" },
  });
  pipeline = running;
  worker = await startCeleryWorker({ brokerUrl, app: "endings", queues: ENDINGS_QUEUES, concurrency: 8, pool });
  return { ids: await sendEndings(brokerUrl, pool), rows: () => running.rows() };
}

/** The differences from the expected row. A task that could not be decoded has no events and so no row. */
function differences(endings: Readonly<Record<string, Ending>>, ids: Ran["ids"], rows: readonly Row[]): string[] {
  const byId = new Map(rows.map((row) => [row["task_id"], row]));
  const found = Object.entries(endings).flatMap(([label, ending]) => {
    const row = byId.get(ids[label]) ?? {};
    const wrong = Object.entries(ending)
      .filter(([column, wanted]) => !fits(row[column], wanted as string | RegExp))
      .map(([column, wanted]) => `${label}.${column}: ${String(row[column])} instead of ${String(wanted)}`);
    // Each run that ended has a duration.
    const isTimed = typeof row["duration"] === "number" && row["duration"] >= 0;
    return isTimed === !WITHOUT_RUN.includes(label) ? wrong : [...wrong, `${label}.duration: ${String(row["duration"])}`];
  });
  return rows.length === Object.keys(endings).length ? found : [...found, `${rows.length} rows`];
}

function fits(value: unknown, wanted: string | RegExp): boolean {
  return typeof wanted === "string" ? value === wanted : wanted.test(String(value));
}

function keyOf({ status, name, queue }: Row): string {
  return `${COUNTERS[String(status)]} ${String(name)} ${String(queue)}`;
}

function expectedCounts(ended: readonly Row[]): Record<string, number> {
  const counts: Record<string, number> = { all: ended.length };
  for (const row of ended) counts[keyOf(row)] = (counts[keyOf(row)] ?? 0) + 1;
  return counts;
}

function counted(ended: readonly Row[]): Record<string, number> {
  const counts: Record<string, number> = { all: Object.values(COUNTERS).reduce((sum, counter) => sum + total(counter), 0) };
  for (const row of ended) {
    counts[keyOf(row)] = total(COUNTERS[String(row["status"])] ?? "", [
      `task_name:${String(row["name"])}`,
      `queue:${String(row["queue"])}`,
    ]);
  }
  return counts;
}

function total(counter: string, tags: readonly string[] = []): number {
  return pipeline?.sink.total(`celery.task.${counter}`, tags) ?? 0;
}
