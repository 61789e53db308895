/** Vitest's global setup: starts a shared server when the first test requests it (`shared-servers.ts`), and stops all after the last test. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "./services/folders.mjs";
import { startPostgres } from "./services/postgres.mjs";
import { startRabbitmq } from "./services/rabbitmq.mjs";
import { startRedis } from "./services/redis.mjs";
import type { ServerProcess } from "./services/server-process.mjs";
import {
  FOLDER_VARIABLE,
  type SharedServer,
  type SharedServerName,
  sharedServerNames,
  wantedFile,
  writeAnswer,
} from "./servers/shared-servers.ts";

const POLL_MS = 50;

/** Runs once per run: every project names it, and the first one sets the variable by which the others know. */
export function setup(): (() => Promise<void>) | undefined {
  if (process.env[FOLDER_VARIABLE] !== undefined) return undefined;
  const folder = temporaryFolder("shared");
  process.env[FOLDER_VARIABLE] = folder;
  const starting = new Map<SharedServerName, Promise<ServerProcess | undefined>>();
  const poll = setInterval(() => {
    for (const name of sharedServerNames) {
      if (!starting.has(name) && existsSync(join(folder, wantedFile(name)))) starting.set(name, answer(folder, name));
    }
  }, POLL_MS);
  return async () => {
    clearInterval(poll);
    delete process.env[FOLDER_VARIABLE];
    const servers = await Promise.all(starting.values());
    await Promise.all(servers.map(discard));
  };
}

async function discard(server: ServerProcess | undefined): Promise<void> {
  await server?.kill();
  await server?.stop();
}

async function answer(folder: string, name: SharedServerName): Promise<ServerProcess | undefined> {
  try {
    const { process: started, shared } = await start(name);
    writeAnswer(folder, name, { server: shared });
    return started;
  } catch (error) {
    writeAnswer(folder, name, { error: String(error) });
    return undefined;
  }
}

async function start(name: SharedServerName): Promise<{ process: ServerProcess; shared: SharedServer }> {
  if (name === "rabbitmq") {
    const server = await startRabbitmq();
    return { process: server, shared: { url: server.url, control: server.control, tlsPort: server.tlsPort } };
  }
  const server = name === "redis" ? await startRedis() : await startPostgres({ durable: false });
  return { process: server, shared: { url: server.url } };
}
