/** Adds headers that restrict what the browser may do with every answer. */
import helmet from "@fastify/helmet";
import type { FastifyInstance } from "fastify";

/** The only style element of bull-board's page: colors of the logo beside Redis's figures. A browser test fails if an upgrade changes it. */
const REDIS_LOGO_STYLE = "'sha256-r2N1TB/gHbBtBZFKg7ejmq1acVSREzucTAEw6ga4hoU='";

/** Files whose name changes with their content. */
const STATIC = /^\/static\//;

export async function addSecurityHeaders(server: FastifyInstance): Promise<void> {
  await server.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'", REDIS_LOGO_STYLE],
        // Sizes and colors that bull-board's page computes.
        styleSrcAttr: ["'unsafe-inline'"],
        imgSrc: ["'self'", "data:"],
        connectSrc: ["'self'"],
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
    if (!STATIC.test(url)) reply.header("cache-control", "no-store");
  });
}
