import { TcpProxy } from "@celery-metrics-exporter/testkit";
import { expect, it } from "vitest";
import { useApi } from "./harness.ts";

const api = useApi();

it("An outage of PostgreSQL has one line in the log, without a stack, however many requests fail", async () => {
  const relay = await TcpProxy.start(Number(new URL(api.databaseUrl).port));
  try {
    const url = await api.start({ DATABASE_URL: relay.inFrontOf(api.databaseUrl) });
    const ask = async (path: string): Promise<number> => {
      const answer = await fetch(`${url}/${path}`);
      await answer.body?.cancel();
      return answer.status;
    };
    expect(await ask("tasks")).toBe(200);
    await relay.stop();
    for (let round = 0; round < 3; round++) {
      expect(await Promise.all([1, 2, 3, 4].map((place) => ask(`tasks?limit=${round * 4 + place}`)))).toEqual([503, 503, 503, 503]);
    }
    const lines = api.log.map((line) => JSON.parse(line) as { readonly msg: string; readonly err?: unknown });
    expect(lines.map(({ msg }) => msg).filter((msg) => msg === "a request failed")).toEqual([]);
    expect(lines.filter(({ err }) => err !== undefined)).toEqual([]);
    // Each reason has a line: connections that were cut, and those that are refused.
    const outages = lines.filter(({ msg }) => msg === "PostgreSQL does not answer");
    expect(outages.length).toBeGreaterThan(0);
    expect(outages.length).toBeLessThan(4);
    await relay.restart();
    await expect.poll(() => ask("tasks"), { timeout: 20_000 }).toBe(200);
  } finally {
    await relay.stop();
  }
});
