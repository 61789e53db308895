/** The size of a task in the Store: in flight, and after it was sent. */
import { setTimeout as sleep } from "node:timers/promises";
import { Rounds, type Section } from "../report/figure.ts";
import { prepareBurst, publishBurst } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { Stage } from "../stage.ts";

const EVENTS = 100_000;
/** Keeps ended tasks in flight. */
const LONG_GRACE = { EXPORTERS: "datadog", DATADOG_GRACE_MS: "25000" };

export const store: Scenario = {
  name: "store",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (let round = 1; round <= bench.rounds; round += 1) {
      bench.progress(`bytes of a task in the Store, round ${round} of ${bench.rounds}`);
      const processes = { receiver: 1, "datadog-processor": 1 };
      const stage = await Stage.open(bench.servers, { broker: "RabbitMQ", processes, env: LONG_GRACE });
      try {
        const { frames, expected } = prepareBurst(EVENTS, "multi");
        const before = await stage.redisBytes();
        await publishBurst(stage.publisher, frames);
        await stage.untilExported("datadog", expected.takenBy("datadog"));
        rounds.add("task in flight, ended and not sent", "bytes", ((await stage.redisBytes()) - before) / expected.tasks, { atMost: 400 });
        await stage.untilSent(expected.tasks);
        await sleep(1_000);
        rounds.add("task that was sent", "bytes", ((await stage.redisBytes()) - before) / expected.tasks);
      } finally {
        await stage.close();
      }
    }
    return {
      title: "Redis bytes per task",
      note: `By used_memory, for ${(EVENTS / 4).toLocaleString("en")} tasks of about four events, including the ids that wait for the second stage. A task is kept for an hour after it was sent (DATADOG_SENT_EXPIRY_SECONDS), so that repeated events count only once.`,
      figures: rounds.figures(),
    };
  },
};
