import { createDatabase } from "@celery-metrics-exporter/testkit";
import { connectDatabase } from "@celery-metrics-exporter/db";
import { sql } from "drizzle-orm";
import { expect, it } from "vitest";
import { runProgram } from "./harness.ts";

it("creates the table, even with several processes at once, and does nothing the second time", async () => {
  const created = await createDatabase();
  const { url } = created;
  try {
    const runs = await Promise.all([1, 2].map(() => runProgram(["migrate", "--database", url])));
    runs.push(await runProgram(["migrate"], { env: { DATABASE_URL: url } }));
    expect(runs.map(({ output }) => output).filter((output) => output.endsWith(" has been created.\n")).length).toBeGreaterThan(0);
    expect(runs[2]?.output).toMatch(/ is up to date\.\n$/);
    for (const { exitCode, output, errors } of runs) {
      expect({ exitCode, errors }).toEqual({ exitCode: 0, errors: "" });
      expect(output).toMatch(/^The table celery_task in postgres(ql)?:\/\/.* (is up to date|has been created)\.\n$/);
    }
    const database = await connectDatabase({ url });
    const result: unknown = await database.drizzle.execute(sql`select count(*)::int as tasks from celery_task`);
    expect((result as { rows: unknown[] }).rows).toEqual([{ tasks: 0 }]);
    await database.close();
  } finally {
    await created.drop();
  }
});

it("exits 78 without DATABASE_URL", async () => {
  const { exitCode, errors } = await runProgram(["migrate"]);
  expect(exitCode).toBe(78);
  expect(errors).toContain("DATABASE_URL: is required.");
});
