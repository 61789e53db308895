/** CPU usage of processes and servers at steady rates: at lower rates, batches are smaller and cost more per event. */
import { setTimeout as sleep } from "node:timers/promises";
import { Rounds, type Section } from "../report/figure.ts";
import { prepareStream, publishStream } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { Stage, type Consumer } from "../stage.ts";

const SECONDS = 15;
const MOMENT_MS = 100;
const RATES = [0, 100, 1_000, 10_000] as const;
const CONSUMERS: readonly Consumer[] = ["receiver", "datadog-processor", "postgres-processor", "RabbitMQ", "Redis", "PostgreSQL"];

export const rates: Scenario = {
  name: "rates",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (const rate of RATES) {
      for (let round = 1; round <= bench.rounds; round += 1) {
        bench.progress(`CPU at ${rate} events/s, round ${round} of ${bench.rounds}`);
        await measure(bench, rate, rounds);
      }
    }
    return {
      title: "Use of the CPU by rate",
      note: `Share of one core over ${SECONDS} s at a steady rate, from idle to near the limit of this machine; one process per role, frames as from a busy Celery, after a warm-up. At 10,000 events/s, 1 % of a core is 1 µs per event.`,
      figures: rounds.figures(),
    };
  },
};

async function measure({ servers }: Bench, rate: number, rounds: Rounds): Promise<void> {
  const stage = await Stage.open(servers, { broker: "RabbitMQ" });
  try {
    const expected = await stage.warmUp("multi");
    const stream = rate === 0 ? undefined : prepareStream(rate, SECONDS, "multi");
    if (stream !== undefined) {
      expected.addAll(stream.expected);
      await sleep(stream.startsAt - Date.now() - MOMENT_MS);
    }
    const before = stage.usage();
    const began = Date.now();
    if (stream === undefined) await sleep(SECONDS * 1_000);
    else await publishStream(stage.publisher, stream);
    const seconds = (Date.now() - began) / 1_000;
    const after = stage.usage();
    for (const consumer of CONSUMERS) {
      const used = (after.get(consumer)?.cpuSeconds ?? 0) - (before.get(consumer)?.cpuSeconds ?? 0);
      rounds.add(`${rate.toLocaleString("en")} events/s: ${consumer}`, "% of a core", (used / seconds) * 100);
    }
    await stage.delivered(expected);
  } finally {
    await stage.close();
  }
}
