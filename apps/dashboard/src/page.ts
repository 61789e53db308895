/** Changes bull-board's page beyond what its options allow: removes parts of it and adds files. */
import type { FastifyInstance } from "fastify";

/**
 * bull-board's page loads its fonts from a Google server, but the dashboard loads nothing from elsewhere. Its style element only animates three
 * dots until the page is loaded, and the content security policy would have to allow it.
 */
const LEFT_OUT = /<link href="https:\/\/fonts\.googleapis\.com[^>]*>\s*|<style>.*?<\/style>/gs;

const STYLES_PATH = "/own-styles.css";

/** The version in the page's footer is bull-board's, not ours. */
const STYLES = `a[href="https://github.com/felixmosh/bull-board/releases"]::before { content: "bull-board"; }
`;

const SCRIPT_PATH = "/login-in-url.js";

/**
 * Removes the login from an address such as `http://user:password@host/`. Chrome blocks requests from a page whose address contains a login. It
 * has remembered the login by then, so the page is reloaded without it.
 */
const SCRIPT = `const address = new URL(document.URL);
if (address.username !== "" || address.password !== "") {
  address.username = address.password = "";
  location.replace(address);
}
`;

/**
 * Adds to the page's head, the script first. They are separate files, because the content security policy forbids inline scripts and styles.
 */
const ADDED = `<script src="${SCRIPT_PATH.slice(1)}"></script><link rel="stylesheet" href="${STYLES_PATH.slice(1)}">`;

/** Call it before the routes are registered. */
export function changePage(server: FastifyInstance): void {
  server.addHook("onSend", async (_request, reply, payload) => {
    const isPage =
      reply.statusCode === 200 && typeof payload === "string" && String(reply.getHeader("content-type")).startsWith("text/html");
    if (!isPage) return payload;
    const page = payload.replaceAll(LEFT_OUT, "").replace("<title>", `${ADDED}<title>`);
    reply.header("content-length", Buffer.byteLength(page));
    return page;
  });
  server.get(SCRIPT_PATH, (_request, reply) => reply.type("text/javascript; charset=utf-8").send(SCRIPT));
  server.get(STYLES_PATH, (_request, reply) => reply.type("text/css; charset=utf-8").send(STYLES));
}
