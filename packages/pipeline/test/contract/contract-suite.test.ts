/** The contract suite finds the faults that it is meant to find. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const REPOSITORY = fileURLToPath(new URL("../../../..", import.meta.url));
const CONFIG = fileURLToPath(new URL("../support/bad-exporters.config.ts", import.meta.url));

interface Report {
  readonly testResults: readonly { readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[] }[];
}

it("fails exporters that lose data between two effects, ignore an error, or keep old news, only in the test for that", async () => {
  const output = await new Promise<string>((resolve) => {
    const args = ["node_modules/vitest/vitest.mjs", "run", "--config", CONFIG, "--reporter=json"];
    // It exits with 1, because tests fail.
    execFile(process.execPath, args, { cwd: REPOSITORY, maxBuffer: 64 * 1_048_576 }, (_, stdout) => resolve(stdout));
  });
  const { testResults } = JSON.parse(output.slice(output.indexOf("{"))) as Report;
  const failed = testResults.flatMap(({ assertionResults }) => assertionResults).filter(({ status }) => status === "failed");
  expect(failed.map(({ fullName }) => fullName)).toEqual([
    "an exporter that marks events as done before it stores them keeps the contract of an exporter trouble loses nothing when it is killed between any two effects of an export",
    "an exporter that ignores errors of a pipeline keeps the contract of an exporter trouble says that its sink refuses writes, and delivers when it takes them again",
    "an exporter that takes events out of its first stage before they are in the second keeps the contract of an exporter trouble loses nothing when it is killed between any two effects of `process`",
    "an exporter that empties its sink to forget, and writes the rest back keeps the contract of an exporter trouble loses nothing of other tasks, and keeps nothing of these, when it is killed between any two effects of `forget`",
    "an exporter that keeps the observation that comes last keeps the contract of an exporter observing keeps the newest observation of each type, in any order and repeated",
  ]);
}, 240_000);
