import { ConfigError } from "@celery-metrics-exporter/runtime";
import { describe, expect, test } from "vitest";
import { connectDatabase } from "../src/connect-database.ts";
import { databaseUrlProblem } from "../src/database-url.ts";
import { migrate } from "../src/migrate.ts";

const UNREADABLE = [
  "postgres://u:hun/ter2@h/db",
  "postgres://u:hun#ter2@h/db",
  "postgres://u:hunter2@h:99999/db",
  "postgres://u:hunter2%E0%A4@h/db",
];

describe("the URL of a database", () => {
  test.each([
    "postgres://u:p@h/d",
    "postgresql://h:5433/d?sslmode=require",
    "postgres://u:p%2Fp@h/d",
    "postgres:///d",
    "postgres://u:p@/d?host=/run/postgresql",
    "postgres://u@%2Frun%2Fpostgresql/d",
    "pglite:memory",
    "pglite:./.data/pglite",
  ])("may be %s", (value) => {
    expect(databaseUrlProblem(value)).toBeUndefined();
  });

  test.each(UNREADABLE)("that cannot be read is a fault of the configuration: %s", async (value) => {
    for (const work of [migrate(value), connectDatabase({ url: value })]) {
      const error: unknown = await work.catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(ConfigError);
      expect(String(error)).toMatch(/DATABASE_URL: .*password.*%2F/);
      expect(String(error)).not.toMatch(/hun|ter2/);
    }
  });

  test("says which there are", () => {
    expect(databaseUrlProblem("mysql://root:hunter2@h/d")).toMatch(/^must be a URL that starts with postgres:\/\/.*pglite:<folder>$/);
  });
});
