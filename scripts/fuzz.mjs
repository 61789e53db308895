/**
 * `pnpm test:fuzz [--frames n] [--seed n]`: passes a million mutated frames through the decoders, the repr parser, and the code that makes payloads,
 * rows and facts of events. Uses a separate process, because the bugs it looks for may end or hang the process. Needs the build.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Failure, runScript, step } from "./lib/console.mjs";

const HANG_MS = 120_000;
const PROGRESS_MS = 10_000;
/** Allowed growth of the heap between the first tenth of the run and its end. */
const MAX_GROWTH_BYTES = 32 * 2 ** 20;

/** @typedef {{ tally: import("../packages/celery/dist/testing/index.js").FuzzTally, heapBytes: number, failure?: string }} Report */

await runScript(async () => {
  const { frames, seed } = readOptions();
  step(`Fuzzing ${frames} frames; to repeat this run: pnpm test:fuzz --seed ${seed} --frames ${frames}`);
  const startedAt = performance.now();
  const { last, growth } = await fuzz(seed, frames);
  const seconds = (performance.now() - startedAt) / 1_000;
  step(
    `${summary(last)}; ${Math.round(last.tally.frames / seconds)} frames/s; heap ${(growth / 2 ** 20).toFixed(1)} MiB more than after the first tenth`,
  );
  for (const reason of Object.keys(last.tally.rejects).toSorted())
    process.stdout.write(`    ${reason.padEnd(17)}${last.tally.rejects[reason]}\n`);
  if (growth > MAX_GROWTH_BYTES) throw new Failure(`The heap grew by ${growth} bytes.`);
  return 0;
});

/** @returns {{ frames: number, seed: number }} */
function readOptions() {
  const { values } = parseArgs({ options: { frames: { type: "string" }, seed: { type: "string" } } });
  const frames = Number(values.frames ?? 1_000_000);
  const seed = Number(values.seed ?? Date.now() % 2 ** 31);
  if (!Number.isInteger(frames) || frames < 1 || !Number.isInteger(seed))
    throw new Failure("--frames and --seed require a whole number.", 64);
  return { frames, seed };
}

/**
 * @param {number} seed
 * @param {number} frames
 * @returns {Promise<{ last: Report, growth: number }>}
 */
async function fuzz(seed, frames) {
  const child = fork(fileURLToPath(new URL("lib/fuzz-run.mjs", import.meta.url)), [String(seed), String(frames)], {
    execArgv: ["--expose-gc"],
  });
  /** @type {Report | undefined} */
  let last;
  let base = 0;
  let shownAt = performance.now();
  const place = () => `after frame ${last?.tally.frames ?? 0} of seed ${seed}`;
  const hung = setTimeout(() => child.kill("SIGKILL"), HANG_MS);
  child.on("message", (message) => {
    last = /** @type {Report} */ (message);
    hung.refresh();
    if (last.tally.frames <= frames / 10) base = last.heapBytes;
    if (performance.now() - shownAt < PROGRESS_MS) return;
    shownAt = performance.now();
    step(summary(last));
  });
  const [code, signal] = await once(child, "close");
  clearTimeout(hung);
  if (last?.failure !== undefined) throw new Failure(`${last.failure}\n\nSeed ${seed}.`);
  if (signal === "SIGKILL") throw new Failure(`No frame was done for ${HANG_MS / 1_000} s ${place()}.`);
  if (code !== 0) throw new Failure(`The process ended with ${signal ?? `exit code ${code}`} ${place()}.`);
  if (last === undefined || last.tally.frames !== frames) throw new Failure(`The run ended early, ${place()}.`);
  return { last, growth: last.heapBytes - base };
}

/** @param {Report} report */
function summary({ tally }) {
  const rejected = Object.values(tally.rejects).reduce((sum, count) => sum + count, 0);
  return `${tally.frames} frames: ${tally.events} events, ${rejected} rejects, ${tally.literals} reprs; slowest ${Math.round(tally.slowestMs)} ms`;
}
