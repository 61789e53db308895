/** A time limit for each statement, where a connection pooler takes none for the session. */
import { DatabaseError, type Pool, type PoolClient, type QueryConfig } from "pg";

/** Runs each statement in a transaction that limits it, so that nothing is left on a session that others use next. */
export function withTimeLimit(pool: Pool, limitMs: number): Pick<Pool, "query"> {
  const query = async (statement: QueryConfig, values?: unknown[]): Promise<unknown> => {
    const client = await pool.connect();
    // Without a listener, a connection that is lost would end the process. The statement fails too, and says why.
    client.on("error", ignore);
    try {
      await client.query(`begin; set local statement_timeout = ${limitMs}`);
      const result: unknown = await client.query(statement, values);
      await client.query("commit");
      release(client);
      return result;
    } catch (thrown) {
      // Where the server refused the statement, the connection can be kept; the transaction of a lost one ends with it.
      const isUsable =
        thrown instanceof DatabaseError &&
        (await client.query("rollback").then(
          () => true,
          () => false,
        ));
      release(client, !isUsable);
      throw thrown;
    }
  };
  return { query: query as Pool["query"] };
}

function release(client: PoolClient, isBroken = false): void {
  client.release(isBroken);
  if (!isBroken) client.off("error", ignore);
}

function ignore(): void {}
