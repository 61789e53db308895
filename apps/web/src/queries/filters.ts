/** The filters of lists: how a client writes them, and what they are in SQL. */
import { type Reader, isLost, lostRows, storableText } from "@celery-metrics-exporter/db";
import { sql, type SQL } from "drizzle-orm";
import { z } from "zod";
import { PROBLEMS, STATUSES, TASK, type Status } from "./columns.ts";

const MAX_TEXT = 1_000;
const MAX_VALUES = 20;

/** Texts are stored without characters that PostgreSQL does not accept, so they are also looked for in that form. */
const text = z.string().min(1, "must not be empty").max(MAX_TEXT, `must have at most ${MAX_TEXT} characters`).transform(storableText);

/** A parameter that may be repeated. */
const texts = z
  .union([text, z.array(text).max(MAX_VALUES)], `must be at most ${MAX_VALUES} texts of 1 to ${MAX_TEXT} characters`)
  .transform((value) => [value].flat());

const statuses = z
  .string()
  .transform((value) => value.split(",").map((status) => status.trim().toUpperCase()))
  .pipe(z.array(z.enum(STATUSES, { error: `must be one or more of ${STATUSES.join(", ")}, separated by commas` })))
  .transform((value) => [...new Set(value)].sort());

const instant = z.iso.datetime({ offset: true, error: "must be a time with its zone, such as 2027-01-31T12:00:00Z" });
const atLeast = z.coerce.number({ error: "must be a number" }).min(0, "must be at least 0");

const RANGE = /^([1-9]\d{0,4})([mhd])$/;
const UNIT_MS = { m: 60_000, h: 3_600_000, d: 86_400_000 };

export const RangeQuery = z.object({
  range: z
    .string()
    .refine((value) => value === "all" || RANGE.test(value), "must be a number of minutes, hours or days, such as 30m, 24h or 7d, or all")
    .optional()
    .describe(
      "How far back: a number of minutes, hours or days, such as `30m`, `24h` or `7d`, or `all`. Default: `24h`. Not together with `from`.",
    ),
  from: instant.optional().describe("The beginning, included. Not later than `to`."),
  to: instant.optional().describe("The end, excluded. Default: now and later."),
});
export type RangeQuery = z.output<typeof RangeQuery>;

/** What only several parameters together tell: for `superRefine`. */
export function checkRange({ range, from, to }: Partial<RangeQuery>, context: z.RefinementCtx): void {
  const add = (field: string, message: string): void => context.addIssue({ code: "custom", path: [field], message });
  if (from !== undefined && range !== undefined) add("range", "must not be given together with from");
  if (from !== undefined && to !== undefined && Date.parse(from) > Date.parse(to)) add("from", "must not be later than to");
}

const STANDARD_RANGE = "24h";

/** The beginning of the range; null without one. */
export function beginningOf({ range = STANDARD_RANGE, from }: RangeQuery, now = Date.now()): string | null {
  if (from !== undefined) return new Date(from).toISOString();
  const [, count, unit] = RANGE.exec(range) ?? [];
  return unit === undefined ? null : new Date(now - Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS]).toISOString();
}

export const TaskFilters = RangeQuery.extend({
  status: statuses.optional().describe(`One or more of ${STATUSES.join(", ")}, separated by commas.`),
  name: texts.optional().describe("The task's name; `*` stands for any characters. May be repeated."),
  queue: texts.optional().describe("As `name`. May be repeated."),
  worker: texts.optional().describe("As `name`. May be repeated."),
  id: text.optional().describe("The task's id, or how it begins."),
  root: text.optional().describe("The id of the first task of the tree."),
  parent: text.optional().describe("The id of the task that sent it."),
  text: text
    .optional()
    .describe("Text in the name, the id, the queue, the worker, the arguments, the result or the exception, in upper or lower case."),
  exception: text.optional().describe("Text in the exception, in upper or lower case."),
  runtime_min: atLeast.optional().describe("Seconds."),
  wait_min: atLeast.optional().describe("Seconds of `wait_time`."),
  retries_min: atLeast.optional(),
  lost: z.literal("true", { error: "must be true" }).optional().describe("Only tasks that are lost: unfinished, and their worker is gone."),
});

const ARGUMENT = /^(?:kwargs\.(.+)|args\.(\d{1,4}))$/s;

/** One of the arguments that a task was called with. A type, because `withArguments` has it in its own type, which an interface would have to be exported for. */
type ArgumentFilter = {
  /** A position in `args`, or a name in `kwargs`. */
  readonly key: number | string;
  readonly value: string;
};

