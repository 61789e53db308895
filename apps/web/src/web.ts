/** The role `web`: the HTTP API over the rows. */
import { connectReader, isEmbedded, type Reader } from "@celery-metrics-exporter/db";
import { Repeat, defineRole, listen, type Role } from "@celery-metrics-exporter/runtime";
import { singleSignOn } from "./access/auth-routes.ts";
import { Config } from "./config.ts";
import { outageOf } from "./load/outage.ts";
import { readNames } from "./queries/names.ts";
import { createServer } from "./server.ts";

const MAX_CONNECTIONS = 4;
const ASK_EVERY_MS = 10_000;

/**
 * @param onOpen receives the address, without a trailing slash, once it answers.
 * @param dashboardUrl the address of the dashboard that this process runs, once it answers.
 */
export function webRole(onOpen: (url: string) => void = () => {}, dashboardUrl?: () => string | undefined): Role<typeof Config> {
  return defineRole({
    name: "web",
    healthPort: 9809,
    Config,
    async start({ config, logger, health, lifecycle }) {
      const component = health.component("database");
      const requestLimitMs = config.WEB_REQUEST_TIMEOUT_SECONDS * 1_000;
      const url = config.DATABASE_READ_URL ?? config.DATABASE_URL;
      const reader: Reader = await connectReader({
        url,
        poolSize: MAX_CONNECTIONS,
        statementTimeoutMs: requestLimitMs,
        startupTimeoutMs: config.STARTUP_TIMEOUT_SECONDS * 1_000,
        applicationName: "celery-metrics-exporter web",
        logger,
      });
      lifecycle.defer("database connections", () => reader.close());
      // Fails with advice if the database is not migrated or we may not read.
      await readNames(reader);
      const outage = outageOf(logger);
      component.up();
      const ping = async (): Promise<void> => {
        await reader.ping();
        component.up();
        outage.served();
      };
      const asking = new Repeat(ping, {
        everyMs: ASK_EVERY_MS,
        onError: ({ message }) => {
          component.down(message);
          outage.failed({ reason: message });
        },
      });
      lifecycle.defer("database check", () => asking.stop());
      const signOn = singleSignOn({ config, logger, component: () => health.component("issuer") });
      if (signOn !== undefined) {
        lifecycle.defer("issuer check", () => signOn.issuer.stop());
        await signOn.issuer.asked;
      }
      const server = await createServer({
        config,
        reader,
        logger,
        // An embedded database cannot end a statement, and a late answer is better there than none.
        requestLimitMs: isEmbedded(url) ? undefined : requestLimitMs,
        dashboardUrl,
        outage,
        ...(signOn !== undefined && { singleSignOn: signOn }),
      });
      lifecycle.defer("web port", () => server.close());
      const webUrl = await listen(server, { host: config.WEB_HOST, port: config.WEB_PORT, settings: "WEB_PORT or WEB_HOST" });
      logger.info({ webUrl, database: reader.address }, "listening");
      onOpen(webUrl);
    },
  });
}

export const web = webRole();
