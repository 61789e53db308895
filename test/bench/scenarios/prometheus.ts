/** What counting for Prometheus costs, and what a scrape costs. */
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "@celery-metrics-exporter/testkit";
import { isExact } from "../counted.ts";
import { Expected } from "../expected.ts";
import { Rounds, type Section } from "../report/figure.ts";
import { prepareBurst, publishBurst, type Framing } from "../prepared-load.ts";
import type { Bench, Scenario } from "../scenario.ts";
import { microsPerEvent, Stage, until } from "../stage.ts";

const ROLE = "prometheus-processor";
const EVENTS = 100_000;
const FRAMINGS: readonly Framing[] = ["multi", "single"];
/** Names of tasks in the load for scrapes. Each occurs with four queues. */
const NAMES = 250;
const WARM_UP_SCRAPES = 10;
const SCRAPES = 20;
/** Longer than a snapshot answers scrapes, so each scrape reads Redis. */
const BETWEEN_SCRAPES_MS = 1_100;

export const prometheus: Scenario = {
  name: "prometheus",
  async run(bench: Bench): Promise<Section> {
    const rounds = new Rounds();
    for (let round = 1; round <= bench.rounds; round += 1) {
      for (const framing of FRAMINGS) {
        bench.progress(`counting for Prometheus, ${framing} frames, round ${round} of ${bench.rounds}`);
        await measureCounting(bench, framing, rounds);
      }
      bench.progress(`scrapes, round ${round} of ${bench.rounds}`);
      await measureScrapes(bench, rounds);
    }
    return {
      title: "Prometheus",
      note: `Counting: ${EVENTS.toLocaleString("en")} events off a backlog, after as many to warm up, with one prometheus-processor and no other exporter. The shown counters become exactly those of the published tasks. Scrapes: ${SCRAPES} of them, after ${WARM_UP_SCRAPES} to warm up, each more than a second after the last, so that each reads Redis; as text, without compression.`,
      figures: rounds.figures(),
    };
  },
};

interface Scene {
  readonly stage: Stage;
  readonly expected: Expected;
  /** @throws {Error} if it is not answered with 200. */
  readonly scrape: () => Promise<string>;
}

async function withProcessor({ servers }: Bench, work: (scene: Scene) => Promise<void>): Promise<void> {
  const port = await freePort();
  const env = { EXPORTERS: "prometheus", PROMETHEUS_PORT: String(port) };
  const stage = await Stage.open(servers, { broker: "RabbitMQ", processes: { receiver: 1, [ROLE]: 1 }, env });
  try {
    const scrape = async (): Promise<string> => {
      // By default, `fetch` asks for a compressed answer.
      const response = await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { "accept-encoding": "identity" } });
      if (!response.ok) throw new Error(`the scrape was answered with ${response.status}`);
      return response.text();
    };
    await work({ stage, expected: new Expected(), scrape });
  } finally {
    await stage.close();
  }
}

/** Publishes and resolves when everything is counted. */
async function countBurst({ stage, expected }: Scene, framing: Framing, names?: number): Promise<void> {
  const burst = prepareBurst(EVENTS, framing, names === undefined ? {} : { names });
  expected.addAll(burst.expected);
  await publishBurst(stage.publisher, burst.frames);
  await stage.untilExported("prometheus", expected.takenBy("prometheus"));
}

async function measureCounting(bench: Bench, framing: Framing, rounds: Rounds): Promise<void> {
  await withProcessor(bench, async (scene) => {
    const { stage, expected } = scene;
    await countBurst(scene, framing);
    stage.signal("SIGSTOP", ROLE);
    const burst = prepareBurst(EVENTS, framing);
    expected.addAll(burst.expected);
    await publishBurst(stage.publisher, burst.frames);
    await stage.untilEnqueued(["prometheus"], expected);
    const before = stage.usage();
    stage.signal("SIGCONT", ROLE);
    await stage.untilExported("prometheus", expected.takenBy("prometheus"));
    const used = microsPerEvent(before, stage.usage(), burst.expected.events);
    rounds.add(`${ROLE} (${framing})`, "µs CPU per event", used.get(ROLE) ?? Number.NaN, { atMost: 12 });
    rounds.add(`— Redis, for the ${ROLE} (${framing})`, "µs CPU per event", used.get("Redis") ?? Number.NaN, { atMost: 10 });
    // Events of a task whose queue no event contains wait up to 10 s for it.
    await until("the exact counts", async () => isExact(await scene.scrape(), expected));
  });
}

async function measureScrapes(bench: Bench, rounds: Rounds): Promise<void> {
  await withProcessor(bench, async (scene) => {
    const { stage } = scene;
    await countBurst(scene, "multi", NAMES);
    let shown = "";
    for (let scrape = 0; scrape < WARM_UP_SCRAPES; scrape += 1) {
      shown = await scene.scrape();
      await sleep(BETWEEN_SCRAPES_MS);
    }
    const before = stage.usage();
    const times: number[] = [];
    for (let scrape = 0; scrape < SCRAPES; scrape += 1) {
      await sleep(BETWEEN_SCRAPES_MS);
      const began = performance.now();
      await scene.scrape();
      times.push(performance.now() - began);
    }
    const after = stage.usage();
    const sets = shown.match(/^celery_task_received_total\{/gm)?.length ?? 0;
    const cpuSeconds = (after.get(ROLE)?.cpuSeconds ?? 0) - (before.get(ROLE)?.cpuSeconds ?? 0);
    rounds.add("scrape: combinations of labels", "", sets);
    rounds.add("scrape: size", "MB", shown.length / 1e6);
    // Its own idle work too, which is a hundredth of it.
    rounds.add("scrape: CPU", "ms", (cpuSeconds / SCRAPES) * 1_000, { atMost: 100 });
    rounds.add("scrape: longest", "ms", Math.max(...times), { atMost: 1_000 });
  });
}
