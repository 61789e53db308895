/** The health port: `/healthz`, `/readyz`, `/metrics`, and what a pull exporter adds. */
import type { FastifyInstance } from "fastify";
import type { Health } from "./health.ts";
import type { Metrics } from "./metrics.ts";
import { createWebServer } from "./web-server.ts";

export type HttpServer = FastifyInstance;

/**
 * Builds the server without listening. `/healthz` answers 200 as long as the event loop turns; `/readyz` 200 or 503 with each component's
 * state; `/metrics` our own metrics. It answers GET and HEAD only, and keeps errors to itself.
 */
export function createHttpServer(health: Health, metrics: Metrics): HttpServer {
  const server = createWebServer();
  server.addHook("onRequest", async ({ method }, reply) => {
    reply.headers({ "cache-control": "no-store", "x-content-type-options": "nosniff" });
    if (method !== "GET" && method !== "HEAD") return reply.code(405).header("allow", "GET, HEAD").send({ error: "Only GET and HEAD." });
  });
  server.setErrorHandler((_error, _request, reply) => reply.code(500).send({ error: "This could not be answered." }));
  server.get("/healthz", () => ({ status: "ok" }));
  server.get("/readyz", (_request, reply) => {
    const report = health.report();
    return reply.code(report.ready ? 200 : 503).send(report);
  });
  server.get("/metrics", async (_request, reply) => {
    return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics());
  });
  return server;
}
