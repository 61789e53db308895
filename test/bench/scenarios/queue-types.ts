/** RabbitMQ's quorum queue beside the classic one, and how much to send ahead and to put in a batch. */
import { Rounds, type Section } from "../figure.ts";
import type { Framing } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { Stage } from "../stage.ts";

const EVENTS = 100_000;
const FRAMINGS: readonly Framing[] = ["multi", "single"];
const PREFETCHES = ["250", "1000", "4000"] as const;
const BATCHES = ["100", "500", "2000"] as const;

interface Case {
  readonly name: string;
  readonly env: Readonly<Record<string, string>>;
}

/** The first is the default. */
const CASES: readonly Case[] = [
  { name: "quorum, prefetch 1000, batch 500", env: {} },
  { name: "classic, prefetch 1000, batch 500", env: { RABBITMQ_QUEUE_TYPE: "classic" } },
  ...PREFETCHES.filter((prefetch) => prefetch !== "1000").map((prefetch) => ({
    name: `quorum, prefetch ${prefetch}, batch 500`,
    env: { RABBITMQ_PREFETCH: prefetch },
  })),
  ...BATCHES.filter((batch) => batch !== "500").map((batch) => ({
    name: `quorum, prefetch 1000, batch ${batch}`,
    env: { BATCH_MAX_EVENTS: batch },
  })),
];

export const queueTypes: Scenario = {
  name: "broker",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (const framing of FRAMINGS) {
      for (const { name, env } of CASES) {
        for (let round = 1; round <= bench.rounds; round += 1) {
          bench.progress(`${name}, ${framing}, round ${round} of ${bench.rounds}`);
          const stage = await Stage.open(bench.servers, { broker: "RabbitMQ", env });
          try {
            const { used, eventsPerSecond } = await stage.measureBurst(EVENTS, framing);
            for (const consumer of ["RabbitMQ", "receiver", "datadog-processor", "postgres-processor", "Redis", "PostgreSQL"] as const) {
              rounds.add(`${name}, ${framing}: ${consumer}`, "µs CPU per event", used.get(consumer) ?? 0);
            }
            rounds.add(`${name}, ${framing}: from first to last`, "events/s", eventsPerSecond);
          } finally {
            await stage.close();
          }
        }
      }
    }
    return {
      title: "Broker queue, prefetch and batch size",
      note: `${EVENTS.toLocaleString("en")} events as fast as RabbitMQ takes them, after a warm-up; its own CPU is that of publishing, routing, storing and delivering.`,
      figures: rounds.figures(),
    };
  },
};
