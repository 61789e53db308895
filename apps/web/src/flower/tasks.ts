/** Tasks in the shape of Flower's API. */
import { refusal } from "@celery-metrics-exporter/access";
import { storableText, type Reader } from "@celery-metrics-exporter/db";
import { sql, type SQL } from "drizzle-orm";
import { maySeeData, type User } from "../access/user.ts";
import { STATUSES, TASK, TaskDetail, selectList, type Status } from "../queries/columns.ts";
import { planOf, type Filters, type Plan } from "../queries/filters.ts";
import type { ApiContext } from "../routes/api.ts";
import { runList } from "../routes/list.ts";

/** The newest tasks that match, as Flower's `max_tasks`: what is sorted, and how far one may skip. */
const MAX_TASKS = 5_000;
export const MAX_LIMIT = 1_000;
/** How long a search goes on. */
const BUDGET_MS = 1_500;
/** Lists are in the order in which tasks were first seen, which may be long before they were received. */
const LONGEST_QUEUE_MS = 86_400_000;

const Columns = TaskDetail.pick({
  task_id: true,
  name: true,
  queue: true,
  status: true,
  worker: true,
  args: true,
  kwargs: true,
  result: true,
  exception: true,
  traceback: true,
  retries: true,
  root_id: true,
  parent_id: true,
  eta: true,
  expires: true,
  sent_at: true,
  received_at: true,
  run_started_at: true,
  finished_at: true,
  last_event_at: true,
  runtime: true,
});
type Row = Pick<TaskDetail, keyof typeof Columns.shape>;

/** What is needed to sort a task. */
const SortColumns = TaskDetail.pick({ task_id: true, seen_at: true, name: true, status: true, received_at: true, run_started_at: true });
type SortRow = Pick<TaskDetail, keyof typeof SortColumns.shape>;

/** Celery's `Task.as_dict()`. Times are seconds since 1970. */
export interface FlowerTask {
  readonly uuid: string;
  readonly name: string | null;
  readonly state: string;
  readonly received: number | null;
  readonly sent: number | null;
  readonly started: number | null;
  readonly rejected: number | null;
  readonly succeeded: number | null;
  readonly failed: number | null;
  readonly retried: number | null;
  readonly revoked: number | null;
  readonly args: string | null;
  readonly kwargs: string | null;
  readonly eta: string | null;
  readonly expires: string | null;
  readonly retries: number | null;
  readonly worker: string | null;
  readonly result: string | null;
  readonly exception: string | null;
  readonly timestamp: number | null;
  readonly runtime: number | null;
  readonly traceback: string | null;
  readonly exchange: null;
  readonly routing_key: string | null;
  readonly clock: null;
  readonly client: null;
  readonly root: string | null;
  readonly root_id: string | null;
  readonly parent: string | null;
  readonly parent_id: string | null;
  readonly children: readonly string[];
}

/** Seconds since 1970, with microseconds. */
export function toSeconds(instant: string | null): number | null {
  if (instant === null) return null;
  return Date.parse(`${instant.slice(0, 19)}Z`) / 1_000 + Number(`0${instant.slice(19, -1)}`);
}

export function toFlowerTask(row: Row, children: readonly string[]): FlowerTask {
  const at = (...statuses: readonly Status[]): number | null =>
    statuses.includes(row.status) ? toSeconds(row.finished_at ?? row.last_event_at) : null;
  return {
    uuid: row.task_id,
    name: row.name,
    state: row.status,
    received: toSeconds(row.received_at),
    sent: toSeconds(row.sent_at),
    started: toSeconds(row.run_started_at),
    rejected: at("REJECTED"),
    succeeded: at("SUCCESS"),
    failed: at("FAILURE"),
    retried: at("RETRY"),
    revoked: at("REVOKED"),
    args: row.args,
    kwargs: row.kwargs,
    eta: row.eta,
    expires: row.expires,
    retries: row.retries,
    worker: row.worker,
    result: row.result,
    exception: row.exception,
    timestamp: toSeconds(row.last_event_at),
    runtime: row.runtime,
    traceback: row.traceback,
    exchange: null,
    routing_key: row.queue,
    clock: null,
    client: null,
    root: row.root_id,
    root_id: row.root_id,
    parent: row.parent_id,
    parent_id: row.parent_id,
    children,
  };
}

