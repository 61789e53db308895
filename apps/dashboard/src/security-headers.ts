/** What every answer tells the browser not to do. */
import helmet from "@fastify/helmet";
import type { FastifyInstance } from "fastify";

/** The one style element of bull-board's page: colours of the logo beside Redis's figures. A browser test tells when an upgrade changes it. */
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
        // Sizes and colours that bull-board's page works out.
        styleSrcAttr: ["'unsafe-inline'"],
        imgSrc: ["'self'", "data:"],
        connectSrc: ["'self'"],
        baseUri: ["'self'"],
        formAction: ["'none'"],
        frameAncestors: ["'none'"],
      },
    },
    frameguard: { action: "deny" },
    // Whether this is served by HTTPS is decided by what stands in front.
    strictTransportSecurity: false,
  });
  server.addHook("onRequest", async ({ url }, reply) => {
    if (!STATIC.test(url)) reply.header("cache-control", "no-store");
  });
}
