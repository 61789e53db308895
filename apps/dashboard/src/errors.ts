/** Answers to failed requests: no internal details, a page for browsers, JSON for scripts. */
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

const TITLES: Readonly<Record<number, string>> = {
  401: "Login required",
  403: "Not allowed",
  404: "Not found",
  429: "Too many wrong logins",
};

const LOGIN_HINT = "Reload the page and enter the user name and password of this dashboard (DASHBOARD_USERNAME and DASHBOARD_PASSWORD).";

/** Shows refusals as pages to people who open an address in a browser. */
export function addErrorPages(server: FastifyInstance): void {
  server.addHook("onSend", async ({ headers }, reply, payload) => {
    const title = TITLES[reply.statusCode];
    if (title === undefined || typeof payload !== "string" || headers.accept?.includes("text/html") !== true) return payload;
    const page = errorPage(title, reply.statusCode === 401 ? LOGIN_HINT : messageOf(payload));
    reply.type("text/html; charset=utf-8").header("content-length", Buffer.byteLength(page));
    return page;
  });
}

function messageOf(payload: string): string {
  try {
    const { message } = JSON.parse(payload) as { readonly message?: unknown };
    return typeof message === "string" ? message : "";
  } catch {
    return "";
  }
}

function errorPage(title: string, message: string): string {
  return `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title} - Exporter queues</title></head>
<body><h1>${title}</h1><p>${escape(message)}</p></body>
</html>
`;
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
