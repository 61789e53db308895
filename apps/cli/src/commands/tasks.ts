/** `tasks` and `task`: what the HTTP API answers, as tables for a terminal. */
import { UsageError, type Command, type CommandOption, type Invocation } from "../command.ts";
import { EMBEDDED_DATABASE_URL } from "../defaults/database.ts";
import { withDecidedDefaults } from "../defaults/shown-defaults.ts";
import { groupSettings } from "../settings.ts";
import { printableJson } from "../tasks/printable.ts";
import { showTask, showTasks, widthOf, type Answered } from "../tasks/show.ts";
import { API_OPTION, Config, withSource, type Ask } from "../tasks/source.ts";

const SOURCE_NOTE =
  `Asks the database (DATABASE_READ_URL or DATABASE_URL; without either, the embedded PostgreSQL in ${EMBEDDED_DATABASE_URL.slice("pglite:".length)}, ` +
  "even while `start` is running) or, with --api, a running HTTP API. Control characters are shown as escapes such as \\x1b.";

const JSON_OPTION: CommandOption = { name: "json", description: "Write each task as a line of JSON." };
const DEFAULT_LIMIT = 20;
const MAX_LIMIT = 100_000;
const PAGE = 200;

/** Options that are filters of the API under the same name, or under another one. */
const FILTERS: readonly (CommandOption & { readonly parameter?: string })[] = [
  { name: "status", value: "STATUS", description: "One or more of Celery's statuses, separated by commas, such as failure,retry." },
  { name: "name", value: "NAME", description: "The task's name; * stands for any characters: 'shop.*'." },
  { name: "queue", value: "QUEUE", description: "Celery's queue, as --name." },
  { name: "worker", value: "WORKER", description: "The worker of the latest event, as --name." },
  { name: "text", value: "TEXT", description: "Text in the name, id, queue, worker, arguments, result or exception." },
  { name: "exception", value: "TEXT", description: "Text in the exception." },
  { name: "id", value: "ID", description: "The task's id, or how it begins." },
  { name: "root", value: "ID", description: "The tasks of the tree that begins with this one." },
  { name: "parent", value: "ID", description: "The tasks that this one sent." },
  { name: "runtime-min", value: "SECONDS", parameter: "runtime_min", description: "At least this run time." },
  { name: "wait-min", value: "SECONDS", parameter: "wait_min", description: "At least this time from sending to the first start." },
  { name: "retries-min", value: "NUMBER", parameter: "retries_min", description: "At least so many retries." },
  { name: "until", value: "TIME", parameter: "to", description: "Only tasks first seen before this time, such as 2027-01-31T12:00:00Z." },
];

export const tasks: Command = {
  name: "tasks",
  summary: "List tasks, newest first: by status, name, queue, text, …",
  description: `Lists tasks, newest first. ${SOURCE_NOTE}`,
  options: [
    ...FILTERS,
    { name: "lost", description: "Only unfinished tasks whose worker is gone." },
    {
      name: "since",
      value: "TIME",
      description: "How far back: 30m, 24h, 7d, all, or a time such as 2027-01-31T12:00:00Z. Default: 24h.",
    },
    { name: "limit", value: "NUMBER", description: `The most tasks to list. Default: ${DEFAULT_LIMIT}.` },
    JSON_OPTION,
    API_OPTION,
  ],
  settings: withDecidedDefaults(groupSettings([{ name: "tasks", Config }])),
  async run({ options, env, environment, terminal }) {
    const limit = limitOf(options);
    const query = queryOf(options);
    const list = async (ask: Ask): Promise<void> => {
      const rows: Answered[] = [];
      let count = 0;
      let more = false;
      for await (const { items, hasMore } of pages(ask, query, limit)) {
        count += items.length;
        more = hasMore;
        if (options.has("json")) terminal.write(items.map((item) => `${printableJson(JSON.stringify(item))}\n`).join(""));
        else rows.push(...items);
      }
      if (options.has("json")) return;
      const counted = `(${count.toLocaleString("en-US")} ${count === 1 ? "task" : "tasks"}${more ? "; --limit shows more" : ""})\n`;
      terminal.write(`${rows.length === 0 ? "" : showTasks(rows, widthOf(terminal))}${counted}`);
    };
    await withSource({ api: options.get("api"), env, environment }, list).catch((thrown: unknown) => {
      throw thrown instanceof UsageError ? new UsageError(withOptions(thrown.message)) : thrown;
    });
  },
};

export const task: Command = {
  name: "task",
  summary: "Show one task: its fields, attempts, events, children and traceback.",
  description: `Shows one task with everything that is known about it. ${SOURCE_NOTE}`,
  argument: "id",
  options: [{ ...JSON_OPTION, description: "Write the API's answer as a line of JSON." }, API_OPTION],
  settings: withDecidedDefaults(groupSettings([{ name: "task", Config }])),
  async run({ argument: id, options, env, environment, terminal }) {
    if (id === undefined || id === "") throw new UsageError("The id of a task is required.");
    await withSource({ api: options.get("api"), env, environment }, async (ask) => {
      const route = `tasks/${encodeURIComponent(id)}`;
      const answer = await ask(route);
      if (options.has("json")) return terminal.write(`${printableJson(answer)}\n`);
      const events = await ask(`${route}/events`);
      terminal.write(showTask(JSON.parse(answer) as Answered, JSON.parse(events) as Answered, widthOf(terminal)));
    });
  },
};

type Options = Invocation["options"];

function limitOf(options: Options): number {
  const limit = Number(options.get("limit") ?? DEFAULT_LIMIT);
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
    throw new UsageError(`--limit must be a whole number from 1 to ${MAX_LIMIT.toLocaleString("en-US")}.`);
  }
  return limit;
}

function queryOf(options: Options): URLSearchParams {
  const query = new URLSearchParams();
  for (const { name, parameter = name } of FILTERS) {
    const value = options.get(name);
    if (value !== undefined) query.set(parameter, value);
  }
  if (options.has("lost")) query.set("lost", "true");
  const since = options.get("since");
  if (since !== undefined) query.set(/^\d{4}-/.test(since) ? "from" : "range", since);
  return query;
}

/** The API names its parameters, and the user knows options. */
function withOptions(message: string): string {
  return message.replace(/^The parameter "(\w+)"/, (all, parameter: string) => {
    if (parameter === "range" || parameter === "from") return "--since";
    const option = FILTERS.find(({ name, parameter: own = name }) => own === parameter);
    return option === undefined ? all : `--${option.name}`;
  });
}

interface Page {
  readonly items: readonly Answered[];
  /** Whether tasks are left beyond the limit. */
  readonly hasMore: boolean;
}

/** A search answers with what it found within its time, so a page may be short or empty although more follow. */
async function* pages(ask: Ask, query: URLSearchParams, limit: number): AsyncGenerator<Page> {
  let left = limit;
  for (let cursor: string | null = ""; cursor !== null && left > 0;) {
    const asked = new URLSearchParams(query);
    asked.set("limit", String(Math.min(left, PAGE)));
    if (cursor !== "") asked.set("cursor", cursor);
    const page = JSON.parse(await ask("tasks", asked)) as { readonly items: readonly Answered[]; readonly next: string | null };
    left -= page.items.length;
    cursor = page.next;
    yield { items: page.items, hasMore: cursor !== null };
  }
}
