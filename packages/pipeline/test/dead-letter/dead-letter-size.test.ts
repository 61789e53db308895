import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, it } from "vitest";
import { cut } from "../../src/dead-letter/letter.ts";

const MEGABYTE = 1_000_000;

function usedMegabytes(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  return process.memoryUsage().heapUsed / MEGABYTE;
}

it("lets go of the rest of a text that it cuts", () => {
  const before = usedMegabytes();
  const parts = Array.from({ length: 100 }, (_, index) => cut(`${index} `.padEnd(MEGABYTE, "x"), 500));
  expect(usedMegabytes() - before).toBeLessThan(20);
  expect(parts[7]).toBe(`7 ${"x".repeat(498)}… (1000000 characters)`);
});

it("cuts no character in half", () => {
  expect(cut("a😀b", 2)).toBe("a\uFFFD… (4 characters)");
});
