/** Lists tasks, newest first: by an index where one serves the filters, otherwise by searching back in time, slice by slice. */
import { TimedOutError } from "@celery-metrics-exporter/runtime";
import { runningRows, type Reader } from "@celery-metrics-exporter/db";
import { sql, type SQL } from "drizzle-orm";
import type { z } from "zod";
import { TASK, TaskItem, isoOf, selectList } from "./columns.ts";
import type { Place } from "./cursor.ts";
import { MAX_CANDIDATES, all, type Plan } from "./filters.ts";
import { withStuck, type Running } from "./stuck.ts";

export interface ListOptions {
  readonly plan: Plan;
  /** The beginning of the range, included; null without one. */
  readonly from: string | null;
  /** The end of the range, excluded. */
  readonly to: string | undefined;
  /** Where the previous page ended. */
  readonly after: Place | undefined;
  readonly limit: number;
  /** False for a viewer. */
  readonly withData: boolean;
  /** Ends a search after the current slice. Default: 300 ms. */
  readonly budgetMs?: number;
  /** The columns to read, which must include `task_id` and `seen_at`. Default: those of lists. */
  readonly columns?: z.ZodObject;
}

export interface Page {
  readonly items: readonly TaskItem[];
  /** Where the next page begins; undefined at the end. */
  readonly next: Place | undefined;
  /** Everything that is not older than this was searched; null if everything was. */
  readonly searchedTo: string | null;
}

const BUDGET_MS = 300;
const FIRST_SLICE_MS = 15 * 60_000;
const SHORTEST_SLICE_MS = 1_000;
const SLICE_TIMEOUT_MS = 1_000;
/** When a search gives up although a slice was too slow to be read even once. */
const PATIENCE_MS = 1_200;

/** Whether a plan needs a search, which may read many rows for few. */
export function isSearch({ rest, candidates }: Plan): boolean {
  return rest.length > 0 || candidates !== undefined;
}

/** @throws {UnavailableError} as the reader. */
export async function listTasks(reader: Reader, options: ListOptions): Promise<Page> {
  const { items, ...page } = await listRows(reader, options);
  return { ...page, items: await withStuck(reader, items) };
}

async function listRows(reader: Reader, options: ListOptions): Promise<Rows> {
  const { plan, after, from, to } = options;
  const source = plan.candidates === undefined ? undefined : await fewCandidates(reader, await plan.candidates(reader));
  const list = new List(reader, options, source);
  const upper = after ?? (to === undefined ? undefined : { seenAt: to, taskId: "" });
  if (source !== undefined || !isSearch(plan)) return list.whole(upper, from);
  return list.search(upper, from ?? undefined);
}

/** The candidates as a table; undefined if there are too many. */
async function fewCandidates(reader: Reader, candidates: SQL): Promise<SQL | undefined> {
  const [counted] = await reader.read<{ n: number }>(
    sql`select count(*)::int as n from (select 1 from (${candidates}) candidate limit ${MAX_CANDIDATES + 1}) counted`,
  );
  return (counted?.n ?? 0) > MAX_CANDIDATES ? undefined : candidates;
}

/** A row of a list, as it is read. */
export type Row = Omit<TaskItem, "stuck"> & Running;
type Rows = Omit<Page, "items"> & { readonly items: readonly Row[] };

class List {
  readonly #reader: Reader;
  readonly #options: ListOptions;
  /** The few rows that can be in the list, if they are known. */
  readonly #source: SQL | undefined;

  constructor(reader: Reader, options: ListOptions, source: SQL | undefined) {
    this.#reader = reader;
    this.#options = options;
    this.#source = source;
  }

  async whole(upper: Place | undefined, from: string | null): Promise<Rows> {
    const { limit } = this.#options;
    const rows = await this.#read(upper, from ?? undefined, limit + 1);
    return rows.length > limit ? this.#full(rows) : { items: rows, next: undefined, searchedTo: from };
  }

