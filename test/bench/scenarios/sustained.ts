/** The highest rate without a growing backlog, and the lag of the rows and the metrics at that rate. */
import { Rounds, type Figure, type Goal, type Section } from "../report/figure.ts";
import { lagOfMetrics, lagOfRows, type Lag } from "../lag.ts";
import { prepareStream, publishStream } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { Stage, type BrokerName } from "../stage.ts";

const BROKERS: readonly BrokerName[] = ["RabbitMQ", "Redis"];
const SECONDS = 30;
const TRIAL_SECONDS = 15;
const FIRST_EVENTS_PER_SECOND = 10_000;
/** Rates rise or fall by this factor until one is on the other side; then the interval is halved until it is this small. */
const STRIDE = 1.25;
const CLOSE = 1.04;
const EVENTS_PER_SECOND: Goal = { atLeast: 12_000 };
/** The limit for keeping up. */
const MAX_P99_MS = 2_000;
/** DATADOG_GRACE_MS: how long a task waits for events that are still on their way. */
const GRACE_MS = 2_000;

interface Trial {
  readonly rows: Lag;
  readonly metrics: Lag;
  readonly keepsUp: boolean;
}

export const sustained: Scenario = {
  name: "sustained",
  async run(bench: Bench): Promise<Section> {
    const figures: Figure[] = [];
    for (const broker of BROKERS) figures.push(...(await measure(bench, broker)));
    return {
      title: "Sustained rate and lag",
      note: `The highest rate (within ${Math.round((CLOSE - 1) * 100)} %) that all processes, all servers and the load generator together sustain on this machine for ${SECONDS} s in every round, with the p99 of both lags within 2 s (plus the ${GRACE_MS / 1_000} s that the Datadog exporter waits by default). Frames as from a busy Celery. Lag: the time from a task's last event until its row was committed (every row) or its metrics reached the agent (10 tasks per second). Nothing is lost.`,
      figures,
    };
  },
};

async function measure(bench: Bench, broker: BrokerName): Promise<readonly Figure[]> {
  let rate = await highestRate(bench, broker);
  for (let rounds = new Rounds(), done = 0; ;) {
    bench.progress(`${broker}: ${rate} events/s for ${SECONDS} s, round ${done + 1} of ${bench.rounds}`);
    const { rows, metrics, keepsUp } = await attempt(bench, broker, rate, SECONDS);
    if (!keepsUp) {
      rate = Math.round(rate / CLOSE);
      [rounds, done] = [new Rounds(), 0];
      continue;
    }
    rounds.add(`${broker}: whole pipeline`, "events/s", rate, EVENTS_PER_SECOND);
    rounds.add(`${broker}: row committed, p50`, "ms", rows.p50Ms);
    rounds.add(`${broker}: row committed, p99`, "ms", rows.p99Ms, { atMost: MAX_P99_MS });
    rounds.add(`${broker}: row committed, maximum`, "ms", rows.maxMs);
    rounds.add(`${broker}: metrics sent, p50`, "ms", metrics.p50Ms);
    rounds.add(`${broker}: metrics sent, p99`, "ms", metrics.p99Ms, { atMost: MAX_P99_MS + GRACE_MS });
    rounds.add(`${broker}: metrics sent, maximum`, "ms", metrics.maxMs);
    done += 1;
    if (done === bench.rounds) return rounds.figures();
  }
}

async function highestRate(bench: Bench, broker: BrokerName): Promise<number> {
  let [kept, tooFast] = [0, Number.POSITIVE_INFINITY];
  for (let rate = FIRST_EVENTS_PER_SECOND; tooFast / kept > CLOSE;) {
    bench.progress(`${broker}: looking for the highest rate, ${rate} events/s`);
    const { keepsUp } = await attempt(bench, broker, rate, TRIAL_SECONDS);
    if (keepsUp) kept = rate;
    else tooFast = rate;
    if (kept === 0) rate /= STRIDE;
    else if (tooFast === Number.POSITIVE_INFINITY) rate *= STRIDE;
    else rate = (kept + tooFast) / 2;
    rate = Math.round(rate);
  }
  return kept;
}

async function attempt({ servers }: Bench, broker: BrokerName, eventsPerSecond: number, seconds: number): Promise<Trial> {
  const stage = await Stage.open(servers, { broker });
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
