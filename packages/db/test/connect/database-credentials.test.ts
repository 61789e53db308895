import { describe, expect, test } from "vitest";
import { toDatabaseCredentials } from "../../src/connect/connection.ts";

describe("drizzle-kit's credentials", () => {
  test("have no password if the URL has none, because drizzle-kit accepts no other value for that", () => {
    expect(toDatabaseCredentials("postgres://u@h:5433/d")).toEqual({ host: "h", port: 5433, user: "u", database: "d", ssl: false });
  });

  test("have every part, decoded", () => {
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
