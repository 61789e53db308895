/** How fast one, two and four processors of a kind work off the same backlog. */
import { Rounds, type Section } from "../figure.ts";
import { prepareBurst, publishBurst } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { EXPORTER_NAMES, Stage, type ExporterName } from "../stage.ts";

const EVENTS = 200_000;
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
      note: `A backlog of ${EVENTS.toLocaleString("en")} events in the exporter's queue, worked off by so many processes, from the start of the first job (each process compiles what it runs meanwhile). The servers run on the same cores.`,
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
    const began = { at: Date.now(), exported: await stage.exported(exporter) };
    await stage.untilExported(exporter, expected.takenBy(exporter));
    return ((expected.takenBy(exporter) - began.exported) / (Date.now() - began.at)) * 1_000;
  } finally {
    await stage.close();
  }
}
