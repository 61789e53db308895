/** Compares the task counts of Celery and of each exporter, and shows them as a table. */
import { renderColumns, type Terminal } from "cli";

/** The states a task ends in. */
export const FINAL_STATES = ["SUCCESS", "FAILURE", "REVOKED", "REJECTED"] as const;
export type FinalState = (typeof FINAL_STATES)[number];

/** Number of tasks, by task name and state. */
export class TaskCounts {
  readonly #counts = new Map<string, number>();

  add(name: string, state: FinalState, count = 1): void {
    const key = `${name}\n${state}`;
    this.#counts.set(key, this.get(name, state) + count);
  }

  get(name: string, state: FinalState): number {
    return this.#counts.get(`${name}\n${state}`) ?? 0;
  }

  get total(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Every name and state with a count. */
  keys(): { name: string; state: FinalState }[] {
    return [...this.#counts.keys()].map((key) => {
      const [name = "", state = ""] = key.split("\n");
      return { name, state: state as FinalState };
    });
  }
}

/** The counts of events. A task that Celery's worker terminates may have two that end it. */
export class EventCounts extends TaskCounts {
  /** By task name: failures because the process was told to exit, which Celery 5.6 sends for a terminated task besides its revocation. */
  readonly exits = new Map<string, number>();
}

/** The sides that are compared with Celery, in the order of the columns. */
const EXPORTERS = ["datadog", "postgres", "prometheus"] as const;
type ExporterName = (typeof EXPORTERS)[number];

/** One line of the comparison; a count is undefined if that side was not asked. */
interface ComparisonRow extends Readonly<Record<ExporterName, number | undefined>> {
  readonly name: string;
  readonly state: FinalState;
  readonly celery: number;
  readonly agrees: boolean;
}

export interface Comparison {
  readonly rows: readonly ComparisonRow[];
  /** Whether every row agrees, and there is at least one. */
  readonly agrees: boolean;
}

export interface Sides extends Readonly<Record<ExporterName, TaskCounts | undefined>> {
  readonly celery: TaskCounts;
  readonly prometheus: EventCounts | undefined;
}

/**
 * Counts a rejected task as Celery's events show it. Some releases of Celery (5.6.2, but not 5.2 or 5.6.3) send `task-failed` besides
 * `task-rejected`, and the task counts as failed. Only the received events show which of the two it is; the total must be the same either way.
 */
function inWordsOfEvents(celery: TaskCounts, received: TaskCounts | undefined): TaskCounts {
  const counts = new TaskCounts();
  for (const { name, state } of celery.keys()) {
    const failsToo = state === "REJECTED" && received?.get(name, "REJECTED") === 0;
    counts.add(name, failsToo ? "FAILURE" : state, celery.get(name, state));
  }
  return counts;
}

/**
 * Counts each task once. Prometheus counts each event. A rejected task for which Celery sends `task-failed` too is both rejected and failed there, and only
 * failed for the others. A terminated one for which Celery 5.6 sends `task-failed` too is both revoked and failed there, and only revoked for the others.
 */
function endsOf(events: EventCounts, celery: TaskCounts): TaskCounts {
  const counts = new TaskCounts();
  for (const { name, state } of events.keys()) {
    const rejected = events.get(name, "REJECTED");
    const surplus = events.get(name, "FAILURE") - celery.get(name, "FAILURE");
    const failsToo = rejected > 0 && surplus === rejected;
    const terminated = Math.min(events.get(name, "REVOKED"), events.exits.get(name) ?? 0);
    const isTerminatedToo = surplus > 0 && rejected === 0 && surplus <= terminated;
    if (state === "REJECTED" && failsToo) continue;
    const tasks = events.get(name, state) - (state === "FAILURE" && isTerminatedToo ? surplus : 0);
    if (tasks > 0) counts.add(name, state, tasks);
  }
  return counts;
}