const SORT_KEYS = {
  name: (row: SortRow) => row.name ?? "",
  state: (row: SortRow) => row.status,
  received: (row: SortRow) => row.received_at ?? "",
  started: (row: SortRow) => row.run_started_at ?? "",
};

export interface TaskQuery {
  /** Default: as many as are allowed. */
  readonly limit: number | undefined;
  readonly offset: number;
  readonly sortBy: string | undefined;
  readonly worker: string | undefined;
  readonly name: string | undefined;
  readonly states: readonly string[] | undefined;
  /** Milliseconds since 1970. */
  readonly receivedStart: number | undefined;
  readonly receivedEnd: number | undefined;
  readonly search: string | undefined;
}

export interface FlowerTasks {
  readonly tasks: readonly FlowerTask[];
  /** Tasks that are not older than this were all searched; null if all were. */
  readonly searchedTo: string | null;
}

/** @throws {Error} with the status 400 or 403, and a sentence. */
export async function listFlowerTasks(context: ApiContext, query: TaskQuery, user: User): Promise<FlowerTasks> {
  const { offset, sortBy, receivedStart } = query;
  const limit = query.limit ?? Math.min(MAX_LIMIT, MAX_TASKS - offset);
  if (limit <= 0 || offset + limit > MAX_TASKS)
    throw refusal(400, `Only the newest ${MAX_TASKS} tasks that match are listed: offset and limit reach beyond.`);
  const compare = toOrder(sortBy);
  const withData = maySeeData(user);
  const plan = toPlan(query, withData);
  if (plan === undefined) return { tasks: [], searchedTo: null };
  const page = await runList(context, {
    plan,
    from: receivedStart === undefined ? null : new Date(receivedStart - LONGEST_QUEUE_MS).toISOString(),
    to: undefined,
    after: undefined,
    limit: compare === undefined ? offset + limit : MAX_TASKS,
    withData: false,
    budgetMs: BUDGET_MS,
    columns: SortColumns,
  });
  const found = page.items as unknown as SortRow[];
  const sorted = compare === undefined ? found : found.toSorted(compare);
  const tasks = await readTasks(
    context.reader,
    sorted.slice(offset, offset + limit).map(({ task_id }) => task_id),
    withData,
  );
  const isWhole = page.next === undefined || found.length >= offset + limit;
  return { tasks, searchedTo: isWhole ? null : page.searchedTo };
}

function toOrder(sortBy: string | undefined): ((one: SortRow, other: SortRow) => number) | undefined {
  if (sortBy === undefined) return undefined;
  const isDescending = sortBy.startsWith("-");
  const name = isDescending ? sortBy.slice(1) : sortBy;
  if (!Object.hasOwn(SORT_KEYS, name)) throw refusal(400, "sort_by must be name, state, received or started, with - for descending.");
  const keyOf = SORT_KEYS[name as keyof typeof SORT_KEYS];
  const sign = isDescending ? -1 : 1;
  return (one, other) => {
    const [first, second] = [keyOf(one), keyOf(other)];
    return first === second ? 0 : first < second ? -sign : sign;
  };
}

async function readTasks(reader: Reader, ids: readonly string[], withData: boolean): Promise<FlowerTask[]> {
  if (ids.length === 0) return [];
  const rows = await reader.read<Row>(sql`select ${await selectList(reader, Columns, withData)} from ${TASK} where task_id in ${ids}`);
  const byId = new Map(rows.map((row) => [row.task_id, row]));
  // A task may have been deleted meanwhile.
  return ids.flatMap((id) => byId.get(id) ?? []).map((row) => toFlowerTask(row, []));
}

