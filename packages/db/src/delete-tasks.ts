/** Deletes what came of tasks that turn out to be excluded. */
import { sql } from "drizzle-orm";
import { query, type Database } from "./database.ts";
import { celeryTask } from "./schema.ts";
import { storableText } from "./storable-text.ts";

/**
 * Deletes these tasks, but for those of which a `task-sent` is known; ids that are not there do not matter. Locks in the order of the upsert, so that the two do not deadlock.
 *
 * @returns how many there were.
 * @throws {UnavailableError} when the database does not serve.
 */
export async function deleteTasks(database: Database, ids: readonly string[]): Promise<number> {
  if (ids.length === 0) return 0;
  const deleted = await query(
    database,
    sql`with doomed as materialized (
          select task_id from ${celeryTask}
          where task_id in (select value from json_array_elements_text(${JSON.stringify(ids.map(storableText))}::json))
            and sent_at is null
          order by task_id for update
        )
        delete from ${celeryTask} where task_id in (select task_id from doomed) returning 1`,
  );
  return deleted.length;
}
