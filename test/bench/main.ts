/** The benchmark: measures the pipeline with real servers, prints the results, and updates the documentation. */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { CHART_FILE, chart } from "./report/chart.ts";
import { updateDocuments } from "./report/documentation.ts";
import { meetsGoal, type Section } from "./report/figure.ts";
import { describeMachine } from "./report/machine.ts";
import { RESULTS_FILE, readResults, type Results } from "./report/results.ts";
import { backlog } from "./scenarios/backlog.ts";
import { burst } from "./scenarios/burst.ts";
import { ceilings } from "./scenarios/ceilings.ts";
import { cpuPerEvent } from "./scenarios/cpu-per-event.ts";
import { flood } from "./scenarios/flood.ts";
import { growth } from "./scenarios/growth.ts";
import { memory } from "./scenarios/memory.ts";
import { naiveBaseline } from "./scenarios/naive-baseline.ts";
import { prometheus } from "./scenarios/prometheus.ts";
import { queueTypes } from "./scenarios/queue-types.ts";
import { rates } from "./scenarios/rates.ts";
import { scaling } from "./scenarios/scaling.ts";
import { steady } from "./scenarios/steady.ts";
import { store } from "./scenarios/store.ts";
import { sustained } from "./scenarios/sustained.ts";
import { web } from "./scenarios/web.ts";
import type { Scenario } from "./scenario.ts";
import { startServers } from "./servers.ts";
import { table } from "./report/table.ts";

const SCENARIOS: readonly Scenario[] = [
  cpuPerEvent,
  sustained,
  burst,
  backlog,
  scaling,
  rates,
  steady,
  growth,
  store,
  prometheus,
  web,
  memory,
  flood,
  queueTypes,
  naiveBaseline,
  ceilings,
];
/** The scenario of `--quick`: a ratio, because times vary by machine. */
const QUICK: readonly Scenario[] = [naiveBaseline];
const NAMES = SCENARIOS.map(({ name }) => name).join(", ");
const EXIT_USAGE = 64;

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    rounds: { type: "string" },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  process.stdout.write(
    `pnpm bench [--rounds <n>] [--only <name>,…]   measures, and updates docs/performance.md and docs/benchmark\n` +
      `pnpm bench --quick                            only compares with the naive design, and fails if a goal is missed\n\nNames: ${NAMES}\n`,
  );
  process.exit(0);
}
process.exitCode = await main(values.quick ? QUICK : chosen(values.only), Number(values.rounds ?? (values.quick ? 1 : 3)));

async function main(scenarios: readonly Scenario[], rounds: number): Promise<number> {
  if (scenarios.length === 0 || !Number.isInteger(rounds) || rounds < 1) {
    process.stderr.write(`--only requires names out of ${NAMES}; --rounds requires a whole number from 1\n`);
    return EXIT_USAGE;
  }
  const began = Date.now();
  const progress = (text: string): void => {
    process.stderr.write(`${String(Math.round((Date.now() - began) / 1_000)).padStart(5)} s  ${text}\n`);
  };
  const sections: Section[] = [];
  const servers = await startServers();
  try {
    for (const scenario of scenarios) {
      const section = await scenario.run({ servers, rounds, progress });
      sections.push(section);
      process.stdout.write(`\n${table(section)}\n`);
      if (!values.quick) write({ ...readResults(), [scenario.name]: { machine: describeMachine(), ...section } });
    }
  } finally {
    await servers.stop();
  }
  const missed = sections.flatMap(({ figures }) => figures).filter((figure) => meetsGoal(figure) === false);
  for (const { name } of missed) process.stdout.write(`missed its goal: ${name}\n`);
  return values.quick && missed.length > 0 ? 1 : 0;
}

function chosen(only: string | undefined): readonly Scenario[] {
  const names = only?.split(",");
  if (names?.some((name) => SCENARIOS.every((scenario) => scenario.name !== name)) === true) return [];
  return SCENARIOS.filter(({ name }) => names === undefined || names.includes(name));
}

function write(results: Results): void {
  writeFileSync(RESULTS_FILE, `${JSON.stringify(results, undefined, 2)}\n`);
  writeFileSync(CHART_FILE, chart(results));
  updateDocuments(results);
}
