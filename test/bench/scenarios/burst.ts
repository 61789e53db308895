/** The time in which a burst drains. */
import { Rounds, type Section } from "../report/figure.ts";
import { prepareBurst, publishBurst } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { Stage } from "../stage.ts";

const EVENTS = 400_000;

export const burst: Scenario = {
  name: "burst",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (let round = 1; round <= bench.rounds; round += 1) {
      bench.progress(`burst of ${EVENTS.toLocaleString("en")} events, round ${round} of ${bench.rounds}`);
      const stage = await Stage.open(bench.servers, { broker: "RabbitMQ" });
      try {
        const { frames, expected } = prepareBurst(EVENTS, "multi");
        const began = Date.now();
        await publishBurst(stage.publisher, frames);
        const publishedAt = Date.now();
        const { rowsAt, metricsAt } = await stage.delivered(expected);
        const seconds = (at: number): number => (at - began) / 1_000;
        rounds.add("published", "s", seconds(publishedAt));
        rounds.add("all rows committed", "s", seconds(rowsAt));
        rounds.add("all metrics sent", "s", seconds(metricsAt));
        rounds.add("from first to last", "events/s", expected.events / seconds(Math.max(rowsAt, metricsAt)));
      } finally {
        await stage.close();
      }
    }
    return {
      title: `Burst of ${EVENTS.toLocaleString("en")} events`,
      note: "Published to RabbitMQ (quorum queue) as fast as it accepts them; one process per role, just started. Nothing is lost.",
      figures: rounds.figures(),
    };
  },
};
