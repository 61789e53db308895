/** Passes mutated frames through everything that reads them, in a separate process that may crash or hang (scripts/fuzz.mjs). */
import { scaled } from "@celery-metrics-exporter/testkit";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const SCRIPT = fileURLToPath(new URL("../../scripts/fuzz.mjs", import.meta.url));
/** A fixed seed: every short run tests the same frames; the soak test looks for new ones. */
const SEED = scaled(20_261_122, Date.now() % 2 ** 31);
const FRAMES = scaled(3_000, 1_000_000);

it("mutated frames crash nothing, hang nothing, leak nothing, and become events or rejects with a reason", async () => {
  const child = spawn(process.execPath, [SCRIPT, "--frames", String(FRAMES), "--seed", String(SEED)], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  const [code] = (await once(child, "close")) as [number | null];
  expect(code, output).toBe(0);
  expect(output).toContain(`${FRAMES} frames: `);
});
