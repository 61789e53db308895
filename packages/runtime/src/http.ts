/** The health port: `/healthz`, `/readyz`, `/metrics`, and what a pull exporter adds. */
import Fastify, { type FastifyInstance } from "fastify";
import type { AddressInfo } from "node:net";
import { UnavailableError, toError } from "./errors.ts";
import type { Health } from "./health.ts";
import type { Metrics } from "./metrics.ts";

export type HttpServer = FastifyInstance;

/**
 * Builds the server without listening. `/healthz` answers 200 as long as the event loop turns; `/readyz` 200 or 503 with each component's
 * state; `/metrics` our own metrics.
 */
export function createHttpServer(health: Health, metrics: Metrics): HttpServer {
  const server = Fastify({ forceCloseConnections: true });
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

/**
 * Listens and returns the port taken.
 *
 * @throws {UnavailableError} when the address is taken or not ours.
 */
export async function listen(server: HttpServer, host: string, port: number): Promise<number> {
  try {
    await server.listen({ host, port });
  } catch (thrown) {
    const error = toError(thrown);
    throw new UnavailableError(`Cannot listen on ${host}:${port} (${error.message}). Choose another HEALTH_HOST or HEALTH_PORT.`, {
      cause: error,
    });
  }
  return (server.server.address() as AddressInfo).port;
}