/** `TaskFilters`, with `kwargs.<name>` and `args.<position>`. Every other parameter is refused, so that a misspelt filter does not show all tasks. */
export function withArguments<S extends z.ZodRawShape>(schema: z.ZodObject<S>) {
  const known = new Set(Object.keys(schema.shape));
  return schema.catchall(z.unknown()).transform((given, context) => {
    const query: Record<string, unknown> = {};
    const argumentFilters: ArgumentFilter[] = [];
    for (const [name, value] of Object.entries(given)) {
      const [, keyword, position] = ARGUMENT.exec(name) ?? [];
      if (known.has(name)) query[name] = value;
      else if ((keyword ?? position) === undefined) context.addIssue({ code: "custom", path: [name], message: "is not a known parameter" });
      else if (typeof value !== "string" || value.length > MAX_TEXT) {
        context.addIssue({ code: "custom", path: [name], message: `must be given once, with at most ${MAX_TEXT} characters` });
      } else
        argumentFilters.push({ key: position === undefined ? storableText(keyword ?? "") : Number(position), value: storableText(value) });
    }
    if (argumentFilters.length > MAX_VALUES) {
      context.addIssue({ code: "custom", path: ["kwargs"], message: `must not be more than ${MAX_VALUES} filters` });
    }
    checkRange(query, context);
    return { ...(query as z.output<z.ZodObject<S>>), arguments: argumentFilters };
  });
}

/** What a list shows. */
export type Filters = z.output<typeof TaskFilters> & { readonly arguments: readonly ArgumentFilter[] };

/** The filters that depend on the data of tasks, which a viewer must not see, or find out by asking. */
export function filtersOnData({ exception, arguments: ofArguments }: Filters): string[] {
  return [
    ...(exception === undefined ? [] : ["exception"]),
    ...ofArguments.map(({ key }) => (typeof key === "number" ? `args.${key}` : `kwargs.${key}`)),
  ];
}

/** The filters in SQL. */
export interface Plan {
  /** Conditions that an index serves in the order of the list. A row that fits is in exactly one of them. */
  readonly branches: readonly SQL[];
  /** Other conditions. */
  readonly rest: readonly SQL[];
  /** Finds the statement that selects the only candidates, if there are at most `MAX_CANDIDATES`. */
  readonly candidates: ((reader: Reader) => Promise<SQL>) | undefined;
  /** Conditions of the candidates, if they are too many for a list. */
  readonly candidate: readonly SQL[];
  /** Whether all of them are RECEIVED or STARTED, and an index finds those quicker than the rest of the filters. */
  readonly areRunning: boolean;
}

export const MAX_CANDIDATES = 5_000;
/** Each branch is a search in an index. */
const MAX_BRANCHES = 20;

/** `runningRows` has all of these. */
const RUNNING: readonly Status[] = ["RECEIVED", "STARTED"];

const EVERYTHING = sql`true`;

/** @param withData false for a viewer, whose `text` is not looked for in the data of tasks. */
export function planOf(filters: Filters, withData: boolean): Plan {
  const wanted = filters.status ?? (filters.exception === undefined ? undefined : (["FAILURE", "RETRY"] satisfies Status[]));
  const problems = wanted?.every((status) => PROBLEMS.includes(status)) === true ? wanted : undefined;
  const names = filters.name?.every((name) => !name.includes("*")) === true ? [...new Set(filters.name)] : undefined;
  const isFew = (problems?.length ?? 1) * (names?.length ?? 1) <= MAX_BRANCHES;
  const branches = (isFew ? (problems ?? [undefined]) : [undefined]).flatMap((problem) =>
    (isFew ? (names ?? [undefined]) : [undefined]).map((name) =>
      all([...(problem === undefined ? [] : [sql`problem = ${problem}`]), ...(name === undefined ? [] : [sql`name = ${name}`])]),
    ),
  );
  const rest = [
    ...(wanted === undefined || (isFew && problems !== undefined) ? [] : [sql`status in ${wanted}`]),
    ...(filters.name === undefined || (isFew && names !== undefined) ? [] : [anyOf("name", filters.name)]),
    ...(["queue", "worker"] as const).flatMap((column) => {
      const values = filters[column];
      return values === undefined ? [] : [anyOf(column, values)];
    }),
    ...(filters.text === undefined ? [] : [textIn(withData ? [...TEXTS, ...DATA_TEXTS] : TEXTS, filters.text)]),
    ...(filters.exception === undefined ? [] : [textIn(["exception"], filters.exception)]),
    ...filters.arguments.map(argumentIs),
    ...(filters.runtime_min === undefined ? [] : [sql`runtime >= ${filters.runtime_min}`]),
    ...(filters.wait_min === undefined ? [] : [sql`wait_time >= ${filters.wait_min}`]),
    ...(filters.retries_min === undefined ? [] : [sql`retries >= ${filters.retries_min}`]),
  ];
  const ofTasks = candidatesOf(filters);
  // Without a worker, most of the newest running tasks fit, so that a list is soon full.
  const areRunning =
    filters.worker !== undefined && ofTasks.candidates === undefined && wanted?.every((status) => RUNNING.includes(status)) === true;
  return { branches, rest, ...ofTasks, areRunning };
}

