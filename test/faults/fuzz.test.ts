/** Mutated frames through everything that reads them, in a process of its own that may crash or hang: scripts/fuzz.mjs. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { scaled } from "./scale.ts";

const SCRIPT = fileURLToPath(new URL("../../scripts/fuzz.mjs", import.meta.url));
/** The same frames in every short run; a soak looks for new ones. */
const SEED = scaled(20_261_122, Date.now() % 2 ** 31);
const FRAMES = scaled(3_000, 1_000_000);

it("mutated frames crash nothing, hang nothing, fill nothing, and are events or rejects with their reason", async () => {
  const child = spawn(process.execPath, [SCRIPT, "--frames", String(FRAMES), "--seed", String(SEED)], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  const [code] = (await once(child, "close")) as [number | null];
  expect(code, output).toBe(0);
  expect(output).toContain(`${FRAMES} frames: `);
});
