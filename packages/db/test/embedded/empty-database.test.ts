import { PGlite } from "@electric-sql/pglite";
import { expect, it } from "vitest";
import { emptyDatabase } from "../../src/embedded/empty-database.ts";

/** What an initialisation decides: encoding, collation and language, settings, and which objects exist. */
const FACTS = `
  select 'database' as kind, datname::text as name, concat_ws(' ', pg_encoding_to_char(encoding), datlocprovider, datcollate, datctype) as value from pg_database
  union all select 'setting', name, setting from pg_settings where source = 'configuration file'
  union all select 'role', rolname::text, null from pg_roles
  union all select 'class', oid::regclass::text, null from pg_class where relkind in ('r', 'v')
  order by 1, 2`;

async function factsOf(client: PGlite): Promise<unknown[]> {
  const { rows } = await client.query(FACTS).finally(() => client.close());
  return rows;
}

it("prepared by the build is like one that PGlite initialises", { timeout: 120_000 }, async () => {
  const prepared = emptyDatabase();
  if (prepared === undefined) throw new Error("the build has prepared none");
  const facts = await factsOf(await PGlite.create({ loadDataDir: prepared }));
  expect(facts.length).toBeGreaterThan(100);
  expect(facts).toEqual(await factsOf(await PGlite.create()));
});
