import { expect, test } from "vitest";
import { databaseProblem } from "../../src/connect/database-error.ts";

test("a database must be in UTF8, on a server that has generated columns", () => {
  expect(databaseProblem({ encoding: "UTF8", version: 120_000 })).toBeUndefined();
  expect(databaseProblem({ encoding: "LATIN1", version: 150_004 })).toMatch(/encoding must be UTF8, and is LATIN1/);
  expect(databaseProblem({ encoding: "UTF8", version: 110_022 })).toBe("it is PostgreSQL 11, and 12 or later is needed");
});
