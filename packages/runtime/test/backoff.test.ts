import { describe, expect, it } from "vitest";
import { backoffMs, pause } from "../src/index.ts";

describe("backoffMs", () => {
  it("doubles up to its cap and waits at least half of it", () => {
    for (let attempt = 0; attempt < 100; attempt += 1) {
      const full = Math.min(10_000, 200 * 2 ** attempt);
      const wait = backoffMs(attempt);
      expect(wait).toBeGreaterThanOrEqual(full / 2);
      expect(wait).toBeLessThanOrEqual(full);
    }
  });
});

describe("pause", () => {
  it("ends early, without an error, when aborted", async () => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 10);
    await expect(pause(60_000, abort.signal)).resolves.toBeUndefined();
  });
});
