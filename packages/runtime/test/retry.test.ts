import { describe, expect, it } from "vitest";
import { retry } from "../src/retry.ts";

const FAST = { firstMs: 1, maxMs: 2 };

function failing(times: number): { task: () => Promise<string>; tries: () => number } {
  let tries = 0;
  return {
    task: async () => {
      tries += 1;
      if (tries <= times) throw new Error(`try ${tries}`);
      return "done";
    },
    tries: () => tries,
  };
}

function refuse(error: Error): never {
  throw error;
}

describe("retry", () => {
  it("retries until success", async () => {
    const { task, tries } = failing(3);
    const seen: [string, number][] = [];
    const decide = ({ message }: Error, failed: number): undefined => void seen.push([message, failed]);
    expect(await retry(task, { ...FAST, decide })).toBe("done");
    expect(seen).toEqual([
      ["try 1", 1],
      ["try 2", 2],
      ["try 3", 3],
    ]);
    expect(tries()).toBe(4);
  });

  it("ends with the value or the error of `decide`", async () => {
    expect(await retry(failing(9).task, { ...FAST, decide: (_, tries) => (tries === 2 ? "given up" : undefined) })).toBe("given up");
    expect(await retry(failing(9).task, { ...FAST, decide: () => false })).toBe(false);
    await expect(retry(failing(9).task, { ...FAST, decide: refuse })).rejects.toThrow("try 1");
  });

  it("does not wait after an abort", async () => {
    const controller = new AbortController();
    const { task, tries } = failing(9);
    const ending = retry(task, {
      firstMs: 60_000,
      maxMs: 60_000,
      signal: controller.signal,
      decide: () => (controller.signal.aborted ? "aborted" : undefined),
    });
    // By then it waits.
    await new Promise((resolve) => setImmediate(resolve));
    controller.abort();
    expect(await ending).toBe("aborted");
    expect(tries()).toBe(2);
  });
});
