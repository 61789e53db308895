/** What is counted of tasks, and how rows with such counts are summed up, as SQL. */

/** The columns of both tables with counts. */
export const VALUES = ["n", "runtime_sum", "runtime_hist", "wait_sum", "wait_hist", "runtime_max", "slowest_id", "last_failed_id"] as const;

/** Sums of rows with the columns `VALUES`, but without ids. */
export const SUMS = `sum(n) AS n, sum(runtime_sum) AS runtime_sum, sum(runtime_hist) AS runtime_hist,
    sum(wait_sum) AS wait_sum, sum(wait_hist) AS wait_hist, max(runtime_max) AS runtime_max`;

/**
 * `SUMS`, and `slowest` and `last_failed`, which contain ids: see `idIn`. Of two tasks that failed in one row's time, the row knows the last.
 *
 * @param time the column with the rows' time.
 */
export function sumsOf(time: string): string {
  return `${SUMS}, ${idOfGreatest("slowest_id", "runtime_max")} AS slowest, ${idOfGreatest("last_failed_id", `date_part('epoch', ${time})`)} AS last_failed`;
}

/** A double's bytes in hexadecimal. */
const KEY_LENGTH = 16;

/**
 * The id of the row with the greatest value, as an aggregate, and behind a key, which `idIn` takes away. The key sorts like the value if that is not
 * negative. PostgreSQL would sort all rows for `array_agg`, and has no `max` of pairs before version 18.
 */
export function idOfGreatest(id: string, value: string): string {
  return `max((encode(float8send(${value}), 'hex') || ${id}) COLLATE "C")`;
}

/** @param text of `idOfGreatest`. */
export function idIn(text: string): string {
  return `substr(${text}, ${KEY_LENGTH + 1})`;
}
