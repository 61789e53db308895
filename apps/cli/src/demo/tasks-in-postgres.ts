/** What the table says of the demo's tasks. */
import { celeryTask, type Database } from "@celery-metrics-exporter/db";
import { and, count, gte, inArray, sql } from "drizzle-orm";
import { FINAL_STATES, TaskCounts, type FinalState } from "./comparison.ts";

/** Rows made since the demo began, by the database's own clock: the table may hold others. */
export class TasksInPostgres {
  readonly #drizzle: Database["drizzle"];
  readonly #since: string;

  private constructor(drizzle: Database["drizzle"], since: string) {
    this.#drizzle = drizzle;
    this.#since = since;
  }

  static async from(database: Database): Promise<TasksInPostgres> {
    const result: unknown = await database.drizzle.execute(sql`select now()::text as now`);
    const [row] = (result as { rows: { now: string }[] }).rows;
    return new TasksInPostgres(database.drizzle, row?.now ?? "-infinity");
  }

  /** How many in each state. */
  async byState(): Promise<Map<string, number>> {
    const rows = await this.#drizzle
      .select({ state: celeryTask.status, tasks: count() })
      .from(celeryTask)
      .where(gte(celeryTask.createdAt, this.#since))
      .groupBy(celeryTask.status)
      .orderBy(celeryTask.status);
    return new Map(rows.map(({ state, tasks }) => [state, tasks]));
  }

  /** How many ended how, by name. */
  async finished(): Promise<TaskCounts> {
    const rows = await this.#drizzle
      .select({ name: celeryTask.name, state: celeryTask.status, tasks: count() })
      .from(celeryTask)
      .where(and(gte(celeryTask.createdAt, this.#since), inArray(celeryTask.status, [...FINAL_STATES])))
      .groupBy(celeryTask.name, celeryTask.status);
    const counts = new TaskCounts();
    for (const { name, state, tasks } of rows) counts.add(name ?? "unknown", state as FinalState, tasks);
    return counts;
  }
}
