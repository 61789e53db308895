import { describe, expect, it } from "vitest";
import { Health, Metrics, UnavailableError, createHttpServer, listen } from "../src/index.ts";

function createServer() {
  const health = new Health();
  const metrics = new Metrics();
  return { health, metrics, server: createHttpServer(health, metrics) };
}

describe("health port", () => {
  it("is alive whatever the components say", async () => {
    const { health, server } = createServer();
    health.component("broker").down("connection refused");
    expect((await server.inject("/healthz")).statusCode).toBe(200);
  });

  it("is ready only when every component is up, and tells which is not and why", async () => {
    const { health, server } = createServer();
    const broker = health.component("broker");
    const redis = health.component("redis");
    redis.up();
    expect((await server.inject("/readyz")).json()).toEqual({ ready: false, components: { broker: "starting", redis: "up" } });
    broker.up();
    expect((await server.inject("/readyz")).statusCode).toBe(200);
    broker.down("connection refused");
    const answer = await server.inject("/readyz");
    expect(answer.statusCode).toBe(503);
    expect(answer.json()).toEqual({ ready: false, components: { broker: "connection refused", redis: "up" } });
  });

  it("is not ready while it drains", async () => {
    const { health, server } = createServer();
    health.component("broker").up();
    health.drain();
    expect((await server.inject("/readyz")).statusCode).toBe(503);
  });

  it("serves our metrics, and a metric asked for twice is one", async () => {
    const { metrics, server } = createServer();
    metrics.counter("events_received_total", "Events received.").inc();
    metrics.counter("events_received_total", "Events received.").inc();
    expect((await server.inject("/metrics")).body).toContain("celery_metrics_exporter_events_received_total 2");
  });

  it("says what to do when its port is taken", async () => {
    const first = createServer().server;
    const port = await listen(first, "127.0.0.1", 0);
    await expect(listen(createServer().server, "127.0.0.1", port)).rejects.toThrow(UnavailableError);
    await expect(listen(createServer().server, "127.0.0.1", port)).rejects.toThrow(/HEALTH_PORT/);
    await first.close();
  });
});
