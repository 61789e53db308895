import { describe, expect, it } from "vitest";
import { Health, Metrics, createHttpServer } from "../../src/index.ts";

function createServer() {
  const health = new Health();
  const metrics = new Metrics();
  return { health, metrics, server: createHttpServer(health, metrics) };
}

describe("health port", () => {
  it("is alive regardless of the components", async () => {
    const { health, server } = createServer();
    health.component("broker").down("connection refused");
    expect((await server.inject("/healthz")).statusCode).toBe(200);
  });

  it("is ready only when every component is up, and reports which is down and why", async () => {
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

  it("is not ready while draining", async () => {
    const { health, server } = createServer();
    health.component("broker").up();
    health.drain();
    expect((await server.inject("/readyz")).statusCode).toBe(503);
  });

  it("serves our metrics and returns the same metric for the same name", async () => {
    const { metrics, server } = createServer();
    metrics.counter("events_received_total", "Events received.").inc();
    metrics.counter("events_received_total", "Events received.").inc();
    expect((await server.inject("/metrics")).body).toContain("celery_metrics_exporter_events_received_total 2");
  });

  it("hides passwords in reasons", async () => {
    const { health, server } = createServer();
    health.component("database").down("connect to postgres://u:hunter2@db/x failed, as did redis://:hunt/er2@cache:6379");
    const { body } = await server.inject("/readyz");
    expect(body).not.toContain("er2");
    expect(body).toContain("connect to postgres://***@db/x failed, as did redis://***@cache:6379");
  });

  it.each(["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const)("rejects %s, even for unknown paths", async (method) => {
    const { server } = createServer();
    for (const url of ["/readyz", "/metrics", "/nowhere"]) {
      const answer = await server.inject({ method, url });
      expect(answer.statusCode).toBe(405);
      expect(answer.headers["allow"]).toBe("GET, HEAD");
    }
  });

  it("forbids caching of its responses and does not expose errors", async () => {
    const { metrics, server } = createServer();
    metrics.registry.metrics = () => Promise.reject(new Error("hunter2"));
    const answer = await server.inject("/metrics");
    expect(answer.statusCode).toBe(500);
    expect(answer.body).not.toContain("hunter2");
    expect(answer.headers).toMatchObject({ "cache-control": "no-store", "x-content-type-options": "nosniff" });
  });
});
