/** The API in this process, for commands: without a port and without users, because whoever can read the database sees everything. */
import { connectReader } from "@celery-metrics-exporter/db";
import { createLogger, loadConfig } from "@celery-metrics-exporter/runtime";
import { Config } from "./config.ts";
import { readNames } from "./queries/names.ts";
import { createServer } from "./server.ts";

export interface LocalApi {
  /** @param path with its query, such as `/api/v1/tasks?limit=1`. */
  get(path: string): Promise<{ readonly status: number; readonly text: string }>;
  close(): Promise<void>;
}

const STARTUP_TIMEOUT_MS = 10_000;
const STATEMENT_TIMEOUT_MS = 10_000;

/**
 * @param applicationName of the connections.
 * @throws {ConfigError} if the URL is invalid.
 * @throws {UnavailableError} if the database does not answer, is not migrated or refuses access.
 */
export async function openLocalApi(databaseUrl: string, applicationName: string): Promise<LocalApi> {
  const logger = createLogger("web", "silent");
  const reader = await connectReader({
    url: databaseUrl,
    poolSize: 2,
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    startupTimeoutMs: STARTUP_TIMEOUT_MS,
    applicationName,
    logger,
  });
  try {
    // Fails with advice, which an answer would not contain.
    await readNames(reader);
    const server = await createServer({ config: loadConfig(Config, { DATABASE_URL: databaseUrl }), reader, logger });
    return {
      get: async (path) => {
        const { statusCode, body } = await server.inject({ method: "GET", url: path, headers: { host: "localhost" } });
        return { status: statusCode, text: body };
      },
      close: async () => {
        await server.close();
        await reader.close();
      },
    };
  } catch (thrown) {
    await reader.close();
    throw thrown;
  }
}
