/** Adds headers that restrict what the browser may do with every answer. */
import helmet from "@fastify/helmet";
import type { FastifyInstance } from "fastify";

export interface SecurityHeadersOptions {
  /** Directives of the content security policy, besides those that every server here has. */
  readonly directives: Readonly<Record<string, readonly string[]>>;
  /** Whether the file at this path may be cached, because its name changes with its content. */
  readonly isStatic: (url: string) => boolean;
}

export async function addSecurityHeaders(server: FastifyInstance, { directives, isStatic }: SecurityHeadersOptions): Promise<void> {
  await server.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        ...Object.fromEntries(Object.entries(directives).map(([name, sources]) => [name, [...sources]])),
        baseUri: ["'self'"],
        formAction: ["'none'"],
        frameAncestors: ["'none'"],
      },
    },
    frameguard: { action: "deny" },
    // Whether this is served over HTTPS depends on the proxy in front.
    strictTransportSecurity: false,
  });
  server.addHook("onRequest", async ({ url }, reply) => {
    if (!isStatic(url)) reply.header("cache-control", "no-store");
  });
}
