/** Logins in the address: `http://user:password@host/`. */
import type { FastifyInstance } from "fastify";

const PATH = "/login-in-url.js";
/** Chrome makes no requests from a page whose address holds a login. It has remembered the login by then, so the page is loaded without. */
const SCRIPT = `const address = new URL(document.URL);
if (address.username !== "" || address.password !== "") {
  address.username = address.password = "";
  location.replace(address);
}
`;

/** To be the first script of the page. A file of its own: the content security policy allows no script in the page. */
export const TAKE_LOGIN_OUT_OF_URL = `<script src="${PATH.slice(1)}"></script>`;

export function addLoginInUrl(server: FastifyInstance): void {
  server.get(PATH, (_request, reply) => reply.type("text/javascript; charset=utf-8").send(SCRIPT));
}
