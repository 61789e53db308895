/** Problem documents (RFC 9457): what every failed request is answered with. */
import { CodedError, TimedOutError, UnavailableError, toError, type Logger } from "@celery-metrics-exporter/runtime";
import { isOutage } from "../load/outage.ts";
import { RefusedDataError } from "@celery-metrics-exporter/db";
import type { FastifyError, FastifyInstance, FastifyReply } from "fastify";
import { hasZodFastifySchemaValidationErrors } from "fastify-type-provider-zod";
import { z } from "zod";

export const Problem = z
  .object({
    type: z.literal("about:blank"),
    title: z.string(),
    status: z.number().int(),
    detail: z.string().describe("What is wrong, as a sentence."),
    field: z.string().optional().describe("The parameter that is wrong."),
  })
  .meta({ id: "Problem" });
export type Problem = z.output<typeof Problem>;

/** The answers of every route besides its own. */
export const PROBLEMS = {
  "4XX": { description: "The request is refused.", content: { "application/problem+json": { schema: Problem } } },
  "5XX": { description: "The database does not answer, or not in time.", content: { "application/problem+json": { schema: Problem } } },
};

const TITLES: Readonly<Record<number, string>> = {
  400: "Wrong parameter",
  401: "Login required",
  403: "Not allowed",
  404: "Not found",
  405: "Not allowed",
  429: "Too many wrong logins",
  503: "Not available",
};

/** A parameter's name comes from the client. */
const MAX_FIELD = 100;

/** An error whose answer names a parameter. */
export function wrongParameter(field: string, message: string, statusCode = 400): Error {
  return Object.assign(new Error(message), { statusCode, field });
}

export function notFound(what: string): Error {
  return Object.assign(new Error(`${what} is not known. It may have been deleted, or never arrived.`), { statusCode: 404 });
}

type Refused = FastifyError & { readonly field?: string; readonly retryAfterSeconds?: number };

export function addProblems(server: FastifyInstance, logger: Logger): void {
  server.setErrorHandler((thrown, request, reply) => {
    const problem = problemOf(thrown, request.query);
    const route = request.routeOptions.url;
    if (thrown instanceof TimedOutError) logger.warn({ route, reason: thrown.message }, "a request failed");
    else if (problem.status >= 500 && !isOutage(thrown)) logger.warn({ route, err: toError(thrown) }, "a request failed");
    const { retryAfterSeconds = problem.status === 503 ? 5 : undefined } = thrown as Refused;
    if (retryAfterSeconds !== undefined) reply.header("retry-after", retryAfterSeconds);
    return send(reply, problem);
  });
  server.setNotFoundHandler((_request, reply) =>
    send(reply, problemWith(404, "There is nothing at this address. See /api/v1/openapi.json.")),
  );
}

function send(reply: FastifyReply, problem: Problem): FastifyReply {
  return reply.code(problem.status).type("application/problem+json; charset=utf-8").serializer(JSON.stringify).send(problem);
}

function problemWith(status: number, detail: string, field?: string): Problem {
  return { type: "about:blank", title: TITLES[status] ?? "Error", status, detail, ...(field !== undefined && { field }) };
}

/** Whether a parameter that may have one value has several. The schemas of those that may have several say how many. */
function isGivenTwice(query: unknown, field: string, message = ""): boolean {
  const given = (query as Readonly<Record<string, unknown>> | null | undefined)?.[field];
  return Array.isArray(given) && !/^must be at most \d+ texts/.test(message);
}

/** Only messages that were written for clients are shown: others may contain data. */
export function problemOf(thrown: unknown, query?: unknown): Problem {
  if (hasZodFastifySchemaValidationErrors(thrown)) {
    const [first] = thrown.validation;
    // Without the position in a list of values.
    const field = (first?.instancePath ?? "")
      .slice(1)
      .replace(/\/\d+$/, "")
      .slice(0, MAX_FIELD);
    const message = isGivenTwice(query, field, first?.message) ? "must be given only once" : first?.message;
    return problemWith(400, `The parameter ${JSON.stringify(field)} ${message ?? "is wrong"}.`, field);
  }
  if (thrown instanceof RefusedDataError) return problemWith(400, "A parameter has a value that the database does not accept.");
  if (thrown instanceof TimedOutError) return problemWith(503, "The database did not answer in time. Ask for a shorter range.");
  if (thrown instanceof UnavailableError || thrown instanceof CodedError)
    return problemWith(503, "The database is not available. The log says why.");
  const { statusCode = 500, message, field } = thrown as Refused;
  return statusCode >= 500 && statusCode !== 503
    ? problemWith(500, "Something went wrong; see the log of the role web.")
    : problemWith(statusCode, message, field);
}
