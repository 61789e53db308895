import { Health, Metrics, UnavailableError } from "@celery-metrics-exporter/runtime";
import { freePort, startStatsdSink } from "@celery-metrics-exporter/testkit";
import { describe, expect, it } from "vitest";
import type { Series } from "../src/series.ts";
import { StatsdClient } from "../src/statsd-client.ts";

function clientFor(port: number, host = "127.0.0.1", metrics = new Metrics()): StatsdClient {
  return new StatsdClient({
    address: { kind: "udp", host, port },
    maxPacketBytes: 0,
    maxPacketsPerSecond: 1_000,
    metrics,
    health: new Health().component("agent"),
  });
}

function count(name: string): Series[] {
  return [{ name, type: "c", tags: "queue:q", values: [1] }];
}

async function counterValue(metrics: Metrics, name: string): Promise<number | undefined> {
  const metric = await metrics.registry.getSingleMetric(`celery_metrics_exporter_${name}`)?.get();
  return metric?.values[0]?.value;
}

describe("sending over UDP", () => {
  it("is refused while no agent listens, by the very first packet, and works as soon as one does", async () => {
    const port = await freePort();
    const metrics = new Metrics();
    const client = clientFor(port, "127.0.0.1", metrics);
    await expect(client.send(count("lost"))).rejects.toThrow(UnavailableError);
    await expect(client.send(count("lost"))).rejects.toThrow(`No Datadog agent takes DogStatsD at udp://127.0.0.1:${port}`);
    expect(await counterValue(metrics, "datadog_send_failures_total")).toBe(2);

    const sink = await startStatsdSink({ port });
    try {
      await client.send(count("arrives"));
      await sink.waitFor(() => sink.total("arrives") === 1);
      expect(sink.errors).toEqual([]);
    } finally {
      await client.close();
      await sink.close();
    }
  });

  it("notices that the agent went away, and finds it again", async () => {
    const first = await startStatsdSink();
    const { port } = first;
    const client = clientFor(port);
    await client.send(count("one"));
    await first.close();
    await expect(client.send(count("two"))).rejects.toBeInstanceOf(UnavailableError);
    const second = await startStatsdSink({ port });
    try {
      await client.send(count("three"));
      await second.waitFor(() => second.total("three") === 1);
    } finally {
      await client.close();
      await second.close();
    }
  });

  it("finds the agent by name, on IPv4 where the name has both kinds of address", async () => {
    const sink = await startStatsdSink();
    const client = clientFor(sink.port, "localhost");
    try {
      await client.send(count("named"));
      await expect.poll(() => sink.total("named")).toBe(1);
    } finally {
      await client.close();
      await sink.close();
    }
  });

  it("is unavailable where the name does not resolve", async () => {
    const client = clientFor(8125, "no-such-host.invalid");
    await expect(client.send(count("lost"))).rejects.toBeInstanceOf(UnavailableError);
    await client.close();
  });

  it("loses nothing of a burst of 100,000 values from ten senders at the receiver's default buffer", { timeout: 60_000 }, async () => {
    const sink = await startStatsdSink();
    const client = clientFor(sink.port);
    try {
      const values = Array.from({ length: 100_000 }, (_, index) => index / 1e6);
      const parts = Array.from({ length: 10 }, (_, sender) => values.slice(sender * 10_000, (sender + 1) * 10_000));
      const startedAt = performance.now();
      await Promise.all(parts.map((part) => client.send([seriesOf(part)])));
      const seconds = (performance.now() - startedAt) / 1_000;
      await sink.waitFor(() => sink.values("celery.task.run_time").length === values.length);
      const packets = sink.packets.length;
      console.info({ burst: { values: values.length, packets, seconds, valuesPerSecond: Math.round(values.length / seconds) } });

      expect(sink.values("celery.task.run_time").sort((a, b) => a - b)).toEqual(values);
      expect(sink.errors).toEqual([]);
      expect(Math.max(...sink.packets)).toBeLessThanOrEqual(1_432);
      expect(seconds).toBeGreaterThan((packets - 30) / 1_000);
    } finally {
      await client.close();
      await sink.close();
    }
  });

  it("merges what is asked for while it sends", async () => {
    const sink = await startStatsdSink();
    const client = clientFor(sink.port);
    try {
      await Promise.all(Array.from({ length: 50 }, () => client.send([...count("one"), seriesOf([0.5])])));
      await sink.waitFor(() => sink.values("celery.task.run_time").length === 50);
      expect(sink.total("one")).toBe(50);
      expect(sink.packets.length).toBeLessThanOrEqual(3);
    } finally {
      await client.close();
      await sink.close();
    }
  });

  it("fails all that went out together, and what comes later is tried anew", async () => {
    const port = await freePort();
    const client = clientFor(port);
    const outcomes = await Promise.allSettled([client.send(count("a")), client.send(count("b")), client.send(count("c"))]);
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    const sink = await startStatsdSink({ port });
    try {
      await client.send(count("d"));
      await sink.waitFor(() => sink.total("d") === 1);
      expect(sink.metrics).toHaveLength(1);
    } finally {
      await client.close();
      await sink.close();
    }
  });

  it("sends nothing for nothing, and closes without having been opened", async () => {
    const client = clientFor(1);
    await expect(client.send([])).resolves.toBeUndefined();
    await expect(client.close()).resolves.toBeUndefined();
  });
});

function seriesOf(values: readonly number[]): Series {
  return { name: "celery.task.run_time", type: "d", tags: "queue:celery,task_name:shop.cart.total,state:success", values };
}
