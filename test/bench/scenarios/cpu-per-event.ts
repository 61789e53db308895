/** What an event costs each process and each server, in CPU time. */
import { Rounds, type Goal, type Section } from "../figure.ts";
import { prepareBurst, publishBurst, type Framing } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { microsPerEvent, Stage, WARM_UP_EVENTS, type BrokerName, type Consumer } from "../stage.ts";

const EVENTS = 100_000;

const CASES: readonly { readonly broker: BrokerName; readonly framing: Framing; readonly receiver: Goal }[] = [
  { broker: "RabbitMQ", framing: "multi", receiver: { atMost: 12 } },
  { broker: "RabbitMQ", framing: "single", receiver: { atMost: 18 } },
  { broker: "Redis", framing: "multi", receiver: { atMost: 12 } },
  { broker: "Redis", framing: "single", receiver: { atMost: 18 } },
];

export const cpuPerEvent: Scenario = {
  name: "cpu",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (const { broker, framing, receiver } of CASES) {
      const goals: Partial<Record<Consumer, Goal>> = {
        receiver,
        "datadog-processor": { atMost: 15 },
        "postgres-processor": { atMost: 12 },
      };
      for (let round = 1; round <= bench.rounds; round += 1) {
        bench.progress(`CPU per event, ${broker}, ${framing} frames, round ${round} of ${bench.rounds}`);
        for (const [consumer, micros] of await measure(bench, broker, framing)) {
          rounds.add(`${consumer} (${broker}, ${framing})`, "µs CPU per event", micros, goals[consumer]);
        }
      }
    }
    return {
      title: "CPU per event",
      note: `User and system time for ${EVENTS.toLocaleString("en")} events as fast as the broker takes them, two exporters, one process of each role, after ${WARM_UP_EVENTS.toLocaleString("en")} events to warm up. multi: workers' events in lists of up to 24, clients' alone; single: each alone.`,
      figures: rounds.figures(),
    };
  },
};

async function measure({ servers }: Bench, broker: BrokerName, framing: Framing): Promise<Map<Consumer, number>> {
  const stage = await Stage.open(servers, { broker });
  try {
    const expected = await stage.warmUp(framing);
    const burst = prepareBurst(EVENTS, framing);
    expected.addAll(burst.expected);
    const before = stage.usage();
    await publishBurst(stage.publisher, burst.frames);
    await stage.delivered(expected);
    return microsPerEvent(before, stage.usage(), burst.expected.events);
  } finally {
    await stage.close();
  }
}
