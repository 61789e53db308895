/** What the table says of the demo's tasks. */
import { celeryTask, type Database } from "@celery-metrics-exporter/db";
import { and, count, gte, inArray, sql, type SQL } from "drizzle-orm";
import { FINAL_STATES, TaskCounts, type FinalState } from "./comparison.ts";

/** Rows of the demo's queues made since it began, by the database's own clock: the table may hold others. */
export class TasksInPostgres {
  readonly #drizzle: Database["drizzle"];
  readonly #isOurs: SQL | undefined;

  private constructor(drizzle: Database["drizzle"], since: string, queuePrefix: string) {
    this.#drizzle = drizzle;
    this.#isOurs = and(gte(celeryTask.createdAt, since), sql`starts_with(${celeryTask.queue}, ${queuePrefix})`);
  }

  static async from(database: Database, queuePrefix: string): Promise<TasksInPostgres> {
    const result: unknown = await database.drizzle.execute(sql`select now()::text as now`);
    const [row] = (result as { rows: { now: string }[] }).rows;
    return new TasksInPostgres(database.drizzle, row?.now ?? "-infinity", queuePrefix);
  }

  /** How many in each state. */
  async byState(): Promise<Map<string, number>> {
    const rows = await this.#drizzle
      .select({ state: celeryTask.status, tasks: count() })
      .from(celeryTask)
      .where(this.#isOurs)
      .groupBy(celeryTask.status)
      .orderBy(celeryTask.status);
    return new Map(rows.map(({ state, tasks }) => [state, tasks]));
  }

  /** How many ended how, by name. */
  async finished(): Promise<TaskCounts> {
    const rows = await this.#drizzle
      .select({ name: celeryTask.name, state: celeryTask.status, tasks: count() })
      .from(celeryTask)
      .where(and(this.#isOurs, inArray(celeryTask.status, [...FINAL_STATES])))
      .groupBy(celeryTask.name, celeryTask.status);
    const counts = new TaskCounts();
    for (const { name, state, tasks } of rows) counts.add(name ?? "unknown", state as FinalState, tasks);
    return counts;
  }
}
