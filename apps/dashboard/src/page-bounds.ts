/** Limits what one request may ask of bull-board, which has no limits of its own. */
import type { FastifyInstance } from "fastify";

/** Maximum jobs per page and state. A job may contain 4 MiB, and a page of all states shows this many of each. */
const MAX_JOBS_PER_PAGE = 20;
/** Jobs beyond this position in a queue are not shown. */
const MAX_PLACE = 100_000_000;

/** Lowers values that are too large, instead of refusing them; the answer contains the values used. Call it before the routes are registered. */
export function boundPages(server: FastifyInstance): void {
  server.addHook("preHandler", async ({ query }) => {
    const asked = query as Record<string, unknown>;
    lower(asked, "jobsPerPage", MAX_JOBS_PER_PAGE);
    lower(asked, "page", MAX_PLACE / MAX_JOBS_PER_PAGE);
  });
}

/** bull-board refuses values that are not numbers. */
function lower(query: Record<string, unknown>, name: string, max: number): void {
  const value = query[name];
  const last: unknown = Array.isArray(value) ? value.at(-1) : value;
  if (typeof last === "string" && Number(last) > max) query[name] = String(max);
  else if (Array.isArray(value)) query[name] = last;
}
