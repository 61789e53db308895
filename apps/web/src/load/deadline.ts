/** Limits how long a request may take, however many statements it needs and however long it waits for a connection. */
import type { Reader } from "@celery-metrics-exporter/db";
import { TimedOutError } from "@celery-metrics-exporter/runtime";
import type { FastifyInstance } from "fastify";
import { AsyncLocalStorage } from "node:async_hooks";

declare module "fastify" {
  interface FastifyContextConfig {
    /** The answer goes on for as long as the client listens. Only its statements are limited. */
    streams?: true;
  }
}

/** When the request under way must have been answered, by the monotonic clock. */
const deadlines = new AsyncLocalStorage<number>();

/** Every request but those that stream has so many milliseconds. */
export function limitRequests(server: FastifyInstance, limitMs: number): void {
  server.addHook("onRequest", (request, _reply, done) => {
    if (request.routeOptions.config.streams === true) done();
    else deadlines.run(performance.now() + limitMs, done);
  });
}

/** A reader whose statements end when the request that needs them must have been answered. */
export function withDeadlines(reader: Reader): Reader {
  return {
    address: reader.address,
    ping: () => reader.ping(),
    close: () => reader.close(),
    read: async (statement, timeoutMs) => {
      const deadline = deadlines.getStore();
      if (deadline === undefined) return reader.read(statement, timeoutMs);
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) throw new TimedOutError("The time of the request is over.");
      return reader.read(statement, Math.min(timeoutMs ?? leftMs, leftMs));
    },
  };
}
