/** CPU usage of the three roles in a steady stream of single events: batches are small, so what each of them costs counts most. */
import { setTimeout as sleep } from "node:timers/promises";
import { prepareStream, publishStream } from "../prepared-load.ts";
import { Rounds, type Section } from "../report/figure.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { microsPerEvent, ROLES, Stage } from "../stage.ts";

const EVENTS_PER_SECOND = 1_500;
const SECONDS = 30;
const MOMENT_MS = 100;

export const steady: Scenario = {
  name: "steady",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (let round = 1; round <= bench.rounds; round += 1) {
      bench.progress(`steady stream, round ${round} of ${bench.rounds}`);
      await measure(bench, rounds);
    }
    return {
      title: "Steady stream of single events",
      note: `${EVENTS_PER_SECOND.toLocaleString("en")} events per second over Redis pub/sub for ${SECONDS} s, each event single, with one process per role, after a warm-up. Includes what the roles use when idle.`,
      figures: rounds.figures(),
    };
  },
};

async function measure({ servers }: Bench, rounds: Rounds): Promise<void> {
  const stage = await Stage.open(servers, { broker: "Redis" });
  try {
    const expected = await stage.warmUp("single");
    const stream = prepareStream(EVENTS_PER_SECOND, SECONDS, "single");
    expected.addAll(stream.expected);
    await sleep(stream.startsAt - Date.now() - MOMENT_MS);
    const before = stage.usage();
    await publishStream(stage.publisher, stream);
    const used = microsPerEvent(before, stage.usage(), stream.expected.events);
    const cost = ROLES.map((role) => used.get(role) ?? Number.NaN);
    rounds.add(
      "all three roles",
      "µs CPU per event",
      cost.reduce((sum, role) => sum + role, 0),
      { atMost: 28 },
    );
    for (const [index, role] of ROLES.entries()) rounds.add(role, "µs CPU per event", cost[index] ?? Number.NaN);
    await stage.delivered(expected);
  } finally {
    await stage.close();
  }
}