/** Undefined if no task can match. */
function toPlan(query: TaskQuery, withData: boolean): Plan | undefined {
  const { worker, name, receivedStart, receivedEnd } = query;
  const search = searchOf(query.search, withData);
  // Flower answers an unknown state with no tasks.
  const states = STATUSES.filter((status) => [query.states, search.states].every((wanted) => wanted?.includes(status) !== false));
  if (states.length === 0) return undefined;
  const filters: Filters = {
    range: "all",
    arguments: [],
    ...(name !== undefined && { name: [storableText(name)] }),
    ...(states.length < STATUSES.length && { status: states }),
  };
  const plan = planOf(filters, withData);
  // As in Flower, a task that no worker has received matches every worker and every time.
  const more = [
    ...(worker === undefined ? [] : [sql`(worker is null or worker = ${storableText(worker)})`]),
    ...(receivedStart === undefined ? [] : [sql`(received_at is null or received_at >= ${new Date(receivedStart).toISOString()})`]),
    ...(receivedEnd === undefined ? [] : [sql`(received_at is null or received_at <= ${new Date(receivedEnd).toISOString()})`]),
    ...search.conditions,
  ];
  return { ...plan, rest: [...plan.rest, ...more] };
}

/** Words and quoted texts, as Flower splits them. */
const TERM = /(?:[^\s,"]|"(?:\\.|[^"])*")+/g;
const MAX_TERMS = 20;
const FIELDS: Readonly<Record<string, string>> = { result: "result", args: "args", name: "name", uuid: "task_id", worker: "worker" };
const DATA: readonly string[] = ["args", "kwargs", "result"];

/** Every term must match. */
function searchOf(
  search: string | undefined,
  withData: boolean,
): { readonly conditions: readonly SQL[]; readonly states: readonly string[] | undefined } {
  const terms = search?.match(TERM) ?? [];
  if (terms.length > MAX_TERMS) throw refusal(400, `search must have at most ${MAX_TERMS} words.`);
  const conditions: SQL[] = [];
  const states: string[] = [];
  for (const term of terms) {
    const [, field = "", rest = term] = /^(result|args|kwargs|state|name|uuid|worker):(.*)$/s.exec(term) ?? [];
    if (!withData && DATA.includes(field)) throw refusal(403, "A viewer may not search in the data of tasks.");
    if (field === "" && /^(AND|OR|NOT)$|[()]/.test(term) && !term.includes('"')) {
      throw refusal(400, "search has no AND, OR, NOT and parentheses here: every word must match. Put text with parentheses in quotes.");
    }
    const value = storableText(rest.replaceAll('"', "").trim());
    const column = FIELDS[field];
    if (field === "state") states.push(value.toUpperCase());
    else if (field === "kwargs") conditions.push(keywordIs(value));
    else if (column !== undefined) conditions.push(sql`strpos(${sql.identifier(column)}, ${value}) > 0`);
    else conditions.push(anywhere(value, withData));
  }
  return { conditions, states: states.length === 0 ? undefined : states };
}

function anywhere(value: string, withData: boolean): SQL {
  const columns = ["name", "task_id", "status", "worker", ...(withData ? ["args", "kwargs", "result"] : [])];
  return sql`(${sql.join(
    columns.map((column) => sql`strpos(${sql.identifier(column)}, ${value}) > 0`),
    sql` or `,
  )})`;
}

/** Flower looks in the text of the arguments, and so do we: `user=5` is `'user': 5` or `'user': '5'`. */
function keywordIs(term: string): SQL {
  const [key = "", value, ...rest] = term.split("=");
  if (value === undefined || rest.length > 0) throw refusal(400, "search needs kwargs:name=value.");
  const begins = `'${key.trim()}': `;
  const forms = [value.trim(), `'${value.trim()}'`, `"${value.trim()}"`].flatMap((form) => [`${begins}${form},`, `${begins}${form}}`]);
  return sql`(${sql.join(
    forms.map((form) => sql`strpos(kwargs, ${form}) > 0`),
    sql` or `,
  )})`;
}