  async search(upper: Place | undefined, from: string | undefined): Promise<Rows> {
    const { limit, budgetMs = BUDGET_MS } = this.#options;
    const startedAt = performance.now();
    const floor = from ?? (await this.#oldest());
    if (floor === undefined) return { items: [], next: undefined, searchedTo: null };
    const floorMs = Date.parse(floor);
    const rows: Row[] = [];
    let below = upper;
    let widthMs = FIRST_SLICE_MS;
    for (;;) {
      const topMs = below === undefined ? Date.now() : Date.parse(below.seenAt);
      const bottom: string = topMs - widthMs <= floorMs ? floor : new Date(topMs - widthMs).toISOString();
      const sliceAt = performance.now();
      const found = await this.#slice(below, bottom, limit + 1 - rows.length);
      const now = performance.now();
      if (found === undefined) {
        widthMs = Math.max(widthMs / 8, SHORTEST_SLICE_MS);
        if (now - startedAt < PATIENCE_MS && widthMs > SHORTEST_SLICE_MS) continue;
        const reached = below ?? { seenAt: new Date(topMs).toISOString(), taskId: "" };
        return { items: rows, next: reached, searchedTo: reached.seenAt };
      }
      rows.push(...found);
      if (rows.length > limit) return this.#full(rows);
      if (bottom === floor) return { items: rows, next: undefined, searchedTo: from ?? null };
      below = { seenAt: bottom, taskId: "" };
      if (now - startedAt >= budgetMs) return { items: rows, next: below, searchedTo: bottom };
      // The next slice should end within the budget.
      widthMs *= Math.min(2, Math.max(0.125, (budgetMs - (now - startedAt)) / (now - sliceAt)));
    }
  }

  /** Undefined if it takes too long. */
  async #slice(upper: Place | undefined, from: string, limit: number): Promise<readonly Row[] | undefined> {
    try {
      return await this.#read(upper, from, limit, SLICE_TIMEOUT_MS);
    } catch (thrown) {
      if (thrown instanceof TimedOutError) return undefined;
      throw thrown;
    }
  }

  async #oldest(): Promise<string | undefined> {
    const [row] = await this.#reader.read<{ at: string | null }>(sql`select ${isoOf(sql`min(seen_at)`)} as at from ${TASK}`);
    return row?.at ?? undefined;
  }

  /** One row more than the page has shows that there is a next page. */
  #full(rows: readonly Row[]): Rows {
    const items = rows.slice(0, this.#options.limit);
    const last = items.at(-1);
    if (last === undefined) throw new Error("a full page has no rows");
    return { items, next: { seenAt: last.seen_at, taskId: last.task_id }, searchedTo: last.seen_at };
  }

  async #read(upper: Place | undefined, from: string | undefined, limit: number, timeoutMs?: number): Promise<readonly Row[]> {
    const { plan, withData, columns = TaskItem } = this.#options;
    const running = plan.areRunning && from !== undefined ? runningRows(from, upper?.seenAt) : undefined;
    const few = this.#source ?? running;
    const source = few === undefined ? TASK : sql`(with candidate as materialized (${few}) select * from candidate) celery_task`;
    const common = [
      ...(from === undefined ? [] : [sql`seen_at >= ${from}`]),
      ...(upper === undefined ? [] : [sql`(seen_at, task_id) < (${upper.seenAt}, ${upper.taskId})`]),
      ...plan.rest,
      ...plan.candidate,
    ];
    const list = await selectList(this.#reader, columns, withData);
    const order = sql`order by seen_at desc, task_id desc limit ${limit}`;
    const [first = sql`true`, ...others] = plan.branches;
    const branch = (condition: SQL): SQL => sql`select * from ${source} where ${all([condition, ...common])} ${order}`;
    const rows =
      others.length === 0
        ? branch(first)
        : sql.join(
            [first, ...others].map((each) => sql`(${branch(each)})`),
            sql` union all `,
          );
    return this.#reader.read<Row>(
      sql`select ${list} from (${rows}) celery_task order by celery_task.seen_at desc, celery_task.task_id desc limit ${limit}`,
      timeoutMs,
    );
  }
}

/** The largest number that a count distinguishes from "more". */
export const MAX_COUNT = 10_000;

/**
 * The number of tasks, up to `MAX_COUNT` + 1, which means more.
 *
 * @returns undefined if counting takes too long.
 */
export async function countTasks(
  reader: Reader,
  { plan, from, to }: Pick<ListOptions, "plan" | "from" | "to">,
): Promise<number | undefined> {
  const common = [
    ...(from === null ? [] : [sql`seen_at >= ${from}`]),
    ...(to === undefined ? [] : [sql`seen_at < ${to}`]),
    ...plan.rest,
    ...plan.candidate,
  ];
  const found = plan.branches.map((condition) => sql`(select 1 from ${TASK} where ${all([condition, ...common])} limit ${MAX_COUNT + 1})`);
  try {
    const [row] = await reader.read<{ n: number }>(
      sql`select count(*)::int as n from (select 1 from (${sql.join(found, sql` union all `)}) found limit ${MAX_COUNT + 1}) counted`,
      SLICE_TIMEOUT_MS,
    );
    return row?.n ?? 0;
  } catch (thrown) {
    if (thrown instanceof TimedOutError) return undefined;
    throw thrown;
  }
}
