/** Shows refusals as pages to people who open an address in a browser. */
import type { FastifyInstance } from "fastify";

export interface ErrorPagesOptions {
  /** The name in the page's title. */
  readonly site: string;
  /** What to do without a login, as a sentence. */
  readonly loginHint: string;
  /** The message in the body of an answer; undefined if there is none. */
  readonly messageOf: (body: unknown) => unknown;
}

const TITLES: Readonly<Record<number, string>> = {
  400: "Not understood",
  401: "Login required",
  403: "Not allowed",
  404: "Not found",
  429: "Too many wrong logins",
  503: "Not available",
};

/** Call it before the routes are registered. */
export function addErrorPages(server: FastifyInstance, { site, loginHint, messageOf }: ErrorPagesOptions): void {
  server.addHook("onSend", async ({ headers }, reply, payload) => {
    const title = TITLES[reply.statusCode];
    if (title === undefined || typeof payload !== "string" || headers.accept?.includes("text/html") !== true) return payload;
    const message = reply.statusCode === 401 ? loginHint : textOf(payload, messageOf);
    const page = errorPage({ title, site, message });
    reply.type("text/html; charset=utf-8").header("content-length", Buffer.byteLength(page));
    return page;
  });
}

function textOf(payload: string, messageOf: ErrorPagesOptions["messageOf"]): string {
  try {
    const message = messageOf(JSON.parse(payload));
    return typeof message === "string" ? message : "";
  } catch {
    return "";
  }
}

function errorPage({ title, site, message }: { readonly title: string; readonly site: string; readonly message: string }): string {
  return `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title} - ${site}</title></head>
<body><h1>${title}</h1><p>${escape(message)}</p></body>
</html>
`;
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
