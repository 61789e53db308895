/** The cost of an event with and without a large backlog, and the size of a queued event in Redis. */
import type { Expected } from "../expected.ts";
import { Rounds, type Section } from "../report/figure.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { EXPORTER_NAMES, microsPerEvent, Stage, WARM_UP_EVENTS, type Consumer } from "../stage.ts";

const BACKLOG_EVENTS = 1_000_000;
/** The number of events for the comparison, and the number added to the backlog. */
const FEW_EVENTS = 200_000;
/** Prevents the receiver from holding back. */
const NO_HIGH_WATER = { QUEUE_HIGH_WATER_EVENTS: "10000000" };
const ENQUEUING: readonly Consumer[] = ["receiver", "Redis"];
const DRAINING: readonly Consumer[] = ["datadog-processor", "postgres-processor", "Redis", "PostgreSQL"];

export const backlog: Scenario = {
  name: "backlog",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (let round = 1; round <= bench.rounds; round += 1) {
      bench.progress(`backlog of ${BACKLOG_EVENTS.toLocaleString("en")} events, round ${round} of ${bench.rounds}`);
      await measure(bench, rounds);
    }
    const [few, many, warmUp] = [FEW_EVENTS, BACKLOG_EVENTS, WARM_UP_EVENTS].map((events) => events.toLocaleString("en"));
    return {
      title: `Backlog of ${many} events`,
      note: `After ${warmUp} events to warm up. Enqueuing: ${few} events onto empty queues, and ${few} onto ${many}, with all processors stopped. Draining: ${few} events, and the whole backlog, until every row is committed and every metric is sent; both exporters at the same time.`,
      figures: rounds.figures(),
    };
  },
};

async function measure({ servers }: Bench, rounds: Rounds): Promise<void> {
  const stage = await Stage.open(servers, { broker: "RabbitMQ", env: NO_HIGH_WATER });
  try {
    const expected = await stage.warmUp("multi");
    const before = expected.events;
    stopExporting(stage);
    const bytesBefore = await stage.redisBytes();
    const ontoNothing = await stage.measureEnqueuing(FEW_EVENTS, EXPORTER_NAMES, expected);
    const bytes = (await stage.redisBytes()) - bytesBefore;
    rounds.add("queued event, in Redis", "bytes per exporter", bytes / (expected.events - before) / EXPORTER_NAMES.length, {
      atMost: 250,
    });
    while (expected.events < before + BACKLOG_EVENTS) await stage.measureEnqueuing(FEW_EVENTS, EXPORTER_NAMES, expected);
    const ontoBacklog = await stage.measureEnqueuing(FEW_EVENTS, EXPORTER_NAMES, expected);
    for (const consumer of ENQUEUING) compare(rounds, `${consumer}, enqueuing`, ontoNothing.get(consumer), ontoBacklog.get(consumer));

    const ofBacklog = await measureDraining(stage, expected, expected.events - before);
    const beforeFew = expected.events;
    stopExporting(stage);
    await stage.measureEnqueuing(FEW_EVENTS, EXPORTER_NAMES, expected);
    const ofFew = await measureDraining(stage, expected, expected.events - beforeFew);
    for (const consumer of DRAINING) compare(rounds, `${consumer}, draining`, ofFew.get(consumer), ofBacklog.get(consumer));
  } finally {
    await stage.close();
  }
}

function stopExporting(stage: Stage): void {
  for (const exporter of EXPORTER_NAMES) stage.signal("SIGSTOP", `${exporter}-processor`);
}

/** Lets the processors run until everything is delivered, and returns the cost per event. */
async function measureDraining(stage: Stage, expected: Expected, events: number): Promise<Map<Consumer, number>> {
  const before = stage.usage();
  stage.signal("SIGCONT");
  await stage.delivered(expected);
  return microsPerEvent(before, stage.usage(), events);
}

function compare(rounds: Rounds, work: string, few = Number.NaN, backlogged = Number.NaN): void {
  rounds.add(`${work}, little waits`, "µs CPU per event", few);
  rounds.add(`${work}, the backlog waits`, "µs CPU per event", backlogged);
  rounds.add(`${work}, rise`, "ratio", backlogged / few, { atMost: 1.1 });
}
