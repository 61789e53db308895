/** Whether memory stays flat over many events: of each process, and in Redis for each task and each row. */
import { setTimeout as sleep } from "node:timers/promises";
import { Expected } from "../expected.ts";
import { Rounds, type Section } from "../figure.ts";
import { prepareBurst, publishBurst } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { Stage } from "../stage.ts";

const EVENTS = 2_000_000;
const EVENTS_PER_STEP = 100_000;
const ROLES = ["receiver", "datadog-processor", "postgres-processor"] as const;
/** So that memory in Redis is that of tasks in flight, and not of those that are done: they are kept for an hour by default. */
const ENV = { DATADOG_SENT_EXPIRY_SECONDS: "5" };
const MEGABYTE = 1e6;

export const memory: Scenario = {
  name: "memory",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (let round = 1; round <= bench.rounds; round += 1) await measure(bench, rounds, round);
    return {
      title: `Memory over ${EVENTS.toLocaleString("en")} events`,
      note: `Resident memory of one process of each role, after ${EVENTS_PER_STEP.toLocaleString("en")} events and after all, and the most that was seen; events come in bursts of ${EVENTS_PER_STEP.toLocaleString("en")}.`,
      figures: rounds.figures(),
    };
  },
};

async function measure({ servers, rounds: total, progress }: Bench, rounds: Rounds, round: number): Promise<void> {
  const stage = await Stage.open(servers, { broker: "RabbitMQ", env: ENV });
  try {
    const expected = new Expected();
    const seen = new Map<string, number[]>();
    const watching = new AbortController();
    const watched = watch(stage, seen, watching.signal);
    const early: number[] = [];
    const redisEmpty = await stage.redisBytes();
    let redisEarly = 0;
    for (let step = 0; expected.events < EVENTS; step += 1) {
      if (step % 5 === 0) progress(`memory, ${expected.events.toLocaleString("en")} events, round ${round} of ${total}`);
      const { frames, expected: more } = prepareBurst(EVENTS_PER_STEP, "multi");
      expected.addAll(more);
      await publishBurst(stage.publisher, frames);
      await stage.delivered(expected);
      if (step > 0) continue;
      early.push(...ROLES.map((role) => stage.usage().get(role)?.residentBytes ?? Number.NaN));
      redisEarly = await settledRedisBytes(stage);
    }
    watching.abort();
    await watched;
    const late = stage.usage();
    for (const [index, role] of ROLES.entries()) {
      const from = early[index] ?? Number.NaN;
      const to = late.get(role)?.residentBytes ?? Number.NaN;
      rounds.add(`${role}, at the beginning`, "MB", from / MEGABYTE);
      rounds.add(`${role}, at the end`, "MB", to / MEGABYTE);
      rounds.add(`${role}, most`, "MB", Math.max(...(seen.get(role) ?? [])) / MEGABYTE, { atMost: 200 });
      rounds.add(`${role}, growth`, "ratio", to / from, { atMost: 1.1 });
    }
    rounds.add("Redis, idle, at the beginning", "MB", (redisEarly - redisEmpty) / MEGABYTE);
    rounds.add("Redis, idle, at the end", "MB", ((await settledRedisBytes(stage)) - redisEmpty) / MEGABYTE);
  } finally {
    await stage.close();
  }
}

async function watch(stage: Stage, seen: Map<string, number[]>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const usage = stage.usage();
    for (const role of ROLES) seen.set(role, [...(seen.get(role) ?? []), usage.get(role)?.residentBytes ?? 0]);
    await sleep(500);
  }
}

/** When what was sent has expired. */
async function settledRedisBytes(stage: Stage): Promise<number> {
  await sleep(8_000);
  return stage.redisBytes();
}
