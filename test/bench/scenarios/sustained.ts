/** The highest rate at which nothing piles up, and how far behind the rows and the metrics are then. */
import { Rounds, type Section } from "../figure.ts";
import { lagOfMetrics, lagOfRows, type Lag } from "../lag.ts";
import { prepareStream, publishStream } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { Stage } from "../stage.ts";

const SECONDS = 30;
const TRIAL_SECONDS = 15;
const FIRST_EVENTS_PER_SECOND = 4_000;
const STEP = 1.15;
/** What counts as keeping up. */
const MAX_P99_MS = 2_000;
/** DATADOG_GRACE_MS: a task is kept so long for events that are still on their way. */
const GRACE_MS = 2_000;

interface Trial {
  readonly rows: Lag;
  readonly metrics: Lag;
  readonly keepsUp: boolean;
}

export const sustained: Scenario = {
  name: "sustained",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    let rate = await highestRate(bench);
    for (let done = 0; done < bench.rounds;) {
      bench.progress(`${rate} events/s for ${SECONDS} s, round ${done + 1} of ${bench.rounds}`);
      const { rows, metrics, keepsUp } = await attempt(bench, rate, SECONDS);
      if (!keepsUp) {
        rate = Math.round(rate / STEP);
        done = 0;
        rounds.clear();
        continue;
      }
      done += 1;
      rounds.add("whole pipeline", "events/s", rate, { atLeast: 12_000 });
      rounds.add("row committed, p50", "ms", rows.p50Ms);
      rounds.add("row committed, p99", "ms", rows.p99Ms, { atMost: 2_000 });
      rounds.add("row committed, maximum", "ms", rows.maxMs);
      rounds.add("metrics sent, p50", "ms", metrics.p50Ms);
      rounds.add("metrics sent, p99", "ms", metrics.p99Ms);
      rounds.add("metrics sent, maximum", "ms", metrics.maxMs);
    }
    return {
      title: "Sustained rate and lag",
      note: `The highest rate (in steps of ${Math.round((STEP - 1) * 100)} %) that all processes, all servers and the load generator together sustain on this machine for ${SECONDS} s in every round, with the p99 of both lags within 2 s (beyond the ${GRACE_MS / 1_000} s for which the Datadog exporter waits by default). Lag: from a task's last event until its row was committed (of every row) or its metrics came to the agent (of 10 tasks each second).`,
      figures: rounds.figures(),
    };
  },
};

async function highestRate(bench: Bench): Promise<number> {
  let rate = FIRST_EVENTS_PER_SECOND;
  for (;;) {
    const next = Math.round(rate * STEP);
    bench.progress(`looking for the highest rate: ${next} events/s`);
    if (!(await attempt(bench, next, TRIAL_SECONDS)).keepsUp) return rate;
    rate = next;
  }
}

async function attempt({ servers }: Bench, eventsPerSecond: number, seconds: number): Promise<Trial> {
  const stage = await Stage.open(servers, { broker: "RabbitMQ" });
  try {
    const expected = await stage.warmUp("multi");
    const stream = prepareStream(eventsPerSecond, seconds, "multi");
    expected.addAll(stream.expected);
    await publishStream(stage.publisher, stream);
    await stage.delivered(expected);
    const rows = await lagOfRows(stage, stream);
    const metrics = lagOfMetrics(stage.agent, stream);
    return { rows, metrics, keepsUp: rows.p99Ms <= MAX_P99_MS && metrics.p99Ms - GRACE_MS <= MAX_P99_MS };
  } finally {
    await stage.close();
  }
}
