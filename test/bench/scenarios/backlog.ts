/** What an event costs while a large backlog waits, beside what it costs without one; and what a queued event takes in Redis. */
import { Rounds, type Section } from "../figure.ts";
import { Expected } from "../expected.ts";
import { usageOf } from "../process-usage.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { EXPORTER_NAMES, Stage, type ExporterName } from "../stage.ts";

const BACKLOG_EVENTS = 1_000_000;
const MEASURED_EVENTS = 100_000;
/** What a processor that has just started works off before it is measured: it compiles what it runs, and its second stage begins after 2 s. */
const WARM_UP_EVENTS = 300_000;
/** Above it the receiver holds back. */
const NO_HIGH_WATER = { QUEUE_HIGH_WATER_EVENTS: "10000000" };

export const backlog: Scenario = {
  name: "backlog",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (let round = 1; round <= bench.rounds; round += 1) {
      bench.progress(`backlog of ${BACKLOG_EVENTS.toLocaleString("en")} events, round ${round} of ${bench.rounds}`);
      await measure(bench, rounds);
    }
    return {
      title: `Backlog of ${BACKLOG_EVENTS.toLocaleString("en")} events`,
      note: `The receiver and the queues' Redis for ${MEASURED_EVENTS.toLocaleString("en")} events while nobody takes any from the queues: onto the backlog, and onto empty queues when it is worked off. The processors while they work it off: 200,000 events while a million waits (after ${WARM_UP_EVENTS.toLocaleString("en")} to warm up), and 200,000 at the end, until ${MEASURED_EVENTS.toLocaleString("en")} are left.`,
      figures: rounds.figures(),
    };
  },
};

async function measure({ servers }: Bench, rounds: Rounds): Promise<void> {
  const stage = await Stage.open(servers, { broker: "RabbitMQ", processes: { receiver: 1 }, env: NO_HIGH_WATER });
  try {
    const expected = new Expected();
    const bytesBefore = await stage.redisBytes();
    await stage.measureEnqueuing(MEASURED_EVENTS, EXPORTER_NAMES, expected);
    const bytes = (await stage.redisBytes()) - bytesBefore;
    rounds.add("queued event, in Redis", "bytes per exporter", bytes / expected.events / EXPORTER_NAMES.length, { atMost: 250 });
    while (expected.events < BACKLOG_EVENTS + WARM_UP_EVENTS) await stage.measureEnqueuing(MEASURED_EVENTS, EXPORTER_NAMES, expected);
    const full = await stage.measureEnqueuing(MEASURED_EVENTS, EXPORTER_NAMES, expected);
    const drains = await Promise.all(EXPORTER_NAMES.map((exporter) => drain(stage, exporter, expected.takenBy(exporter))));
    for (const [index, exporter] of EXPORTER_NAMES.entries())
      compare(rounds, `${exporter}-processor`, drains[index]?.small, drains[index]?.large);
    await stage.delivered(expected);
    for (const exporter of EXPORTER_NAMES) stage.signal("SIGSTOP", `${exporter}-processor`);
    const empty = await stage.measureEnqueuing(MEASURED_EVENTS, EXPORTER_NAMES, expected);
    for (const consumer of ["receiver", "Redis"] as const) {
      compare(rounds, `${consumer}, enqueuing`, empty.get(consumer), full.get(consumer));
    }
    stage.signal("SIGCONT");
    await stage.delivered(expected);
  } finally {
    await stage.close();
  }
}

function compare(rounds: Rounds, name: string, small = Number.NaN, large = Number.NaN): void {
  rounds.add(`${name}, little waits`, "µs CPU per event", small);
  rounds.add(`${name}, the backlog waits`, "µs CPU per event", large);
  rounds.add(`${name}, rise`, "ratio", large / small, { atMost: 1.1 });
}

/** CPU time of a processor per event, in µs, while much waits and while little does. */
interface DrainCost {
  readonly large: number;
  readonly small: number;
}

/** Starts a processor and watches it work the backlog off. */
async function drain(stage: Stage, exporter: ExporterName, events: number): Promise<DrainCost> {
  const { child } = await stage.fleet.add(`${exporter}-processor`);
  const marks = [WARM_UP_EVENTS, WARM_UP_EVENTS + 2 * MEASURED_EVENTS, events - 3 * MEASURED_EVENTS, events - MEASURED_EVENTS];
  const costs: number[] = [];
  let [exported, cpuSeconds] = [0, 0];
  for (const mark of marks) {
    await stage.untilExported(exporter, mark);
    const now = await stage.exported(exporter);
    const used = usageOf(child.pid ?? 0).cpuSeconds;
    costs.push(((used - cpuSeconds) / (now - exported)) * 1_000_000);
    [exported, cpuSeconds] = [now, used];
  }
  const [, large = Number.NaN, , small = Number.NaN] = costs;
  return { large, small };
}
