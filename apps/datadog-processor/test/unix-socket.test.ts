import { ConfigError, Health, Metrics, UnavailableError, toError } from "@celery-metrics-exporter/runtime";
import { parseDatagram } from "@celery-metrics-exporter/testkit";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Series } from "../src/metrics/metrics.ts";
import { StatsdClient } from "../src/agent/statsd-client.ts";

interface BoundSocket {
  bind(path: string): void;
  close(): void;
}
type CreateSocket = (type: "unix_dgram", onMessage: (message: Buffer) => void) => BoundSocket;

/** The package is optional, because it needs a compiler. Each test runs if its condition, with or without the package, is met. */
function findUnixDgram(): CreateSocket | undefined {
  try {
    return (createRequire(import.meta.url)("unix-dgram") as { createSocket: CreateSocket }).createSocket;
  } catch {
    return undefined;
  }
}

const createUnixSocket = findUnixDgram();

function clientFor(path: string, metrics = new Metrics()): StatsdClient {
  return new StatsdClient({
    address: { kind: "unix", path },
    maxPacketBytes: 0,
    maxPacketsPerSecond: 1,
    metrics,
    health: new Health().component("agent"),
  });
}

async function counted(metrics: Metrics): Promise<Record<string, number | undefined>> {
  const valueOf = async (name: string): Promise<number | undefined> =>
    (await metrics.registry.getSingleMetric(`celery_metrics_exporter_datadog_${name}_total`)?.get())?.values[0]?.value;
  return { sent: await valueOf("packets_sent"), bytes: await valueOf("bytes_sent"), failed: await valueOf("packets_failed") };
}

function problemsOf(attempt: () => unknown): readonly string[] {
  try {
    attempt();
  } catch (thrown) {
    if (thrown instanceof ConfigError) return thrown.problems;
    throw toError(thrown);
  }
  return [];
}

describe.skipIf(createUnixSocket !== undefined)("a Unix domain socket without the package unix-dgram", () => {
  it("is refused at startup, with a remedy", () => {
    expect(problemsOf(() => clientFor("/run/dsd.socket")).join()).toMatch(/DD_DOGSTATSD_URL: .*unix-dgram.*use udp:\/\//);
  });
});

describe.runIf(createUnixSocket !== undefined)("sending over a Unix domain socket", () => {
  it("loses nothing of 20,000 values, waits for a slow agent, and notices an absent one", async () => {
    const folder = mkdtempSync(join(tmpdir(), "cme-uds-"));
    const path = join(folder, "dsd.socket");
    const client = clientFor(path);
    const values: number[] = [];
    const sizes: number[] = [];
    try {
      const sent = Array.from({ length: 20_000 }, (_, index) => index);
      const series: Series[] = [{ name: "a", type: "d", tags: "queue:q", values: sent }];
      await expect(client.send(series)).rejects.toBeInstanceOf(UnavailableError);

      const agent = createUnixSocket?.("unix_dgram", (message) => {
        sizes.push(message.length);
        for (const parsed of parseDatagram(message)) if (parsed.kind === "metric") values.push(...parsed.values);
      });
      agent?.bind(path);
      await client.send(series);
      await expect.poll(() => values.length).toBe(20_000);
      expect(values).toEqual(sent);
      expect(Math.max(...sizes)).toBeGreaterThan(8_000);
      agent?.close();
      await expect(client.send(series)).rejects.toBeInstanceOf(UnavailableError);

      // An agent that restarts replaces the socket's file.
      rmSync(path, { force: true });
      values.length = 0;
      const restarted = createUnixSocket?.("unix_dgram", (message) => {
        for (const parsed of parseDatagram(message)) if (parsed.kind === "metric") values.push(...parsed.values);
      });
      restarted?.bind(path);
      await client.send(series);
      await expect.poll(() => values.length).toBe(20_000);
      restarted?.close();
    } finally {
      await client.close();
      rmSync(folder, { recursive: true });
    }
  });

  it("counts packets in the agent's buffer as sent, and only the others as failed", async () => {
    const folder = mkdtempSync(join(tmpdir(), "cme-uds-"));
    const path = join(folder, "dsd.socket");
    const metrics = new Metrics();
    const client = clientFor(path, metrics);
    const sizes: number[] = [];
    const agent = createUnixSocket?.("unix_dgram", (message) => {
      sizes.push(message.length);
      // The second packet is the last one that it reads.
      if (sizes.length === 2) agent?.close();
    });
    agent?.bind(path);
    try {
      const values = Array.from({ length: 20_000 }, (_, index) => index);
      await expect(client.send([{ name: "a", type: "d", tags: "", values }])).rejects.toThrow(UnavailableError);
      const { sent = 0, bytes, failed } = await counted(metrics);
      expect(sent).toBeGreaterThanOrEqual(sizes.length);
      expect(bytes).toBeGreaterThanOrEqual(sizes.reduce((sum, size) => sum + size, 0));
      expect(failed).toBe(1);
    } finally {
      await client.close();
      rmSync(folder, { recursive: true });
    }
  });

  it("names the errors that the package reports only by number", async () => {
    const folder = mkdtempSync(join(tmpdir(), "cme-uds-"));
    const path = join(folder, "stream.socket");
    const client = clientFor(path);
    const series: Series[] = [{ name: "a", type: "c", tags: "", values: [1] }];
    try {
      await expect(client.send(series)).rejects.toThrow(`No Datadog agent accepts DogStatsD at unix://${path} (connect ENOENT).`);
      const server = createServer().listen(path);
      await once(server, "listening");
      await expect(client.send(series)).rejects.toThrow("(connect EPROTOTYPE)");
      server.close();
    } finally {
      await client.close();
      rmSync(folder, { recursive: true });
    }
  });
});
