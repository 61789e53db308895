import { describe, expect, it } from "vitest";
import { Solitude } from "../src/solitude.ts";

/** Tasks that end when told, and a journal of what began and ended. */
function journal() {
  const entries: string[] = [];
  const ends = new Map<string, () => void>();
  return {
    entries,
    task: (name: string) => async (): Promise<string> => {
      entries.push(`+${name}`);
      await new Promise<void>((resolve) => ends.set(name, resolve));
      entries.push(`-${name}`);
      return name;
    },
    end: async (name: string): Promise<void> => {
      ends.get(name)?.();
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

function fail(): Promise<never> {
  return Promise.reject(new Error("failed"));
}

describe("solitude", () => {
  it("lets tasks run beside each other, and one alone only between them", async () => {
    const solitude = new Solitude();
    const { entries, task, end } = journal();
    const results = [
      solitude.beside(task("a")),
      solitude.beside(task("b")),
      solitude.alone(task("x")),
      solitude.alone(task("y")),
      solitude.beside(task("c")),
    ];
    for (const name of ["a", "b", "x", "y", "c"]) await end(name);
    await end("c");
    expect(await Promise.all(results)).toEqual(["a", "b", "x", "y", "c"]);
    expect(entries.slice(0, 6)).toEqual(["+a", "+b", "-a", "-b", "+x", "-x"]);
    expect(entries.slice(6)).toEqual(["+y", "-y", "+c", "-c"]);
  });

  it("goes on after a task that failed", async () => {
    const solitude = new Solitude();
    await expect(solitude.alone(fail)).rejects.toThrow("failed");
    await expect(solitude.beside(fail)).rejects.toThrow("failed");
    await expect(solitude.alone(() => Promise.resolve("done"))).resolves.toBe("done");
  });
});
