/** What bull-board's page looks like where its options say nothing. */
import type { FastifyInstance } from "fastify";

const PATH = "/own-styles.css";

/** The version at the page's foot is bull-board's, not ours. */
const STYLES = `a[href="https://github.com/felixmosh/bull-board/releases"]::before { content: "bull-board"; }
`;

/** To be put into the page's head. A file of its own: the content security policy allows no style in the page. */
export const OWN_STYLES = `<link rel="stylesheet" href="${PATH.slice(1)}">`;

export function addOwnStyles(server: FastifyInstance): void {
  server.get(PATH, (_request, reply) => reply.type("text/css; charset=utf-8").send(STYLES));
}
