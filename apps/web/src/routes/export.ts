/** Exports of a list: every row, as it is read. */
import { Readable } from "node:stream";
import { z } from "zod";
import { maySeeData, type User } from "../access/user.ts";
import { TaskDetail, type TaskItem } from "../queries/columns.ts";
import type { Place } from "../queries/cursor.ts";
import { ExactJson, stringify } from "../queries/exact-json.ts";
import type { Filters } from "../queries/filters.ts";
import { listTasks } from "../queries/list-tasks.ts";
import { PREFIX, type Api, type ApiContext } from "./api.ts";
import { FilterQuery, toListOptions } from "./list.ts";
import { PROBLEMS } from "./problem.ts";

const ROWS_AT_A_TIME = 500;
/** Longer than for a list: nobody looks at the rows one by one. */
const BUDGET_MS = 2_000;
const COLUMNS = Object.keys(TaskDetail.shape);

type Row = TaskItem & Readonly<Record<string, unknown>>;

interface Format {
  readonly type: string;
  readonly head: string;
  readonly line: (row: Row) => string;
}

const FORMATS: Readonly<Record<"ndjson" | "csv", Format>> = {
  ndjson: {
    type: "application/x-ndjson; charset=utf-8",
    head: "",
    line: (row) => `${stringify({ ...row, args_json: exact(row["args_json"]), kwargs_json: exact(row["kwargs_json"]) })}\n`,
  },
  csv: {
    type: "text/csv; charset=utf-8; header=present",
    head: `${COLUMNS.join(",")}\r\n`,
    line: (row) => `${COLUMNS.map((column) => toCell(row[column])).join(",")}\r\n`,
  },
};

function exact(json: unknown): unknown {
  return typeof json === "string" ? new ExactJson(json) : null;
}

/** A spreadsheet would run a text that begins like a formula, so an apostrophe is put before it. */
function toCell(value: unknown): string {
  if (typeof value === "number") return String(value);
  if (typeof value !== "string") return "";
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function addExports(api: Api, context: ApiContext): void {
  for (const [name, format] of Object.entries(FORMATS)) {
    api.get(
      `${PREFIX}/tasks.${name}`,
      {
        config: { role: "viewer", streams: true },
        schema: {
          operationId: `exportTasks${name === "csv" ? "Csv" : "Ndjson"}`,
          summary: `Exports tasks as ${name.toUpperCase()}, newest first`,
          description: "The filters of `/tasks`, without pages. If the last line is incomplete, the export was cut off.",
          querystring: FilterQuery,
          response: {
            200: { description: "One task a line.", content: { [format.type.split(";", 1)[0] ?? ""]: { schema: z.string() } } },
            ...PROBLEMS,
          },
        },
      },
      async ({ query, user }, reply) => {
        // Refuses wrong filters before the answer begins.
        toListOptions(query, user);
        const giveBack = await context.exports.take();
        const lines = Readable.from(linesOf(context, query, user, format), { objectMode: false, highWaterMark: 64 * 1_024 });
        lines.once("close", giveBack);
        lines.once("error", (error) => context.logger.warn({ err: error }, "an export was cut off"));
        return reply
          .type(format.type)
          .header("content-disposition", `attachment; filename="tasks.${name}"`)
          .send(lines as unknown as string);
      },
    );
  }
}

/** Reads on only when the client has taken what was read. */
async function* linesOf({ reader }: ApiContext, filters: Filters, user: User, { head, line }: Format): AsyncGenerator<string> {
  const options = {
    ...toListOptions(filters, user),
    limit: ROWS_AT_A_TIME,
    budgetMs: BUDGET_MS,
    columns: TaskDetail,
    withData: maySeeData(user),
  };
  let after: Place | undefined;
  if (head !== "") yield head;
  do {
    const { items, next } = await listTasks(reader, { ...options, after });
    if (items.length > 0) yield (items as readonly Row[]).map(line).join("");
    after = next;
  } while (after !== undefined);
}
