/** Compares our design with the naive one in one run: one event per job, one write to Redis per event, one row per statement. */
import { fileURLToPath } from "node:url";
import { run, type Command } from "../../fleet/role-process.ts";
import { Rounds, type Goal, type Section } from "../report/figure.ts";
import { prepareBurst, publishBurst } from "../prepared-load.ts";
import { usageOf } from "../process-usage.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { microsPerEvent, ROLES, Stage, until, WARM_UP_EVENTS, type Consumer } from "../stage.ts";

const NAIVE_EVENTS = 20_000;
const OUR_EVENTS = 100_000;
const PROCESSES = ["receiver", "datadog", "postgres"] as const;
const SERVERS: readonly Consumer[] = ["RabbitMQ", "Redis", "PostgreSQL"];
const NAIVE_TABLE = `create table naive_task (task_id text primary key, name text, queue text, args text, kwargs text, result text,
  exception text, runtime float8, status text, sent_at timestamptz, received_at timestamptz, started_at timestamptz,
  retried_at timestamptz, finished_at timestamptz)`;

/** The CPU time of the pipelines, and their speed. */
interface Cost {
  readonly nodeMicros: number;
  readonly serverMicros: number;
  readonly eventsPerSecond: number;
}

/** Far below the measured ratio, so that a noisy machine causes no alarm, but far above the ratio without batching. */
const MIN_CPU_RATIO: Goal = { atLeast: 6 };
const MIN_SPEED_RATIO: Goal = { atLeast: 4 };

export const naiveBaseline: Scenario = {
  name: "naive",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (let round = 1; round <= bench.rounds; round += 1) {
      bench.progress(`beside the naive design, round ${round} of ${bench.rounds}`);
      const naive = await measureNaive(bench);
      const ours = await measureOurs(bench);
      for (const [name, { nodeMicros, serverMicros, eventsPerSecond }] of Object.entries({ naive, ours })) {
        rounds.add(`${name}: Node processes`, "µs CPU per event", nodeMicros);
        rounds.add(`${name}: servers`, "µs CPU per event", serverMicros);
        rounds.add(`${name}: from first to last`, "events/s", eventsPerSecond);
      }
      rounds.add("naive / ours: CPU of Node processes", "ratio", naive.nodeMicros / ours.nodeMicros, MIN_CPU_RATIO);
      rounds.add("naive / ours: CPU of servers", "ratio", naive.serverMicros / ours.serverMicros);
      rounds.add("ours / naive: events per second", "ratio", ours.eventsPerSecond / naive.eventsPerSecond, MIN_SPEED_RATIO);
    }
    return {
      title: "Beside the naive design",
      note: `Naive: one event per job, one write to Redis per event, one row per statement, 20 concurrent jobs; ${NAIVE_EVENTS.toLocaleString("en")} events after as many to warm up. Ours: ${OUR_EVENTS.toLocaleString("en")} events after ${WARM_UP_EVENTS.toLocaleString("en")}. Both on the same servers, with frames as from a busy Celery.`,
      figures: rounds.figures(),
    };
  },
};

async function measureOurs({ servers }: Bench): Promise<Cost> {
  const stage = await Stage.open(servers, { broker: "RabbitMQ" });
  try {
    const { used, eventsPerSecond } = await stage.measureBurst(OUR_EVENTS, "multi");
    return { nodeMicros: sumOf(ROLES, used), serverMicros: sumOf(SERVERS, used), eventsPerSecond };
  } finally {
    await stage.close();
  }
}

async function measureNaive({ servers }: Bench): Promise<Cost> {
  const stage = await Stage.open(servers, { broker: "RabbitMQ", processes: {} });
  const processes: Command[] = [];
  try {
    await stage.database.query(NAIVE_TABLE);
    for (const name of PROCESSES) {
      const main = fileURLToPath(new URL(`../naive/${name}.ts`, import.meta.url));
      processes.push(run(process.execPath, ["--import", "tsx", main], stage.env));
    }
    await Promise.all(processes.map((each) => each.printed(/ready/)));
    const warmUp = prepareBurst(NAIVE_EVENTS, "multi");
    await publishBurst(stage.publisher, warmUp.frames);
    await untilDone(stage, warmUp.expected.tasks);
    const { frames, expected } = prepareBurst(NAIVE_EVENTS, "multi");
    const before = stage.usage();
    const nodeBefore = nodeSeconds(processes);
    const began = Date.now();
    await publishBurst(stage.publisher, frames);
    await untilDone(stage, warmUp.expected.tasks + expected.tasks);
    const seconds = (Date.now() - began) / 1_000;
    const nodeMicros = ((nodeSeconds(processes) - nodeBefore) / expected.events) * 1_000_000;
    const used = microsPerEvent(before, stage.usage(), expected.events);
    return { nodeMicros, serverMicros: sumOf(SERVERS, used), eventsPerSecond: expected.events / seconds };
  } finally {
    for (const { child } of processes) child.kill();
    await Promise.all(processes.map(({ exited }) => exited));
    await stage.close();
  }
}

async function untilDone(stage: Stage, tasks: number): Promise<void> {
  await stage.untilSent(tasks);
  await until("rows", async () => {
    const { rows } = await stage.database.query<{ done: string }>("select count(*) as done from naive_task where finished_at is not null");
    return Number(rows[0]?.done) >= tasks;
  });
}

function nodeSeconds(processes: readonly Command[]): number {
  return processes.reduce((sum, { child }) => sum + usageOf(child.pid ?? 0).cpuSeconds, 0);
}

function sumOf(consumers: readonly Consumer[], used: ReadonlyMap<Consumer, number>): number {
  return consumers.reduce((sum, consumer) => sum + (used.get(consumer) ?? 0), 0);
}
