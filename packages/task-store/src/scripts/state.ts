/**
 * The state of a task's entry: one field, `o`, so that one look and one write are enough for each step of a task.
 *
 *   <due>                           open: nothing of it was reported
 *   <due>s                          open: something was reported
 *   t                               a tombstone: everything was reported
 *   …:<since>:<end>:<job>           the job has a lease until `end`; the task was first claimed at `since`
 *   …:<since>:0:                    the lease was given up
 *
 * `due` is the time under which the entry is counted as open (see `open-tasks.ts`), in seconds since the epoch. The others are in
 * milliseconds of Redis' clock, so that only one clock counts. With a job's id of 13 characters that is 53 bytes. From 65 on, Redis would
 * store the entry in three times the memory (`hash-max-listpack-value`).
 *
 * In an entry of which something was reported, or a tombstone, the value of a start, final or retry that was not reported begins with `0`.
 * So nearly every task needs no mark at all: it becomes a tombstone, and with that all its facts are reported.
 */

/** Whether the facts without a mark were reported, by the value of `o`. */
export function isMarked(state: string): boolean {
  return /^\d*[st]/.test(state);
}
