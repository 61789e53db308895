/** How costs grow: the receiver's with the number of exporters, the Store's with the tasks in flight. */
import { Expected } from "../expected.ts";
import { Rounds, type Section } from "../report/figure.ts";
import { prepareBurst, prepareOpenTasks, publishBurst } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { microsPerEvent, Stage, WARM_UP_EVENTS, type Consumer, type ExporterName } from "../stage.ts";

const EVENTS = 100_000;
const OPEN_TASKS = 400_000;
const EXPORTERS: readonly (readonly ExporterName[])[] = [["postgres"], ["datadog", "postgres"]];

export const growth: Scenario = {
  name: "growth",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (let round = 1; round <= bench.rounds; round += 1) {
      bench.progress(`costs by exporters, round ${round} of ${bench.rounds}`);
      for (const exporters of EXPORTERS) await feed(bench, exporters, rounds);
      bench.progress(`costs by tasks in flight, round ${round} of ${bench.rounds}`);
      await fillStore(bench, rounds);
    }
    return {
      title: "Growth of costs",
      note: `${EVENTS.toLocaleString("en")} events in workers' lists, after ${WARM_UP_EVENTS.toLocaleString("en")} to warm up. Exporters: the receiver and the Redis of the exporter queues, with all processors stopped. Tasks in flight: a datadog-processor and its Redis (including the receiver's part of it), without other tasks in flight and with ${OPEN_TASKS.toLocaleString("en")} of them in the Store. The figures exclude Redis' rewriting of its append-only file, which happens each time the file doubles.`,
      figures: rounds.figures(),
    };
  },
};

async function feed({ servers }: Bench, exporters: readonly ExporterName[], rounds: Rounds): Promise<void> {
  const stage = await Stage.open(servers, { broker: "RabbitMQ", processes: { receiver: 1 }, env: { EXPORTERS: exporters.join() } });
  try {
    const expected = new Expected();
    await stage.measureEnqueuing(WARM_UP_EVENTS, exporters, expected);
    const used = await stage.measureEnqueuing(EVENTS, exporters, expected);
    for (const consumer of ["receiver", "Redis"] as const) {
      rounds.add(`${consumer}, ${exporters.join(" and ")}`, "µs CPU per event", used.get(consumer) ?? Number.NaN);
    }
  } finally {
    await stage.close();
  }
}

async function fillStore({ servers }: Bench, rounds: Rounds): Promise<void> {
  const processes = { receiver: 1, "datadog-processor": 1 };
  const stage = await Stage.open(servers, { broker: "RabbitMQ", processes, env: { EXPORTERS: "datadog" } });
  try {
    await measureStore(stage, WARM_UP_EVENTS);
    await addStore(stage, "no other task in flight", rounds);
    const before = await stage.exported("datadog");
    await publishBurst(stage.publisher, prepareOpenTasks(OPEN_TASKS));
    await stage.untilExported("datadog", before + OPEN_TASKS);
    await stage.rewriteAof();
    await addStore(stage, `${OPEN_TASKS.toLocaleString("en")} other tasks in flight`, rounds);
  } finally {
    await stage.close();
  }
}

async function addStore(stage: Stage, name: string, rounds: Rounds): Promise<void> {
  const used = await measureStore(stage, EVENTS);
  for (const consumer of ["datadog-processor", "Redis"] as const) {
    rounds.add(`${consumer}, ${name}`, "µs CPU per event", used.get(consumer) ?? Number.NaN);
  }
}

/** Resolves when the metrics of all these tasks have been sent. */
async function measureStore(stage: Stage, events: number): Promise<Map<Consumer, number>> {
  const { frames, expected } = prepareBurst(events, "multi");
  const tasks = stage.agent.tasks + expected.tasks;
  const before = stage.usage();
  await publishBurst(stage.publisher, frames);
  await stage.untilSent(tasks);
  return microsPerEvent(before, stage.usage(), expected.events);
}