/** One row for each name and state of any side. */
export function compare(sides: Sides): Comparison {
  const { datadog, postgres } = sides;
  const prometheus = sides.prometheus && endsOf(sides.prometheus, sides.celery);
  const celery = inWordsOfEvents(sides.celery, postgres ?? datadog ?? prometheus);
  const keys = new Map(
    [celery, datadog, postgres, prometheus].flatMap((side) => side?.keys() ?? []).map((key) => [`${key.name}\n${key.state}`, key]),
  );
  const rows = [...keys.values()]
    .map(({ name, state }) => {
      const counts = {
        celery: celery.get(name, state),
        datadog: datadog?.get(name, state),
        postgres: postgres?.get(name, state),
        prometheus: prometheus?.get(name, state),
      };
      const agrees = EXPORTERS.every((side) => counts[side] === undefined || counts[side] === counts.celery);
      return { name, state, ...counts, agrees };
    })
    .sort((one, other) => one.name.localeCompare(other.name) || FINAL_STATES.indexOf(one.state) - FINAL_STATES.indexOf(other.state));
  return { rows, agrees: rows.length > 0 && rows.every((row) => row.agrees) };
}

export interface Result {
  readonly comparison: Comparison;
  /** Tasks without a final event, by the reason that Celery gives. */
  readonly withoutEnd: ReadonlyMap<string, number>;
}

const HEADER = ["task", "state", "Celery ran", "Datadog got", "Postgres has", "Prometheus reads", ""] as const;
const NOT_ASKED = "-";

export function renderComparison({ rows, agrees }: Comparison, { bold, green, red }: Pick<Terminal, "bold" | "green" | "red">): string {
  const cells = rows.map((row) => [
    row.name,
    row.state,
    ...[row.celery, ...EXPORTERS.map((side) => row[side])].map(toCell),
    row.agrees ? "" : "differs",
  ]);
  const totals = ["all", "", ...(["celery", ...EXPORTERS] as const).map((side) => toCell(total(rows, side))), agrees ? "" : "differs"];
  const table = renderColumns([[...HEADER], ...cells, totals], { right: new Set([2, 3, 4, 5]) });
  return table
    .map((line, index) => {
      if (index === 0) return bold(line);
      if (index === table.length - 1) return `${"-".repeat(line.length)}\n${agrees ? green(line) : red(line)}`;
      return rows[index - 1]?.agrees === true ? line : red(line);
    })
    .join("\n");
}

/** The table, and the result in words. */
export function renderResult({ comparison, withoutEnd }: Result, terminal: Terminal): string {
  const { rows, agrees } = comparison;
  const lines = [renderComparison(comparison, terminal), ""];
  for (const [status, tasks] of withoutEnd) lines.push(terminal.dim(`${tasks} more ${withoutEvent(status)}: they are not compared.`));
  const compared = sidesOf(rows);
  if (!agrees) lines.push(terminal.red(`${compared} do not agree. See the log.`));
  else lines.push(terminal.green(`${compared} agree on ${total(rows, "celery") ?? 0} tasks.`));
  return lines.join("\n");
}

function withoutEvent(status: string): string {
  return status === "IGNORED" ? "were ignored (celery.exceptions.Ignore), for which Celery sends no event" : `had not ended (${status})`;
}

function sidesOf(rows: readonly ComparisonRow[]): string {
  const sides = ["What Celery ran"];
  if (rows.some(({ datadog }) => datadog !== undefined)) sides.push("what Datadog got");
  if (rows.some(({ postgres }) => postgres !== undefined)) sides.push("what Postgres has");
  if (rows.some(({ prometheus }) => prometheus !== undefined)) sides.push("what Prometheus reads");
  const last = sides.pop() ?? "";
  return sides.length === 0 ? last : `${sides.join(", ")} and ${last}`;
}

function total(rows: readonly ComparisonRow[], side: "celery" | ExporterName): number | undefined {
  return rows.reduce<number | undefined>((sum, row) => (row[side] === undefined ? sum : (sum ?? 0) + row[side]), undefined);
}

function toCell(count: number | undefined): string {
  return count === undefined ? NOT_ASKED : String(count);
}
