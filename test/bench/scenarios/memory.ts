/** Whether memory stays flat over many events: memory of each process and of Redis, and the size of each event and task in Redis. */
import { setTimeout as sleep } from "node:timers/promises";
import { Expected } from "../expected.ts";
import { median, Rounds, type Section } from "../report/figure.ts";
import { prepareBurst, publishBurst } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { EXPORTER_NAMES, ROLES, Stage, type UsageByConsumer } from "../stage.ts";

const EVENTS = 2_000_000;
const EVENTS_PER_STEP = 100_000;
/** The events during which the first and the last samples are taken; those before the first are the warm-up. */
const FIRST = { from: 100_000, to: 500_000 };
const LAST = { from: EVENTS - 400_000, to: EVENTS };
const SAMPLE_MS = 500;
/** Short, so that Redis contains only tasks in flight: tasks that are done are kept for an hour by default. */
const SENT_EXPIRY_SECONDS = 60;
/** Events whose size in Redis is measured at the beginning and the end. They are processed well within the grace, while their tasks are in flight. */
const WEIGHED_EVENTS = 50_000;
const GRACE_MS = 6_000;
const ENV = { DATADOG_SENT_EXPIRY_SECONDS: String(SENT_EXPIRY_SECONDS), DATADOG_GRACE_MS: String(GRACE_MS) };
const MEGABYTE = 1e6;

const WEIGHED = ["queued event", "task in flight"] as const;
type Weighed = (typeof WEIGHED)[number];

export const memory: Scenario = {
  name: "memory",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (let round = 1; round <= bench.rounds; round += 1) await measure(bench, rounds, round);
    return {
      title: `Memory over ${EVENTS.toLocaleString("en")} events`,
      note: `Resident memory of one process per role, sampled every ${SAMPLE_MS / 1_000} s while events arrive in bursts of ${EVENTS_PER_STEP.toLocaleString("en")}: the median from ${describe(FIRST)}, the median from ${describe(LAST)}, and the maximum. Redis, by used_memory: the memory for ${WEIGHED_EVENTS.toLocaleString("en")} events and their tasks, measured at the beginning and again when everything sent has expired (here after ${SENT_EXPIRY_SECONDS} s); and the memory that is left at the end.`,
      figures: rounds.figures(),
    };
  },
};

interface Span {
  readonly from: number;
  readonly to: number;
}

function describe({ from, to }: Span): string {
  return `event ${from.toLocaleString("en")} to ${to.toLocaleString("en")}`;
}

/** The samples taken while this many events had been published. */
interface Sample {
  readonly events: number;
  readonly usage: UsageByConsumer;
}

async function measure({ servers, rounds: total, progress }: Bench, rounds: Rounds, round: number): Promise<void> {
  const stage = await Stage.open(servers, { broker: "RabbitMQ", env: ENV });
  const expected = new Expected();
  const samples: Sample[] = [];
  const sampling = setInterval(() => samples.push({ events: expected.events, usage: stage.usage() }), SAMPLE_MS);
  try {
    const empty = await stage.redisBytes();
    const first = await weigh(stage, expected);
    for (let step = 0; expected.events < EVENTS; step += 1) {
      if (step % 5 === 0) progress(`memory, ${expected.events.toLocaleString("en")} events, round ${round} of ${total}`);
      const burst = prepareBurst(EVENTS_PER_STEP, "multi");
      await publishBurst(stage.publisher, burst.frames);
      expected.addAll(burst.expected);
      await stage.delivered(expected);
    }
    clearInterval(sampling);
    addResident(rounds, samples);
    await untilExpired();
    const last = await weigh(stage, expected);
    for (const what of WEIGHED) addGrowth(rounds, `Redis, ${what}`, "bytes", [first[what], last[what]]);
    await untilExpired();
    rounds.add("Redis, left when all has expired", "MB", ((await stage.redisBytes()) - empty) / MEGABYTE);
  } finally {
    clearInterval(sampling);
    await stage.close();
  }
}

function addResident(rounds: Rounds, samples: readonly Sample[]): void {
  for (const role of ROLES) {
    const resident = (from: number, to: number): number[] =>
      samples
        .filter(({ events }) => events >= from && events <= to)
        .map(({ usage }) => (usage.get(role)?.residentBytes ?? Number.NaN) / MEGABYTE);
    addGrowth(rounds, role, "MB", [median(resident(FIRST.from, FIRST.to)), median(resident(LAST.from, LAST.to))]);
    rounds.add(`${role}, most`, "MB", Math.max(...resident(0, Number.POSITIVE_INFINITY)), { atMost: 200 });
  }
}

function addGrowth(rounds: Rounds, name: string, unit: string, [first, last]: readonly [number, number]): void {
  rounds.add(`${name}, at the beginning`, unit, first);
  rounds.add(`${name}, at the end`, unit, last);
  rounds.add(`${name}, growth`, "ratio", last / first, { atMost: 1.1 });
}

/** Extra time: expiry is rounded up, and Redis takes a moment to find expired keys. */
async function untilExpired(): Promise<void> {
  await sleep(1.25 * SENT_EXPIRY_SECONDS * 1_000);
}

/** Bytes in Redis of an event in one exporter queue, and of a task that has ended and is not sent. Resolves when everything is delivered. */
async function weigh(stage: Stage, expected: Expected): Promise<Record<Weighed, number>> {
  const burst = prepareBurst(WEIGHED_EVENTS, "multi");
  expected.addAll(burst.expected);
  const sentBefore = stage.agent.tasks;
  for (const exporter of EXPORTER_NAMES) stage.signal("SIGSTOP", `${exporter}-processor`);
  const before = await stage.redisBytes();
  await publishBurst(stage.publisher, burst.frames);
  await stage.untilEnqueued(EXPORTER_NAMES, expected);
  const queued = (await stage.redisBytes()) - before;
  stage.signal("SIGCONT");
  for (const exporter of EXPORTER_NAMES) await stage.untilExported(exporter, expected.takenBy(exporter));
  const inFlight = (await stage.redisBytes()) - before;
  if (stage.agent.tasks !== sentBefore) throw new Error("tasks were sent before their size was measured");
  await stage.delivered(expected);
  return {
    "queued event": queued / burst.expected.events / EXPORTER_NAMES.length,
    "task in flight": inFlight / burst.expected.tasks,
  };
}
