import { Health, Metrics, UnavailableError } from "@celery-metrics-exporter/runtime";
import { freePort, startStatsdSink } from "@celery-metrics-exporter/testkit";
import { describe, expect, it } from "vitest";
import type { Series } from "../src/metrics/metrics.ts";
import { StatsdClient } from "../src/agent/statsd-client.ts";
import { UdpTransport } from "../src/agent/transports.ts";

function clientFor(port: number, host = "127.0.0.1", metrics = new Metrics(), maxPacketsPerSecond = 1_000): StatsdClient {
  return new StatsdClient({
    address: { kind: "udp", host, port },
    maxPacketBytes: 0,
    maxPacketsPerSecond,
    metrics,
    health: new Health().component("agent"),
  });
}

function count(name: string): Series[] {
  return [{ name, type: "c", tags: "queue:q", values: [1] }];
}

async function packetCounts(metrics: Metrics): Promise<Record<string, number | undefined>> {
  return {
    sent: await counterValue(metrics, "datadog_packets_sent_total"),
    bytes: await counterValue(metrics, "datadog_bytes_sent_total"),
    failed: await counterValue(metrics, "datadog_packets_failed_total"),
  };
}

async function counterValue(metrics: Metrics, name: string): Promise<number | undefined> {
  const metric = await metrics.registry.getSingleMetric(`celery_metrics_exporter_${name}`)?.get();
  return metric?.values[0]?.value;
}

describe("sending over UDP", () => {
  it("is refused at the first packet while no agent listens, and works as soon as one does", async () => {
    const port = await freePort();
    const metrics = new Metrics();
    const client = clientFor(port, "127.0.0.1", metrics);
    await expect(client.send(count("lost"))).rejects.toThrow(UnavailableError);
    await expect(client.send(count("lost"))).rejects.toThrow(
      new RegExp(
        `^No Datadog agent accepts DogStatsD at udp://127\\.0\\.0\\.1:${port} \\(.*\\)\\. Start the agent, set DD_AGENT_HOST or DD_DOGSTATSD_URL, or leave datadog out of EXPORTERS\\.$`,
      ),
    );
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

  it("finds the agent by name, on IPv4 if the name has both kinds of address", async () => {
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

  it("is unavailable if the name does not resolve", async () => {
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

  it("counts a packet as sent only if its send did not fail", async () => {
    const port = await freePort();
    const metrics = new Metrics();
    const client = clientFor(port, "127.0.0.1", metrics);
    await expect(client.send([seriesOf(manyValues(1_000))])).rejects.toThrow(UnavailableError);
    const { failed = 0, ...taken } = await packetCounts(metrics);
    expect(taken).toEqual({ sent: 0, bytes: 0 });
    // The first is refused; the number of packets sent before that is known depends on the machine.
    expect(failed).toBeGreaterThan(0);

    const sink = await startStatsdSink({ port });
    try {
      await client.send([seriesOf(manyValues(1_000))]);
      await sink.waitFor(() => sink.values("celery.task.run_time").length === 1_000);
      const bytes = sink.packets.reduce((sum, size) => sum + size, 0);
      expect(await packetCounts(metrics)).toEqual({ sent: sink.packets.length, bytes, failed });
    } finally {
      await client.close();
      await sink.close();
    }
  });

  it("sends no packet once it knows of a refusal: it would arrive, and be sent again", async () => {
    const port = await freePort();
    const transport = new UdpTransport({ host: "127.0.0.1", port });
    await transport.send(Buffer.from("lost:1|c"));
    await expect(transport.confirm()).rejects.toThrow("ECONNREFUSED");
    const sink = await startStatsdSink({ port });
    try {
      await expect(transport.send(Buffer.from("twice:1|c"))).rejects.toThrow("ECONNREFUSED");
      transport.close();
      await transport.send(Buffer.from("once:1|c"));
      await sink.waitFor(() => sink.total("once") === 1);
      expect(sink.total("twice")).toBe(0);
    } finally {
      transport.close();
      await sink.close();
    }
  });

  it.each([
    ["127.255.255.255", /\(connect EACCES 127.255.255.255:8125\)/],
    // Link-local, without an interface. A machine without IPv6 reports another reason.
    ["fe80::1", /\((connect|bind) E[A-Z]+ /],
  ])("says why it cannot connect to %s", async (host, reason) => {
    const client = clientFor(8_125, host);
    await expect(client.send(count("lost"))).rejects.toThrow(reason);
    await client.close();
  });

  it("drops waiting requests as a whole on an abort, and finishes what it has begun", async () => {
    const sink = await startStatsdSink();
    // Makes only half of a send go out at once.
    const client = clientFor(sink.port, "127.0.0.1", new Metrics(), 32);
    const draining = new AbortController();
    try {
      const begun = client.send([seriesOf(manyValues(2_000))], draining.signal);
      await sink.waitFor(() => sink.packets.length > 0);
      const waiting = Promise.allSettled([client.send(count("waits"), draining.signal), client.send(count("waits"), draining.signal)]);
      const other = client.send(count("other"));
      draining.abort();
      await begun;
      expect((await waiting).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
      await expect(client.send(count("late"), draining.signal)).rejects.toThrow("aborted");
      await other;
      await sink.waitFor(() => sink.total("other") === 1);
      expect(sink.values("celery.task.run_time")).toHaveLength(2_000);
      expect([sink.total("waits"), sink.total("late")]).toEqual([0, 0]);
    } finally {
      await client.close();
      await sink.close();
    }
  });

  it("limits a send so that an abort ends it soon", async () => {
    const sink = await startStatsdSink();
    // Half a second is 8 packets, and each of these takes about 4.
    const client = clientFor(sink.port, "127.0.0.1", new Metrics(), 16);
    const draining = new AbortController();
    try {
      const sendings = Array.from({ length: 10 }, (_, sender) =>
        client.send([{ ...seriesOf(manyValues(300)), name: `sender${sender}` }], draining.signal),
      );
      await sink.waitFor(() => sink.packets.length > 0);
      draining.abort();
      const outcomes = await Promise.allSettled(sendings);
      const sent = outcomes.map(({ status }) => (status === "fulfilled" ? 300 : 0));
      expect(sent.filter((values) => values > 0).length).toBeLessThanOrEqual(3);
      await sink.waitFor(() => sink.values("sender0").length === 300);
      expect(sent.map((_, sender) => sink.values(`sender${sender}`).length)).toEqual(sent);
    } finally {
      await client.close();
      await sink.close();
    }
  });

  it("merges requests that arrive while it sends", async () => {
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

  it("fails all requests of one send, and tries later ones again", async () => {
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

function manyValues(length: number): number[] {
  return Array.from({ length }, (_, index) => index + 0.123456789);
}
