/** A role is what a process runs: receiver, one exporter's processor, dashboard. Several may share a process. */
import type { z } from "zod";
import type { ConfigSchema } from "./config.ts";
import type { Health } from "./health.ts";
import type { HttpServer } from "./http.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Logger } from "./logger.ts";
import type { Metrics } from "./metrics.ts";

/** What the process gives a role. */
export interface RoleContext<C> {
  readonly config: C;
  readonly logger: Logger;
  /** Components named here decide `/readyz`. */
  readonly health: Health;
  readonly metrics: Metrics;
  /** Routes may be added until `start` resolves. */
  readonly http: HttpServer;
  /** Everything `start` acquires is registered here for release. */
  readonly lifecycle: Lifecycle;
}

export interface Role<S extends ConfigSchema = ConfigSchema> {
  readonly name: string;
  /** Whether it is no part that users know, so that its start is not worth a line. */
  readonly isInternal?: boolean;
  readonly Config: S;
  /** Connects and begins work; resolves when the role works. A rejection aborts the start of the process. */
  start(context: RoleContext<z.output<S>>): Promise<void>;
}

/** Declares a role, so that `start` knows the type of its configuration. */
export function defineRole<S extends ConfigSchema>(role: Role<S>): Role<S> {
  return role;
}
