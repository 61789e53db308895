import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { Lifecycle, createLogger } from "../../src/index.ts";

const logger = createLogger("test", "silent");

describe("Lifecycle", () => {
  it("releases the newest first, each once", async () => {
    const lifecycle = new Lifecycle(logger);
    const released: string[] = [];
    for (const name of ["a", "b", "c"]) lifecycle.defer(name, () => released.push(name));
    await Promise.all([lifecycle.close(), lifecycle.close()]);
    expect(released).toEqual(["c", "b", "a"]);
  });

  it("waits for one release before it starts the next", async () => {
    const lifecycle = new Lifecycle(logger);
    const released: string[] = [];
    lifecycle.defer("first", () => released.push("first"));
    lifecycle.defer("slow", async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      released.push("slow");
    });
    await lifecycle.close();
    expect(released).toEqual(["slow", "first"]);
  });

  it("continues after a failure and rejects with the first", async () => {
    const lifecycle = new Lifecycle(logger);
    const released: string[] = [];
    lifecycle.defer("a", () => released.push("a"));
    lifecycle.defer("b", () => {
      throw new Error("second failure");
    });
    lifecycle.defer("c", () => Promise.reject(new Error("first failure")));
    await expect(lifecycle.close()).rejects.toThrow("first failure");
    expect(released).toEqual(["a"]);
  });

  it.each([
    ["while it closes", false],
    ["once it is closed", true],
    ["once it is closed, after a failure", true, new Error("failed before")],
  ])("releases what is registered %s, and ends the start that registers it", async (_when, isClosed, failure?: Error) => {
    const lifecycle = new Lifecycle(logger);
    const released: string[] = [];
    const waiting = new AbortController();
    lifecycle.defer("before", async () => {
      await once(waiting.signal, "abort");
      if (failure !== undefined) throw failure;
    });
    const closing = lifecycle.close().catch((error: unknown) => error);
    if (isClosed) {
      waiting.abort();
      await closing;
    }
    expect(() => lifecycle.defer("late", () => released.push("late"))).toThrow("late: opened while everything was being closed");
    waiting.abort();
    expect(await closing).toBe(failure);
    await lifecycle.close().catch(() => {});
    expect(released).toEqual(["late"]);
  });
});
