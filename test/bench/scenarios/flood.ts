/** Whether the memory of the prometheus-processor stays flat: over ordinary tasks, and while senders make up names and hosts without end. */
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "@celery-metrics-exporter/testkit";
import { isExact } from "../counted.ts";
import { Expected } from "../expected.ts";
import { type BurstOptions, prepareBurst, publishBurst } from "../prepared-load.ts";
import { Rounds, type Section } from "../report/figure.ts";
import { ResidentSamples, SAMPLE_MS } from "../resident.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { Stage, until } from "../stage.ts";

const ROLE = "prometheus-processor";
const ORDINARY_EVENTS = 2_000_000;
/** Each with a name and a host of its own: about four events each. */
const FLOOD_TASKS = 1_000_000;
const EVENTS_PER_STEP = 100_000;
/** Far more than are drawn, so that hardly two are the same. */
const MADE_UP = 1e12;
/** The samples at the beginning and at the end of each part are of this many events. What comes before the first of them is the warm-up. */
const SPAN_EVENTS = 400_000;
const BETWEEN_SCRAPES_MS = 1_000;
const MILLION = 1e6;

export const flood: Scenario = {
  name: "flood",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (let round = 1; round <= bench.rounds; round += 1) await measure(bench, rounds, round);
    return {
      title: "Memory of the prometheus-processor",
      note: `Resident memory, sampled every ${SAMPLE_MS / 1_000} s: first over ${ORDINARY_EVENTS.toLocaleString("en")} events of ordinary tasks, then over ${FLOOD_TASKS.toLocaleString("en")} tasks, each with a name and a host of its own (\`PROMETHEUS_HOSTNAME_LABEL=worker\`, and the default limits). Each value is a median of ${SPAN_EVENTS.toLocaleString("en")} events, after ${EVENTS_PER_STEP.toLocaleString("en")} of each part. Compressed scrapes follow each other with a pause of ${BETWEEN_SCRAPES_MS / 1_000} s. In the end the counters are exact.`,
      figures: rounds.figures(),
    };
  },
};

async function measure({ servers, rounds: total, progress }: Bench, rounds: Rounds, round: number): Promise<void> {
  const port = await freePort();
  const stage = await Stage.open(servers, {
    broker: "RabbitMQ",
    processes: { receiver: 1, [ROLE]: 1 },
    env: { EXPORTERS: "prometheus", PROMETHEUS_PORT: String(port), PROMETHEUS_HOSTNAME_LABEL: "worker" },
  });
  const expected = new Expected();
  const samples = new ResidentSamples(stage, () => expected.events);
  const scrapes = new Scrapes(`http://127.0.0.1:${port}/metrics`);
  const publish = async (options: BurstOptions): Promise<void> => {
    progress(
      `flood, ${expected.events.toLocaleString("en")} events, ${expected.tasks.toLocaleString("en")} tasks, round ${round} of ${total}`,
    );
    const burst = prepareBurst(EVENTS_PER_STEP, "multi", options);
    await publishBurst(stage.publisher, burst.frames);
    expected.addAll(burst.expected);
    await stage.untilExported("prometheus", expected.takenBy("prometheus"));
  };
  try {
    while (expected.events < ORDINARY_EVENTS) await publish({ seed: expected.events });
    const ordinary = expected.events;
    const tasks = expected.tasks + FLOOD_TASKS;
    while (expected.tasks < tasks) await publish({ seed: expected.events, names: MADE_UP, hosts: MADE_UP });
    samples.stop();
    await scrapes.stop();
    samples.report(rounds, ROLE, "ordinary tasks", spans(0, ordinary));
    samples.report(rounds, ROLE, "made-up names and hosts", spans(ordinary, expected.events));
    rounds.add("scrapes", "", scrapes.made);
    rounds.add("scrapes: most text", "MB", scrapes.mostBytes / MILLION);
    // Events of a task whose queue no event contains wait up to 10 s for it.
    await until("the exact counts", async () => isExact((await scrapes.once()).toString(), expected));
  } finally {
    samples.stop();
    await scrapes.stop();
    await stage.close();
  }
}

function spans(from: number, to: number): Parameters<ResidentSamples["report"]>[3] {
  const first = { from: from + EVENTS_PER_STEP, to: from + EVENTS_PER_STEP + SPAN_EVENTS };
  return { first, last: { from: to - SPAN_EVENTS, to }, since: from };
}

/** Scrapes one after the other until `stop`, as compressed text, as Prometheus does. */
class Scrapes {
  made = 0;
  mostBytes = 0;
  readonly #url: string;
  readonly #running: Promise<void>;
  #stopping = false;

  constructor(url: string) {
    this.#url = url;
    this.#running = this.#run();
    // `stop` reports it.
    this.#running.catch(() => {});
  }

  /** @throws {Error} if it is not answered with 200. */
  async once(): Promise<Buffer> {
    const response = await fetch(this.#url, { headers: { "accept-encoding": "gzip" } });
    if (!response.ok) throw new Error(`the scrape was answered with ${response.status}`);
    return Buffer.from(await response.arrayBuffer());
  }

  /** @throws {Error} if a scrape failed. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    for (; !this.#stopping; await sleep(BETWEEN_SCRAPES_MS)) {
      this.mostBytes = Math.max(this.mostBytes, (await this.once()).length);
      this.made += 1;
    }
  }
}
