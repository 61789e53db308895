/** PGlite: PostgreSQL inside this process, for trying things out on a bare machine. Loaded only if a URL requests it. */
import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { PGlite } from "@electric-sql/pglite";
import { sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/pglite";
import { join, resolve } from "node:path";
import { MigrationProblem, applyMigrations } from "../migrate/apply-migrations.ts";
import { type Database, execute, query } from "../tables/database.ts";
import { offerCopies } from "./embedded-copy.ts";
import { emptyDatabase } from "./empty-database.ts";
import { LOCK_FILE, createInFolder, holdsDatabase, lockForThisProcess, makePrivateFolder } from "./private-folder.ts";

interface Running {
  readonly client: PGlite;
  readonly close: () => Promise<void>;
}

interface Shared {
  readonly running: Promise<Running>;
  users: number;
}

/** Databases by folder. A folder can be open only once, and an in-memory database exists only in this process, so users of the same URL share one. */
const open = new Map<string, Shared>();
/** Databases without users that are still closing. */
const closing = new Map<string, Promise<void>>();

/**
 * Opens, migrates and shares the database of `pglite:memory` or `pglite:<folder>`. The last `close` shuts it down.
 *
 * @throws {UnavailableError} if another process has the folder open.
 */
export async function openEmbeddedDatabase(url: string): Promise<Database> {
  const place = url.slice("pglite:".length);
  const folder = place === "" || place === "memory" ? undefined : resolve(place);
  const key = folder ?? "";
  const shared = open.get(key) ?? { running: start(folder, closing.get(key)), users: 0 };
  open.set(key, shared);
  shared.users++;
  try {
    const { client, close } = await shared.running;
    const release = async (): Promise<void> => {
      if (--shared.users > 0) return;
      open.delete(key);
      const closed = close().finally(() => closing.delete(key));
      closing.set(key, closed);
      await closed;
    };
    let released: Promise<void> | undefined;
    const database = { drizzle: drizzle({ client }) };
    return {
      ...database,
      address: url,
      ping: async () => void (await query(database, sql`select 1`)),
      runKept: async (statement) => void (await execute(database, statement)),
      close: () => (released ??= release()),
    };
  } catch (thrown) {
    if (open.get(key) === shared) open.delete(key);
    throw thrown;
  }
}

async function start(folder: string | undefined, previous: Promise<void> | undefined): Promise<Running> {
  await previous?.catch(() => {});
  if (folder === undefined) return startPglite(await createPglite(), () => {});
  makePrivateFolder(folder);
  const unlock = await lockForThisProcess(
    join(folder, LOCK_FILE),
    (pid) => `The embedded database in ${folder} is in use by process ${pid}. Stop it, or set DATABASE_URL.`,
  );
  try {
    const client = await createPglite(folder);
    // PGlite creates files that everyone can read and write.
    makePrivateFolder(folder);
    const running = await startPglite(client, unlock);
    const stopCopies = await offerCopies(folder, client);
    return { ...running, close: () => stopCopies().then(running.close) };
  } catch (thrown) {
    unlock();
    throw thrown instanceof MigrationProblem
      ? new UnavailableError(`Cannot use the embedded database in ${folder}: ${thrown.message}.`)
      : thrown;
  }
}

function createPglite(folder?: string): Promise<PGlite> {
  if (folder !== undefined && holdsDatabase(folder)) return PGlite.create({ dataDir: folder });
  const empty = emptyDatabase();
  const create = (): Promise<PGlite> =>
    PGlite.create({ ...(folder !== undefined && { dataDir: folder }), ...(empty !== undefined && { loadDataDir: empty }) });
  return folder === undefined ? create() : createInFolder(folder, create);
}

async function startPglite(client: PGlite, unlock: () => void): Promise<Running> {
  const close = (): Promise<void> => client.close().finally(unlock);
  try {
    await drizzle({ client }).transaction((transaction) => applyMigrations({ drizzle: transaction }));
  } catch (thrown) {
    await close();
    throw thrown;
  }
  return { client, close };
}
