/** What went wrong in the dashboard is for its log: the answer says only that something did. */
import type { Logger } from "@celery-metrics-exporter/runtime";
import type { FastifyInstance } from "fastify";

const INTERNAL = JSON.stringify({
  error: { key: "ERRORS.INTERNAL_SERVER_ERROR" },
  message: "Something went wrong; the dashboard's log says what.",
});

/** bull-board answers with an error's message, and has an error handler of its own; so the answer itself is replaced. */
export function hideErrors(server: FastifyInstance, logger: Logger): void {
  server.addHook("onError", async (request, _reply, error) => {
    if ((error.statusCode ?? 500) >= 500) logger.warn({ route: request.routeOptions.url, err: error }, "a request failed");
  });
  server.addHook("onSend", async (_request, reply, payload) => {
    if (reply.statusCode < 500) return payload;
    reply.type("application/json; charset=utf-8").header("content-length", Buffer.byteLength(INTERNAL));
    return INTERNAL;
  });
}
