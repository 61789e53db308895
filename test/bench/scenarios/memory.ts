/** Whether memory stays flat over many events: of each process, and of Redis. */
import { setTimeout as sleep } from "node:timers/promises";
import { ROLES } from "../../fleet/fleet.ts";
import { Expected } from "../expected.ts";
import { median, Rounds, type Section } from "../figure.ts";
import { prepareBurst, publishBurst } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { Stage, type UsageByConsumer } from "../stage.ts";

const EVENTS = 2_000_000;
const EVENTS_PER_STEP = 100_000;
/** The events during which the first and the last samples are taken; what is before the first warms up. */
const FIRST = { from: 100_000, to: 500_000 };
const LAST = { from: EVENTS - 400_000, to: EVENTS };
const SAMPLE_MS = 500;
/** So that memory in Redis is that of tasks in flight, and not of those that are done: they are kept for an hour by default. */
const SENT_EXPIRY_SECONDS = 60;
const ENV = { DATADOG_SENT_EXPIRY_SECONDS: String(SENT_EXPIRY_SECONDS) };
const MEGABYTE = 1e6;

export const memory: Scenario = {
  name: "memory",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (let round = 1; round <= bench.rounds; round += 1) await measure(bench, rounds, round);
    return {
      title: `Memory over ${EVENTS.toLocaleString("en")} events`,
      note: `Resident memory of one process of each role, seen every ${SAMPLE_MS / 1_000} s while events come in bursts of ${EVENTS_PER_STEP.toLocaleString("en")}: the median from ${describe(FIRST)}, from ${describe(LAST)}, and the most of all. Redis: used_memory beyond that before the first event, when what was sent has expired (after ${SENT_EXPIRY_SECONDS} s here).`,
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

/** What was seen while so many events had been published. */
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
    for (let step = 0; expected.events < EVENTS; step += 1) {
      if (step % 5 === 0) progress(`memory, ${expected.events.toLocaleString("en")} events, round ${round} of ${total}`);
      const burst = prepareBurst(EVENTS_PER_STEP, "multi");
      await publishBurst(stage.publisher, burst.frames);
      expected.addAll(burst.expected);
      await stage.delivered(expected);
    }
    clearInterval(sampling);
    for (const role of ROLES) {
      const resident = ({ from, to }: Span): number[] =>
        samples.filter(({ events }) => events >= from && events <= to).map(({ usage }) => usage.get(role)?.residentBytes ?? Number.NaN);
      const [first, last] = [median(resident(FIRST)), median(resident(LAST))];
      rounds.add(`${role}, at the beginning`, "MB", first / MEGABYTE);
      rounds.add(`${role}, at the end`, "MB", last / MEGABYTE);
      rounds.add(`${role}, growth`, "ratio", last / first, { atMost: 1.1 });
      rounds.add(`${role}, most`, "MB", Math.max(...resident({ from: 0, to: EVENTS * 2 })) / MEGABYTE, { atMost: 200 });
    }
    // Expiry is rounded up, and Redis takes a moment to find what has expired.
    await sleep(1.25 * SENT_EXPIRY_SECONDS * 1_000);
    rounds.add("Redis, left when all has expired", "MB", ((await stage.redisBytes()) - empty) / MEGABYTE);
  } finally {
    clearInterval(sampling);
    await stage.close();
  }
}
