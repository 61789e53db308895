/** Whether memory stays flat over many events: memory of each process and of Redis, and the size of each event and task in Redis. */
import { setTimeout as sleep } from "node:timers/promises";
import { Expected } from "../expected.ts";
import { Rounds, type Section } from "../report/figure.ts";
import { prepareBurst, publishBurst } from "../prepared-load.ts";
import { addGrowth, describeSpan, ResidentSamples, SAMPLE_MS, type Span } from "../resident.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { EXPORTER_NAMES, ROLES, Stage } from "../stage.ts";

const EVENTS = 2_000_000;
const EVENTS_PER_STEP = 100_000;
/** The events during which the first and the last samples are taken; those before the first are the warm-up. */
const FIRST: Span = { from: 100_000, to: 500_000 };
const LAST: Span = { from: EVENTS - 400_000, to: EVENTS };
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
      note: `Resident memory of one process per role, sampled every ${SAMPLE_MS / 1_000} s while events arrive in bursts of ${EVENTS_PER_STEP.toLocaleString("en")}: the median from ${describeSpan(FIRST)}, the median from ${describeSpan(LAST)}, and the maximum. Redis, by used_memory: the memory for ${WEIGHED_EVENTS.toLocaleString("en")} events and their tasks, measured at the beginning and again when everything sent has expired (here after ${SENT_EXPIRY_SECONDS} s); and the memory that is left at the end.`,
      figures: rounds.figures(),
    };
  },
};

async function measure({ servers, rounds: total, progress }: Bench, rounds: Rounds, round: number): Promise<void> {
  const stage = await Stage.open(servers, { broker: "RabbitMQ", env: ENV });
  const expected = new Expected();
  const samples = new ResidentSamples(stage, () => expected.events);
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
    samples.stop();
    for (const role of ROLES) samples.report(rounds, role, role, { first: FIRST, last: LAST });
    await untilExpired();
    const last = await weigh(stage, expected);
    for (const what of WEIGHED) addGrowth(rounds, `Redis, ${what}`, "bytes", [first[what], last[what]]);
    await untilExpired();
    rounds.add("Redis, left when all has expired", "MB", ((await stage.redisBytes()) - empty) / MEGABYTE);
  } finally {
    samples.stop();
    await stage.close();
  }
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
