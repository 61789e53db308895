/** The health of a process: its components, each up or down with a reason. */
import type { Role } from "./role.ts";
import type { FastifyInstance } from "fastify";
import type { Metrics } from "./metrics.ts";
import { createWebServer } from "../web/web-server.ts";

/** The readiness of one component, reported by the code that owns it. */
export interface ComponentHealth {
  /** @param as a state to show instead of `up`, such as `standby`. */
  up(as?: string): void;
  down(reason: string): void;
}

export interface HealthReport {
  readonly ready: boolean;
  /** `"up"` or the component's own word for it, or the reason it is down. */
  readonly components: Readonly<Record<string, string>>;
}

/** Ready if every component is up and no drain has begun. A component is down until it first reports up. */
export class Health {
  readonly #components = new Map<string, { readonly up: boolean; readonly state: string }>();
  #draining = false;

  component(name: string): ComponentHealth {
    const set = (up: boolean, state: string): void => void this.#components.set(name, { up, state });
    set(false, "starting");
    return {
      up: (as = "up") => set(true, as),
      down: (reason) => set(false, withoutPasswords(reason)),
    };
  }

  /** From now on not ready, regardless of the components. */
  drain(): void {
    this.#draining = true;
  }

  /** The components that are down, with their reasons. */
  whatIsDown(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.#components].filter(([, { up }]) => !up).map(([name, { state }]) => [name, state]));
  }

  report(): HealthReport {
    const components = Object.fromEntries([...this.#components].map(([name, { state }]) => [name, state]));
    if (this.#draining) components["process"] = "draining";
    return { ready: !this.#draining && [...this.#components.values()].every(({ up }) => up), components };
  }
}

/** Removes passwords: `/readyz` is public, and a reason is often a library's message that may quote a URL. */
function withoutPasswords(reason: string): string {
  return reason.replace(/:\/\/\S*@/g, "://***@");
}

/** Default health port of a process with several roles. */
export const SHARED_HEALTH_PORT = 9800;

/** The role's own port, so that people and probes know it. 0, meaning any free port, for a role without one. */
export function defaultHealthPort(roles: readonly Pick<Role, "healthPort">[]): number {
  const [first, ...others] = roles;
  return others.length > 0 ? SHARED_HEALTH_PORT : (first?.healthPort ?? 0);
}

// The health port: `/healthz`, `/readyz`, `/metrics`, and the routes of pull exporters.

export type HttpServer = FastifyInstance;

/**
 * Creates the server without listening. `/healthz` answers 200 while the event loop runs, `/readyz` answers 200 or 503 with the state of each
 * component, and `/metrics` contains our own metrics. Answers only GET and HEAD, and does not expose errors.
 */
export function createHttpServer(health: Health, metrics: Metrics): HttpServer {
  const server = createWebServer();
  server.addHook("onRequest", async ({ method }, reply) => {
    reply.headers({ "cache-control": "no-store", "x-content-type-options": "nosniff" });
    if (method !== "GET" && method !== "HEAD") return reply.code(405).header("allow", "GET, HEAD").send({ error: "Only GET and HEAD." });
  });
  server.setErrorHandler((_error, _request, reply) => reply.code(500).send({ error: "Internal error." }));
  server.get("/healthz", () => ({ status: "ok" }));
  server.get("/readyz", (_request, reply) => {
    const report = health.report();
    return reply.code(report.ready ? 200 : 503).send(report);
  });
  server.get("/metrics", async (_request, reply) => {
    return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics());
  });
  return server;
}
