/** Answers to failed requests: no internal details, a page for browsers, JSON for scripts. */
import type { ErrorPagesOptions } from "@celery-metrics-exporter/access";
import type { Logger } from "@celery-metrics-exporter/runtime";
import type { FastifyInstance } from "fastify";

const INTERNAL = JSON.stringify({
  error: { key: "ERRORS.INTERNAL_SERVER_ERROR" },
  message: "Something went wrong; see the dashboard's log.",
});

/**
 * Internal errors are logged; the answer only says that something went wrong. bull-board answers with the error's message, and has its own
 * error handler, so this replaces the answer itself.
 */
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

export const ERROR_PAGES: ErrorPagesOptions = {
  site: "Exporter queues",
  loginHint: "Reload the page and enter the user name and password of this dashboard (DASHBOARD_USERNAME and DASHBOARD_PASSWORD).",
  messageOf: (body) => (body as { readonly message?: unknown }).message,
};