/** A tree, an id and the lost tasks are few in most cases, and have indexes that are not in the order of the list. */
function candidatesOf({ id, root, parent, lost }: Filters): Pick<Plan, "candidates" | "candidate"> {
  const candidate = [
    ...(id === undefined ? [] : [sql`starts_with(task_id, ${id})`]),
    ...(root === undefined ? [] : [sql`(root_id = ${root} or task_id = ${root})`]),
    ...(parent === undefined ? [] : [sql`parent_id = ${parent}`]),
    ...(lost === undefined ? [] : [isLost({}, TASK)]),
  ];
  if (id !== undefined) {
    const ofId = sql`select * from ${TASK} where task_id >= ${id} and task_id < ${id + LAST_CHARACTER}`;
    return { candidate, candidates: async () => ofId };
  }
  if (root !== undefined) return { candidate, candidates: async () => ofTree(root) };
  if (parent !== undefined) return { candidate, candidates: async (reader) => ofTree((await rootOf(reader, parent)) ?? parent) };
  if (lost !== undefined) return { candidate, candidates: async () => lostRows() };
  return { candidate, candidates: undefined };
}

function ofTree(root: string): SQL {
  return sql`select * from ${TASK} where root_id = ${root} and root_id <> task_id union all select * from ${TASK} where task_id = ${root}`;
}

/** In the byte order of `task_id`, after every other character. */
const LAST_CHARACTER = "\u{10FFFF}";

/**
 * The first task of the tree that contains a task: `parent_id` has no index, but parent and child are in the same tree.
 *
 * @returns undefined if the task is unknown.
 */
export async function rootOf(reader: Reader, id: string): Promise<string | undefined> {
  const [row] = await reader.read<{ root: string }>(sql`select coalesce(root_id, task_id) as root from ${TASK} where task_id = ${id}`);
  return row?.root;
}

const TEXTS = ["name", "task_id", "queue", "worker"];
const DATA_TEXTS = ["args", "kwargs", "result", "exception"];

function textIn(columns: readonly string[], value: string): SQL {
  return any(columns.map((column) => sql`strpos(lower(${sql.identifier(column)}), lower(${value})) > 0`));
}

function anyOf(column: string, values: readonly string[]): SQL {
  return any(
    values.map((value) =>
      value.includes("*") ? sql`${sql.identifier(column)} like ${toLike(value)}` : sql`${sql.identifier(column)} = ${value}`,
    ),
  );
}

function toLike(pattern: string): string {
  return pattern.replace(/[\\%_]/g, "\\$&").replaceAll("*", "%");
}

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?$/;
/** As Python and as JSON write them. */
const WORDS: ReadonlyMap<string, string> = new Map([
  ["true", "true"],
  ["false", "false"],
  ["null", "null"],
  ["True", "true"],
  ["False", "false"],
  ["None", "null"],
]);

/** A number or a word may also be the text that looks like it: a client cannot say which. Keeps all digits of a number. */
function argumentIs({ key, value }: ArgumentFilter): SQL {
  const word = NUMBER.test(value) ? value : WORDS.get(value);
  const forms = [JSON.stringify(value), ...(word === undefined ? [] : [word])];
  return any(
    forms.map((form) =>
      typeof key === "number"
        ? sql`args_json -> ${key}::int = ${form}::jsonb`
        : sql`kwargs_json @> ${`{${JSON.stringify(key)}:${form}}`}::jsonb`,
    ),
  );
}

function any(conditions: readonly SQL[]): SQL {
  return sql`(${sql.join([...conditions], sql` or `)})`;
}

export function all(conditions: readonly SQL[]): SQL {
  return conditions.length === 0 ? EVERYTHING : sql.join([...conditions], sql` and `);
}
