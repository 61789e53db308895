/** Bounds on what one request may ask bull-board for, which has none of its own. */
import type { FastifyInstance } from "fastify";

/** A job may hold 4 MiB, and a page of all states has this many of each. */
const MAX_JOBS_PER_PAGE = 20;
/** Jobs past this place in a queue are not shown. */
const MAX_PLACE = 100_000_000;

/** Lowers what is too large, instead of refusing it: the answer says what was shown. Call it before the routes are registered. */
export function boundPages(server: FastifyInstance): void {
  server.addHook("preHandler", async ({ query }) => {
    const asked = query as Record<string, unknown>;
    lower(asked, "jobsPerPage", MAX_JOBS_PER_PAGE);
    lower(asked, "page", MAX_PLACE / MAX_JOBS_PER_PAGE);
  });
}

/** What is not a number at all is bull-board's to refuse. */
function lower(query: Record<string, unknown>, name: string, max: number): void {
  const value = query[name];
  const last: unknown = Array.isArray(value) ? value.at(-1) : value;
  if (typeof last === "string" && Number(last) > max) query[name] = String(max);
  else if (Array.isArray(value)) query[name] = last;
}
