/** The description of the API as a text, without a database. */
import type { Reader } from "@celery-metrics-exporter/db";
import { createLogger, loadConfig } from "@celery-metrics-exporter/runtime";
import { Config } from "./config.ts";
import { createServer } from "./server.ts";

/** What `/api/v1/openapi.json` answers, as the content of a file. */
export async function openApiDocument(): Promise<string> {
  const config = loadConfig(Config, { DATABASE_URL: "pglite:memory" });
  const server = await createServer({ config, reader: NO_READER, logger: createLogger("web", "silent") });
  await server.ready();
  const document = server.swagger();
  await server.close();
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

/** Nothing is asked. */
const NO_READER: Reader = {
  address: "",
  ping: async () => {},
  close: async () => {},
  read: async () => {
    throw new Error("only the description is needed");
  },
};
