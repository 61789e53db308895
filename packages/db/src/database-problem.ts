/** What makes a database unfit, whatever its tables: found before anything is stored in it. */

/** What a server says about itself. */
export interface DatabaseFacts {
  /** `server_encoding` */
  readonly encoding: string;
  /** `server_version_num`, such as 150004 */
  readonly version: number;
}

/** Generated columns came with 12. */
const OLDEST_VERSION = 120_000;

export const DATABASE_FACTS_STATEMENT =
  "select current_setting('server_encoding') as encoding, current_setting('server_version_num')::int as version";

/** One sentence, with the remedy; undefined when the database will do. */
export function databaseProblem({ encoding, version }: DatabaseFacts): string | undefined {
  if (version < OLDEST_VERSION) return `it is PostgreSQL ${Math.floor(version / 10_000)}, and 12 or later is needed`;
  if (encoding !== "UTF8") {
    return `the database's encoding must be UTF8, and is ${encoding}: create another with CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0`;
  }
  return undefined;
}
