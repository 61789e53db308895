/** What a process knows of its own health: its components, each up or down with a reason. */
import type { Role } from "./role.ts";
import type { FastifyInstance } from "fastify";
import type { Metrics } from "./metrics.ts";
import { createWebServer } from "../web/web-server.ts";

/** The readiness of one component, told by the code that owns it. */
export interface ComponentHealth {
  /** @param as a word of its own for what it is, instead of `up`: `standby`. */
  up(as?: string): void;
  down(reason: string): void;
}

export interface HealthReport {
  readonly ready: boolean;
  /** `"up"` or its own word for that, or why it is down. */
  readonly components: Readonly<Record<string, string>>;
}

/** Ready when every component is up and no drain has begun. A component is down until it first says otherwise. */
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

  /** From now on not ready, whatever the components say. */
  drain(): void {
    this.#draining = true;
  }

  /** The components that are down, each with its reason. */
  whatIsDown(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.#components].filter(([, { up }]) => !up).map(([name, { state }]) => [name, state]));
  }

  report(): HealthReport {
    const components = Object.fromEntries([...this.#components].map(([name, { state }]) => [name, state]));
    if (this.#draining) components["process"] = "draining";
    return { ready: !this.#draining && [...this.#components.values()].every(({ up }) => up), components };
  }
}

/** Anyone may ask for `/readyz`, and reasons are often a library's own words, which may quote a URL. */
function withoutPasswords(reason: string): string {
  return reason.replace(/:\/\/\S*@/g, "://***@");
}

// Where the health endpoints are unless the settings say otherwise.

/** Of a process with this one role. 9090, 9100 and 9808 are Prometheus' ports. */
const PORTS: Readonly<Record<string, number>> = {
  receiver: 9801,
  "datadog-processor": 9802,
  "postgres-processor": 9803,
  dashboard: 9804,
};
/** Of a process with several. */
const SHARED_PORT = 9800;

/** A fixed port for each role, so that people and probes know it. 0, any free one, for a role without. */
export function defaultHealthPort(roles: readonly Pick<Role, "name">[]): number {
  const [first, ...others] = roles;
  return others.length > 0 ? SHARED_PORT : (PORTS[first?.name ?? ""] ?? 0);
}

// The health port: `/healthz`, `/readyz`, `/metrics`, and what a pull exporter adds.

export type HttpServer = FastifyInstance;

/**
 * Builds the server without listening. `/healthz` answers 200 as long as the event loop turns; `/readyz` 200 or 503 with each component's
 * state; `/metrics` our own metrics. It answers GET and HEAD only, and keeps errors to itself.
 */
export function createHttpServer(health: Health, metrics: Metrics): HttpServer {
  const server = createWebServer();
  server.addHook("onRequest", async ({ method }, reply) => {
    reply.headers({ "cache-control": "no-store", "x-content-type-options": "nosniff" });
    if (method !== "GET" && method !== "HEAD") return reply.code(405).header("allow", "GET, HEAD").send({ error: "Only GET and HEAD." });
  });
  server.setErrorHandler((_error, _request, reply) => reply.code(500).send({ error: "This could not be answered." }));
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
