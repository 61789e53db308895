/** What the routes of the API share. */
import type { Reader } from "@celery-metrics-exporter/db";
import type { Logger } from "@celery-metrics-exporter/runtime";
import type { FastifyBaseLogger, FastifyInstance, RawReplyDefaultExpression, RawRequestDefaultExpression, RawServerDefault } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { User, UserRole } from "../access/user.ts";
import type { Places, Shared } from "../load/shared.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Who asks. Set before any route runs. */
    user: User;
  }
  interface FastifyContextConfig {
    /** The least role that may use the route. A route without it does not start, unless it is public. */
    role?: UserRole;
    /** The route is for anyone, without a login: it has no user. */
    isPublic?: true;
  }
}

/** A server whose routes have zod schemas. */
export type Api = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  ZodTypeProvider
>;

export interface ApiContext {
  readonly reader: Reader;
  readonly logger: Logger;
  /** Places for searches, which may read many rows. */
  readonly searches: Places;
  readonly exports: Places;
  /** Answers to equal questions of one second. */
  readonly recent: Shared;
  /** Answers that may be ten seconds old. */
  readonly lasting: Shared;
  /** Answers about what is long over, which may be `KEEP_PAST_MS` old. */
  readonly past: Shared;
}

export const KEEP_PAST_MS = 300_000;

export const PREFIX = "/api/v1";
