/** Compares RabbitMQ's quorum and classic queues, prefetches and batch sizes. */
import { Rounds, type Section } from "../report/figure.ts";
import type { Framing } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { Stage } from "../stage.ts";

const EVENTS = 100_000;

interface Case {
  readonly name: string;
  readonly env: Readonly<Record<string, string>>;
  readonly framings: readonly Framing[];
}

/** The first is the default. */
const CASES: readonly Case[] = [
  { name: "quorum, prefetch 8000, batch 4000", env: {}, framings: ["multi", "single"] },
  { name: "classic, prefetch 8000, batch 4000", env: { RABBITMQ_QUEUE_TYPE: "classic" }, framings: ["multi", "single"] },
  // With lists, a batch is full long before the prefetch is used up.
  { name: "quorum, prefetch 1000, batch 4000", env: { RABBITMQ_PREFETCH: "1000" }, framings: ["single"] },
  { name: "quorum, prefetch 8000, batch 500", env: { BATCH_MAX_EVENTS: "500" }, framings: ["multi"] },
  { name: "quorum, prefetch 8000, batch 2000", env: { BATCH_MAX_EVENTS: "2000" }, framings: ["multi"] },
  {
    name: "quorum, prefetch 8000, batch 8000",
    env: { BATCH_MAX_EVENTS: "8000", BATCH_MAX_BYTES: String(8 * 2 ** 20) },
    framings: ["multi"],
  },
];

export const queueTypes: Scenario = {
  name: "broker",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (const { name, env, framings } of CASES) {
      for (const framing of framings) {
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
      note: `${EVENTS.toLocaleString("en")} events as fast as RabbitMQ accepts them, after a warm-up. The CPU time of RabbitMQ covers publishing, routing, storing and delivering.`,
      figures: rounds.figures(),
    };
  },
};
