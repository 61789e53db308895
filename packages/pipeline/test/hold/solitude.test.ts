import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { GivenBack } from "../../src/deliver/tries.ts";
import { Solitude, type Notes } from "../../src/hold/solitude.ts";

/** A pause on the fake clock. */
async function fakePause(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true) return;
  await new Promise<void>((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
  });
}

/** Steps that end on request, with a journal of what began, was noted and ended. */
class Scene {
  readonly entries: string[] = [];
  readonly ending = new AbortController();
  readonly solitude = new Solitude(() => performance.now(), fakePause);
  readonly #ends = new Map<string, () => void>();

  readonly task = (name: string) => async (): Promise<void> => {
    this.entries.push(`+${name}`);
    await new Promise<void>((resolve) => this.#ends.set(name, resolve));
    this.entries.push(`-${name}`);
  };

  notes(name: string): Notes {
    const note = (running: string) => async (): Promise<void> => void this.entries.push(`${name} ${running}`);
    return { alone: note("alone"), beside: note("beside"), over: note("over") };
  }

  beside(name: string): Promise<void> {
    return this.solitude.beside(this.task(name));
  }

  suspect(name: string, unprovenDeaths = 0, notes: Partial<Notes> = {}): Promise<void> {
    const step = { task: this.task(name), unprovenDeaths, notes: { ...this.notes(name), ...notes }, ending: this.ending.signal };
    return this.solitude.suspect(step);
  }

  async end(...names: readonly string[]): Promise<void> {
    for (const name of names) {
      this.#ends.get(name)?.();
      await this.after(0);
    }
  }

  async after(ms: number): Promise<void> {
    await vi.advanceTimersByTimeAsync(ms);
  }
}

const fail = (): Promise<never> => Promise.reject(new Error("failed"));

let scene: Scene;
beforeEach(() => {
  vi.useFakeTimers();
  scene = new Scene();
});
afterEach(() => void vi.useRealTimers());

describe("a step of a suspect", () => {
  it("runs between the steps of others, and is noted for just as long", async () => {
    const results = [scene.beside("a"), scene.beside("b"), scene.suspect("x"), scene.beside("c")];
    await scene.end("a", "b", "x", "c");
    await Promise.all(results);
    expect(scene.entries).toEqual(["+a", "+b", "-a", "-b", "x alone", "+x", "-x", "x over", "+c", "-c"]);
  });

  it("runs beside others that do not end within a second, noted as such", async () => {
    const results = [scene.beside("a"), scene.suspect("x"), scene.beside("b")];
    await scene.after(999);
    expect(scene.entries).toEqual(["+a"]);
    await scene.after(1);
    await scene.end("x", "a", "b");
    await Promise.all(results);
    expect(scene.entries.toSorted()).toEqual(["+a", "x beside", "+x", "+b", "-x", "x over", "-a", "-b"].toSorted());
    expect(scene.entries.indexOf("x beside")).toBeLessThan(scene.entries.indexOf("+x"));
  });

  it("is alone for a second, then beside others: noted before they go on, and still running for the next that wants to be alone", async () => {
    const results = [scene.suspect("x"), scene.beside("a"), scene.suspect("y", 1)];
    await scene.after(999);
    expect(scene.entries).toEqual(["x alone", "+x"]);
    await scene.after(1);
    expect(scene.entries).toEqual(["x alone", "+x", "x beside", "+a"]);
    await scene.end("a");
    await scene.after(1_000);
    expect(scene.entries).not.toContain("+y");
    await scene.end("x");
    expect(scene.entries.slice(4)).toEqual(["-a", "-x", "x over", "y alone", "+y"]);
    await scene.end("y");
    await Promise.all(results);
  });

  it("waits and is alone for four times as long after each death beside others", async () => {
    const results = [scene.suspect("x", 2), scene.beside("a")];
    await scene.after(15_999);
    expect(scene.entries).toEqual(["x alone", "+x"]);
    await scene.after(1);
    expect(scene.entries).toEqual(["x alone", "+x", "x beside", "+a"]);
    await scene.end("x", "a");
    await Promise.all(results);
  });

  it("goes on after a step that failed, or that could not be noted", async () => {
    const { solitude, ending } = scene;
    const step = { task: fail, unprovenDeaths: 0, notes: scene.notes("x"), ending: ending.signal };
    await expect(solitude.suspect(step)).rejects.toThrow("failed");
    await expect(scene.suspect("x", 0, { alone: fail })).rejects.toThrow("failed");
    await expect(solitude.beside(fail)).rejects.toThrow("failed");
    expect(scene.entries).toEqual(["x alone", "x over"]);
    const last = scene.suspect("y");
    await scene.after(0);
    await scene.end("y");
    await last;
  });

  it("makes no other step wait when it can no longer be noted, and leaves no unhandled rejection", async () => {
    const unhandled = vi.fn<(reason: unknown) => void>();
    process.on("unhandledRejection", unhandled);
    const results = [scene.suspect("x", 0, { beside: fail, over: fail }), scene.beside("a")];
    await scene.after(1_000);
    expect(scene.entries).toEqual(["x alone", "+x", "+a"]);
    vi.useRealTimers();
    await new Promise((resolve) => setTimeout(resolve, 20));
    vi.useFakeTimers();
    await scene.end("x", "a");
    await Promise.all(results);
    process.off("unhandledRejection", unhandled);
    expect(unhandled).not.toHaveBeenCalled();
  });

  it("is given back when the process exits while it waits", async () => {
    const others = scene.beside("a");
    const result = scene.suspect("x");
    scene.ending.abort();
    await expect(result).rejects.toBeInstanceOf(GivenBack);
    await scene.end("a");
    await others;
    expect(scene.entries).toEqual(["+a", "-a"]);
  });
});

const hang = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 30_000));

/** When steps of another sink began, one every 100 ms, while each step of some suspects hung for half a minute. */
async function besideSuspects(suspects: number, unprovenDeaths: number, seconds: number): Promise<number[]> {
  const { solitude, ending } = scene;
  const began: number[] = [];
  const loop = async (): Promise<void> => {
    const step = { task: hang, unprovenDeaths, notes: scene.notes("x"), ending: ending.signal };
    while (!ending.signal.aborted) await solitude.suspect(step).catch(() => {});
  };
  for (let suspect = 0; suspect < suspects; suspect++) void loop();
  for (let tenth = 0; tenth < 10 * seconds; tenth++) {
    void solitude.beside(async () => void began.push(performance.now()));
    await scene.after(100);
  }
  ending.abort();
  await scene.after(60_000);
  return began;
}

describe("suspects that hang", () => {
  it.each([
    ["none died of", 0, 60],
    ["one may have died of", 1, 300],
  ])(
    "and that %s keep the others waiting for a tenth of the time",
    async (_, unprovenDeaths, seconds) => {
      const began = await besideSuspects(8, unprovenDeaths, seconds);
      const gaps = began.slice(1).map((at, index) => at - (began[index] ?? 0));
      const waitedMs = gaps.filter((gap) => gap > 150).reduce((sum, gap) => sum + gap, 0);
      expect(began).toHaveLength(10 * seconds);
      // Plus the share that a process has at first, and what the last step may overdraw.
      expect(waitedMs).toBeLessThan((seconds * 1_000) / 10 + 4_000 + 2_000 * 4 ** unprovenDeaths);
      expect(Math.max(...gaps)).toBeLessThan(4_000 + 2_000 * 4 ** unprovenDeaths);
    },
    60_000,
  );
});
