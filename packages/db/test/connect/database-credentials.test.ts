import { describe, expect, test } from "vitest";
import { toDatabaseCredentials } from "../../src/connect/connection.ts";

describe("what drizzle-kit is given", () => {
  test("has no password where the URL has none, because it takes no other value for that", () => {
    expect(toDatabaseCredentials("postgres://u@h:5433/d")).toEqual({ host: "h", port: 5433, user: "u", database: "d", ssl: false });
  });

  test("has every part, decoded", () => {
    expect(toDatabaseCredentials("postgres://me:p%40ss@/my%2Fdb?host=/run/postgresql&options=-c search_path=mon")).toEqual({
      host: "/run/postgresql",
      port: 5432,
      user: "me",
      password: "p@ss",
      database: "my/db",
      ssl: false,
      options: "-c search_path=mon",
    });
  });
});
