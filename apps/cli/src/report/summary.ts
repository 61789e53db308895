/** One line about what the single process has done so far. */
import { MAX_ROWS_COUNTED } from "./count-rows.ts";

export interface Summary {
  /** All events received since the start. */
  readonly events: number;
  /** How many of these are task events: heartbeats arrive all the time. */
  readonly taskEvents: number;
  /** Since the last summary. */
  readonly taskEventsPerSecond: number;
  /** Messages and events that could not be read, since the start. */
  readonly rejected: number;
  /** Age of the oldest event waiting for its exporter. */
  readonly lagSeconds: number;
  /** The exporter queue in which it waits. Undefined if none waits. */
  readonly lagQueue: string | undefined;
  /** Rows in the table by status, or too many to count. Undefined without the postgres exporter, or if its database does not answer. */
  readonly rows: ReadonlyMap<string, number> | "many" | undefined;
  /** Runs of tasks sent to Datadog by state, since the start. Undefined without the datadog exporter. */
  readonly sent: ReadonlyMap<string, number> | undefined;
  /** Estimated number of finished tasks waiting to be sent to Datadog. Undefined under the same conditions as `sent`. */
  readonly unsent: number | undefined;
}

/** Whether there is anything new since `before`. */
export function isNews(summary: Summary, before: Summary | undefined, intervalSeconds: number): boolean {
  if (before === undefined || summary.lagSeconds >= intervalSeconds) return true;
  const shown = ({ taskEvents, rejected, rows, sent }: Summary): string =>
    JSON.stringify([taskEvents, rejected, rows instanceof Map ? [...rows] : rows, sent === undefined ? [] : [...sent]]);
  return shown(summary) !== shown(before);
}

/** For people: `1,260 task events since the start (12.6/s); table: 315 rows (FAILURE 5, SUCCESS 310); lag 0.3 s (postgres); 0 rejected`. */
export function renderSummary(summary: Summary): string {
  const { taskEvents, taskEventsPerSecond, lagSeconds, lagQueue } = summary;
  const parts = [`${count(taskEvents)} task events since the start (${taskEventsPerSecond.toFixed(1)}/s)`, ...totals(summary)];
  const lag = `lag ${lagSeconds.toFixed(1)} s${lagQueue === undefined ? "" : ` (${lagQueue})`}`;
  return [...parts, lag, `${count(summary.rejected)} rejected`].join("; ");
}

/** The last line. */
export function renderEnd(summary: Summary, elapsedSeconds: number): string {
  const parts = [`${count(summary.taskEvents)} task events`, ...totals(summary), `${count(summary.rejected)} rejected`];
  return `Stopped after ${duration(elapsedSeconds)}: ${parts.join("; ")}.`;
}

/** The last line if not everything was ever ready. @param waitsFor the reasons, by component. */
export function renderEarlyEnd(waitsFor: Readonly<Record<string, string>>, elapsedSeconds: number): string {
  const all = Object.entries(waitsFor);
  const told = all.filter(([, state]) => state !== "starting");
  const reasons = (told.length > 0 ? told : all).map(([component, state]) => `${component}: ${state}`);
  const why = reasons.length === 0 ? "" : ` It waited for ${reasons.join("; ")}.`;
  return `Stopped after ${duration(elapsedSeconds)}, before everything was ready: no event was received.${why}`;
}

/** For logs. */
export function toFields({ rows, sent, unsent, lagQueue, ...numbers }: Summary): Record<string, unknown> {
  return {
    ...numbers,
    ...(rows === undefined ? {} : { rows: rows === "many" ? `more than ${MAX_ROWS_COUNTED}` : Object.fromEntries(rows) }),
    ...(lagQueue === undefined ? {} : { lagQueue }),
    ...(sent === undefined ? {} : { sent: Object.fromEntries(sent), unsent }),
  };
}

function totals({ rows, sent, unsent = 0 }: Summary): string[] {
  const table = rows === "many" ? [`more than ${count(MAX_ROWS_COUNTED)} rows`] : rows === undefined ? [] : [byState(rows, "rows")];
  const waiting = unsent > 0 ? `, about ${count(unsent)} waiting` : "";
  return [...table.map((text) => `table: ${text}`), ...(sent === undefined ? [] : [`${byState(sent, "tasks sent to Datadog")}${waiting}`])];
}

function byState(tasks: ReadonlyMap<string, number>, what: string): string {
  const sum = [...tasks.values()].reduce((all, each) => all + each, 0);
  const states = [...tasks].filter(([, each]) => each > 0).map(([state, each]) => `${state} ${count(each)}`);
  return `${count(sum)} ${what}${states.length === 0 ? "" : ` (${states.join(", ")})`}`;
}

function duration(seconds: number): string {
  const [hours, minutes] = [Math.floor(seconds / 3_600), Math.floor(seconds / 60) % 60];
  const rest = `${Math.floor(seconds) % 60} s`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min ${rest}` : rest;
}

function count(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}
