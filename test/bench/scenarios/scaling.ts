/** How fast one, two and four processors of a kind process the same backlog. */
import type { Expected } from "../expected.ts";
import { Rounds, type Section } from "../report/figure.ts";
import { prepareBurst, publishBurst } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { EXPORTER_NAMES, Stage, type ExporterName } from "../stage.ts";

const EVENTS = 400_000;
/** The measured part of the backlog: all processes have started, and none runs out of work yet. */
const BEGIN = 0.25;
const END = 0.9;
const COUNTS = [1, 2, 4] as const;

export const scaling: Scenario = {
  name: "scaling",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (const exporter of EXPORTER_NAMES) {
      for (const count of COUNTS) {
        for (let round = 1; round <= bench.rounds; round += 1) {
          bench.progress(`${count} ${exporter}-processors on one backlog, round ${round} of ${bench.rounds}`);
          rounds.add(`${count} × ${exporter}-processor`, "events/s", await eventsPerSecond(bench, exporter, count));
        }
      }
    }
    return {
      title: "Scaling",
      note: `A backlog of ${EVENTS.toLocaleString("en")} events in the exporter queue, processed by this number of processes until rows are committed or metrics are sent; measured from ${BEGIN * 100} to ${END * 100} % of the backlog. The servers run on the same cores.`,
      figures: rounds.figures(),
    };
  },
};

async function eventsPerSecond({ servers }: Bench, exporter: ExporterName, count: number): Promise<number> {
  const stage = await Stage.open(servers, { broker: "RabbitMQ", processes: { receiver: 1 }, env: { EXPORTERS: exporter } });
  try {
    const { frames, expected } = prepareBurst(EVENTS, "multi");
    await publishBurst(stage.publisher, frames);
    await stage.untilEnqueued([exporter], expected);
    await Promise.all(Array.from({ length: count }, () => stage.fleet.add(`${exporter}-processor`)));
    const begin = await reach(stage, exporter, expected, BEGIN);
    const end = await reach(stage, exporter, expected, END);
    return ((end.share - begin.share) * expected.events) / ((end.at - begin.at) / 1_000);
  } finally {
    await stage.close();
  }
}

/** When this share of the backlog was done, and the exact share at that time. */
async function reach(stage: Stage, exporter: ExporterName, expected: Expected, share: number): Promise<{ at: number; share: number }> {
  if (exporter === "datadog") {
    await stage.untilSent(share * expected.tasks);
    return { at: Date.now(), share: stage.agent.tasks / expected.tasks };
  }
  const all = expected.takenBy(exporter);
  await stage.untilExported(exporter, share * all);
  return { at: Date.now(), share: (await stage.exported(exporter)) / all };
}
