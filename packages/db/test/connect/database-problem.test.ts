import { expect, test } from "vitest";
import { databaseProblem } from "../../src/connect/database-error.ts";

test("a database must use UTF8, on a server with generated columns", () => {
  expect(databaseProblem({ encoding: "UTF8", version: 120_000 })).toBeUndefined();
  expect(databaseProblem({ encoding: "LATIN1", version: 150_004 })).toMatch(/encoding must be UTF8, but is LATIN1/);
  expect(databaseProblem({ encoding: "UTF8", version: 110_022 })).toBe("it is PostgreSQL 11, but 12 or later is required");
});
