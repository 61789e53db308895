import { describe, expect, it } from "vitest";
import { NotAloneError, Solitude } from "../src/solitude.ts";

/** Tasks that end when told, and a journal of what began and ended. */
function journal() {
  const entries: string[] = [];
  const ends = new Map<string, () => void>();
  const note = (entry: string) => async (): Promise<void> => void entries.push(entry);
  return {
    entries,
    note,
    task: (name: string) => async (): Promise<void> => {
      entries.push(`+${name}`);
      await new Promise<void>((resolve) => ends.set(name, resolve));
      entries.push(`-${name}`);
    },
    end: async (name: string): Promise<void> => {
      ends.get(name)?.();
      for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

const nothing = async (): Promise<void> => {};
const fail = (): Promise<never> => Promise.reject(new Error("failed"));

describe("solitude", () => {
  it("lets tries run beside each other, and one alone only between them, noted for just as long", async () => {
    const solitude = new Solitude();
    const { entries, task, end, note } = journal();
    const results = [
      solitude.beside(task("a")),
      solitude.beside(task("b")),
      solitude.alone(task("x"), note("noted"), note("no longer")),
      solitude.beside(task("c")),
    ];
    for (const name of ["a", "b", "x", "c"]) await end(name);
    await Promise.all(results);
    expect(entries).toEqual(["+a", "+b", "-a", "-b", "noted", "+x", "-x", "no longer", "+c", "-c"]);
  });

  it("lets only one wait to be alone, and does not wait long for the others", async () => {
    const solitude = new Solitude();
    const { entries, task, end, note } = journal();
    const others = solitude.beside(task("a"));
    const first = solitude.alone(task("x"), note("noted"), note("no longer"));
    await expect(solitude.alone(task("y"), nothing, nothing)).rejects.toBeInstanceOf(NotAloneError);
    await expect(first).rejects.toBeInstanceOf(NotAloneError);
    await solitude.beside(nothing);
    await end("a");
    await others;
    expect(entries).toEqual(["+a", "-a"]);
  });

  it("goes on after a try that failed, or that could not be noted", async () => {
    const solitude = new Solitude();
    await expect(solitude.alone(fail, nothing, nothing)).rejects.toThrow("failed");
    await expect(solitude.alone(nothing, fail, nothing)).rejects.toThrow("failed");
    await expect(solitude.beside(fail)).rejects.toThrow("failed");
    await expect(solitude.alone(nothing, nothing, nothing)).resolves.toBeUndefined();
  });
});
