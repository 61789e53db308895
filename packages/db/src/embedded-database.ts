/** PGlite: PostgreSQL inside this process, for trying things out on a bare machine. Loaded only when a URL asks for it. */
import { PGlite } from "@electric-sql/pglite";
import { drizzle } from "drizzle-orm/pglite";
import { migrate } from "drizzle-orm/pglite/migrator";
import { mkdirSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { Database } from "./database.ts";
import { MIGRATIONS_FOLDER } from "./migrations-folder.ts";

interface Shared {
  readonly client: Promise<PGlite>;
  users: number;
}

/** A folder can be open only once, and memory can be shared only within: who asks for the same URL gets the same database. */
const open = new Map<string, Shared>();

/** Opens, migrates, and shares the database of `pglite:memory` or `pglite:<folder>`. The last to close it ends it. */
export async function openEmbeddedDatabase(url: string): Promise<Database> {
  const shared = open.get(url) ?? { client: start(url.slice("pglite:".length)), users: 0 };
  open.set(url, shared);
  shared.users++;
  const release = async (): Promise<void> => {
    if (--shared.users > 0) return;
    open.delete(url);
    await (await shared.client).close();
  };
  try {
    const client = await shared.client;
    let closing: Promise<void> | undefined;
    return { drizzle: drizzle({ client }), address: url, close: () => (closing ??= release()) };
  } catch (thrown) {
    open.delete(url);
    throw thrown;
  }
}

async function start(folder: string): Promise<PGlite> {
  const inMemory = folder === "" || folder === "memory";
  if (!inMemory) mkdirSync(dirname(resolve(folder)), { recursive: true });
  const client = await PGlite.create(inMemory ? {} : { dataDir: folder });
  await migrate(drizzle({ client }), { migrationsFolder: MIGRATIONS_FOLDER });
  return client;
}
