/** Which running tasks are stuck, by how long tasks of their names usually run. */
import { stuckAfterSeconds, usualRuntimesStatement, type Reader, type UsualRuntime } from "@celery-metrics-exporter/db";

/** A row of which `stuck` is for how many seconds it has run, if that could be too long. */
export interface Running {
  readonly name: string | null;
  readonly stuck: number | null;
}

type Known = Map<string, { readonly until: number; readonly seconds: Promise<number | undefined> }>;

/** What is usual changes slowly, and takes milliseconds to read. */
const KEEP_MS = 300_000;
const MAX_KEPT = 2_000;
const known = new WeakMap<Reader, Known>();

/** The rows, with `stuck` as the API shows it. @throws {UnavailableError} as the reader. */
export async function withStuck<R extends Running>(
  reader: Reader,
  rows: readonly R[],
): Promise<(Omit<R, "stuck"> & { readonly stuck: boolean })[]> {
  const names = new Set(rows.flatMap(({ name, stuck }) => (stuck === null || name === null ? [] : [name])));
  const limits = await limitsOf(reader, [...names]);
  return rows.map((row) => ({ ...row, stuck: row.stuck !== null && row.stuck > (limits.get(row.name ?? "") ?? Infinity) }));
}

/** After how many seconds tasks of these names are stuck. Names of which too little is known have none. */
async function limitsOf(reader: Reader, names: readonly string[]): Promise<ReadonlyMap<string, number | undefined>> {
  const kept: Known = known.get(reader) ?? new Map();
  known.set(reader, kept);
  const now = performance.now();
  const missing = names.filter((name) => (kept.get(name)?.until ?? 0) <= now);
  if (missing.length > 0) {
    const read = reader.read<UsualRuntime>(usualRuntimesStatement(missing));
    const until = now + KEEP_MS;
    for (const name of missing) {
      const seconds = read.then((rows) => stuckAfterSeconds(rows.find((row) => row.name === name)?.histogram ?? null));
      kept.set(name, { until, seconds });
      seconds.catch(() => kept.delete(name));
    }
  }
  const limits = await Promise.all(names.map(async (name) => [name, await kept.get(name)?.seconds] as const));
  if (kept.size > MAX_KEPT) kept.clear();
  return new Map(limits);
}
