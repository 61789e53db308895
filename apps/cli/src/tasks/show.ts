/** Formats tasks for a terminal. */
import type { Terminal } from "../terminal.ts";
import { clip, renderColumns } from "../report/columns.ts";
import { printable, printableLines } from "./printable.ts";

/** What the API answers. Fields that an older or newer release lacks are absent. */
export type Answered = Readonly<Record<string, unknown>>;

type Width = number | undefined;

/** The width at which lines are cut; undefined if the output is not a terminal. */
export function widthOf({ isInteractive, columns }: Terminal): Width {
  return isInteractive ? columns : undefined;
}

/** One line per task. The id comes first and is never cut, because people copy it. */
export function showTasks(items: readonly Answered[], width: Width): string {
  const rows = items.map((task) => [
    cell(task["task_id"]),
    cell(task["name"]),
    statusOf(task),
    cell(task["queue"]),
    cell(task["worker"]),
    timeOf(task["seen_at"]),
    secondsOf(task["duration"]),
    cell(task["exception"]),
  ]);
  return linesOf([["task_id", "name", "status", "queue", "worker", "seen_at", "duration", "exception"], ...rows], width, new Set([6]));
}

const FIELDS = [
  "name",
  "queue",
  "worker",
  "args",
  "kwargs",
  "result",
  "exception",
  "revoked_by",
  "retries",
  "root_id",
  "parent_id",
  "eta",
  "expires",
  "sent_at",
  "received_at",
  "started_at",
  "finished_at",
] as const;

/** Everything about one task: fields, attempts, events, children, traceback. */
export function showTask(task: Answered, events: Answered, width: Width): string {
  const known = (name: string): boolean => task[name] !== null && task[name] !== undefined && task[name] !== "";
  const fields = [
    ["task_id", cell(task["task_id"])],
    ["status", statusOf(task)],
    ...FIELDS.filter(known).map((name) => [name, name.endsWith("_at") || name.startsWith("e") ? orTime(task[name]) : cell(task[name])]),
    ...["wait_time", "duration"].filter(known).map((name) => [name, `${secondsOf(task[name])} s`]),
  ];
  const attempts = listOf(task["attempts"]).map((attempt) => [
    cell(attempt["number"]),
    cell(attempt["outcome"]),
    cell(attempt["worker"]),
    cell(attempt["queue"]),
    ...["received_at", "started_at", "ended_at"].map((name) => timeOf(attempt[name])),
    cell(attempt["exception"]),
  ]);
  const happened = listOf(events["items"]).map((event) => [
    timeOf(event["at"]),
    cell(event["type"]),
    cell(event["hostname"]),
    cell(event["exception"] ?? event["revoked_by"]),
  ]);
  const children = listOf(task["children"]).map((child) => [cell(child["task_id"]), cell(child["name"]), cell(child["status"])]);
  const { traceback } = task;
  return [
    renderColumns(fields)
      .map((line) => `${clip(line, width)}\n`)
      .join(""),
    section("Attempts", ["#", "outcome", "worker", "queue", "received_at", "started_at", "ended_at", "exception"], attempts, width),
    section("Stored events", ["at", "type", "hostname", "exception"], happened, width),
    events["history"] === "all" || events["items"] === undefined ? "" : missingEvents(happened.length > 0),
    section("Children", ["task_id", "name", "status"], children, width),
    typeof traceback === "string" ? `\nTraceback\n${printableLines(traceback).join("\n")}\n` : "",
  ].join("");
}

/** Short lines, for a narrow terminal. */
function missingEvents(hasSome: boolean): string {
  const which = hasSome ? "Others are" : "\nIts events are";
  return `${which} not stored: POSTGRES_HISTORY=unusual keeps\nonly events that the fields do not show.\n`;
}

function section(title: string, header: readonly string[], rows: readonly (readonly string[])[], width: Width): string {
  return rows.length === 0 ? "" : `\n${title}\n${linesOf([header, ...rows], width)}`;
}

function linesOf(rows: readonly (readonly string[])[], width: Width, right?: ReadonlySet<number>): string {
  const fitting = width === undefined ? rows : fitted(rows, width);
  return renderColumns(fitting, { rule: true, ...(right !== undefined && { right }) })
    .map((line) => `${clip(line, width)}\n`)
    .join("");
}

const SHORTEST = 8;
const GAP = 2;

/** Cuts the cells of the widest columns but the first, until the lines fit or every column is short. */
function fitted(rows: readonly (readonly string[])[], width: number): string[][] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const total = (): number => widths.reduce((sum, each) => sum + each + GAP, -GAP);
  while (total() > width) {
    const widest = widths.indexOf(Math.max(...widths.slice(1)), 1);
    if (widest < 1 || (widths[widest] ?? 0) <= SHORTEST) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  return rows.map((row) => row.map((text, column) => clip(text, widths[column])));
}

function statusOf(task: Answered): string {
  const also = ["lost", "stuck"].filter((name) => task[name] === true);
  return also.length === 0 ? cell(task["status"]) : `${cell(task["status"])} (${also.join(", ")})`;
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return "";
  return printable(typeof value === "string" ? value : JSON.stringify(value));
}

/** In UTC, to the second. */
function timeOf(value: unknown): string {
  return orTime(value).replace(/\.\d+Z$/, "Z");
}

function orTime(value: unknown): string {
  return cell(value).replace(/^(\d{4}-\d\d-\d\d)T/, "$1 ");
}

function secondsOf(value: unknown): string {
  return typeof value === "number" ? value.toFixed(3) : "";
}

function listOf(value: unknown): readonly Answered[] {
  return Array.isArray(value) ? value.filter((each): each is Answered => typeof each === "object" && each !== null) : [];
}
