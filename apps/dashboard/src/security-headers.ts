/** What bull-board's page may do in the browser. */
import type { SecurityHeadersOptions } from "@celery-metrics-exporter/access";

/** The only style element of bull-board's page: colors of the logo beside Redis's figures. A browser test fails if an upgrade changes it. */
const REDIS_LOGO_STYLE = "'sha256-r2N1TB/gHbBtBZFKg7ejmq1acVSREzucTAEw6ga4hoU='";

/** Files whose name changes with their content. */
const STATIC = /^\/static\//;

export const SECURITY_HEADERS: SecurityHeadersOptions = {
  directives: {
    scriptSrc: ["'self'"],
    styleSrc: ["'self'", REDIS_LOGO_STYLE],
    // Sizes and colors that bull-board's page computes.
    styleSrcAttr: ["'unsafe-inline'"],
    imgSrc: ["'self'", "data:"],
    connectSrc: ["'self'"],
  },
  isStatic: (url) => STATIC.test(url),
};
