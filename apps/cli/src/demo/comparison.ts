/** Whether what Celery did, what Datadog was told and what Postgres holds are the same. */

/** The states a task ends in. */
export const FINAL_STATES = ["SUCCESS", "FAILURE", "REVOKED", "REJECTED"] as const;
export type FinalState = (typeof FINAL_STATES)[number];

/** How many tasks, by task name and state. */
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

  /** Every name and state there is a count of. */
  keys(): { name: string; state: FinalState }[] {
    return [...this.#counts.keys()].map((key) => {
      const [name = "", state = ""] = key.split("\n");
      return { name, state: state as FinalState };
    });
  }
}

/** One line of the comparison; a count is undefined where that side was not asked. */
export interface ComparisonRow {
  readonly name: string;
  readonly state: FinalState;
  readonly celery: number;
  readonly datadog: number | undefined;
  readonly postgres: number | undefined;
  readonly agrees: boolean;
}

export interface Comparison {
  readonly rows: readonly ComparisonRow[];
  /** Whether every row agrees, and there is one. */
  readonly agrees: boolean;
}

export interface Sides {
  readonly celery: TaskCounts;
  readonly datadog: TaskCounts | undefined;
  readonly postgres: TaskCounts | undefined;
}

/**
 * A rejected task in the words of Celery's events. Some releases of Celery (5.6.2, but not 5.2 or 5.6.3) send `task-failed` besides
 * `task-rejected`, and the task counts as failed. Which of the two it is shows only in what was received; the number must be the same either way.
 */
function inWordsOfEvents(celery: TaskCounts, received: TaskCounts | undefined): TaskCounts {
  const counts = new TaskCounts();
  for (const { name, state } of celery.keys()) {
    const failsToo = state === "REJECTED" && received?.get(name, "REJECTED") === 0;
    counts.add(name, failsToo ? "FAILURE" : state, celery.get(name, state));
  }
  return counts;
}

/** One row for each name and state that any side has. */
export function compare(sides: Sides): Comparison {
  const { datadog, postgres } = sides;
  const celery = inWordsOfEvents(sides.celery, postgres ?? datadog);
  const keys = new Map([celery, datadog, postgres].flatMap((side) => side?.keys() ?? []).map((key) => [`${key.name}\n${key.state}`, key]));
  const rows = [...keys.values()]
    .map(({ name, state }) => {
      const counts = { celery: celery.get(name, state), datadog: datadog?.get(name, state), postgres: postgres?.get(name, state) };
      const agrees = [counts.datadog, counts.postgres].every((count) => count === undefined || count === counts.celery);
      return { name, state, ...counts, agrees };
    })
    .sort((one, other) => one.name.localeCompare(other.name) || FINAL_STATES.indexOf(one.state) - FINAL_STATES.indexOf(other.state));
  return { rows, agrees: rows.length > 0 && rows.every((row) => row.agrees) };
}
