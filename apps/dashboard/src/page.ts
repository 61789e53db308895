/** bull-board's page, changed where its options say nothing: what is left out of it, and what it loads besides. */
import type { FastifyInstance } from "fastify";

/**
 * bull-board's page loads its fonts from a server of Google's; the dashboard loads nothing from elsewhere. Its style element only moves three
 * dots until the page is there, and would have to be allowed.
 */
const LEFT_OUT = /<link href="https:\/\/fonts\.googleapis\.com[^>]*>\s*|<style>.*?<\/style>/gs;

const STYLES_PATH = "/own-styles.css";

/** The version at the page's foot is bull-board's, not ours. */
const STYLES = `a[href="https://github.com/felixmosh/bull-board/releases"]::before { content: "bull-board"; }
`;

const SCRIPT_PATH = "/login-in-url.js";

/**
 * Logins in the address: `http://user:password@host/`. Chrome makes no requests from a page whose address holds a login. It has remembered the login by then, so the page is
 * loaded without.
 */
const SCRIPT = `const address = new URL(document.URL);
if (address.username !== "" || address.password !== "") {
  address.username = address.password = "";
  location.replace(address);
}
`;

/**
 * Into the page's head, the script first. Files of their own: the content security policy allows neither scripts nor styles in the page.
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
