import { TimedOutError, UnavailableError } from "@celery-metrics-exporter/runtime";
import { taskSent } from "@celery-metrics-exporter/celery/testing";
import { sql } from "drizzle-orm";
import { describe, expect, test } from "vitest";
import { RefusedDataError, faultOf, toDatabaseError } from "../../src/connect/database-error.ts";
import { query } from "../../src/tables/database.ts";
import { upsertRows, toTaskRows } from "../../src/merge/upsert.ts";
import { useTaskTable } from "../task-table.ts";

function coded(message: string, code: string): Error {
  return Object.assign(new Error(message), { code });
}

async function failure(statement: Promise<unknown>): Promise<Error> {
  return statement.then(
    () => new Error("nothing was thrown"),
    (thrown: unknown) => thrown as Error,
  );
}

describe("an error of the driver", () => {
  test.each([
    [coded("connect ECONNREFUSED 127.0.0.1:5432", "ECONNREFUSED"), "unavailable"],
    [coded("getaddrinfo ENOTFOUND db", "ENOTFOUND"), "unavailable"],
    [coded("read ECONNRESET", "ECONNRESET"), "unavailable"],
    [coded("connect ENOENT /var/run/postgresql/.s.PGSQL.5432", "ENOENT"), "unavailable"],
    [Object.assign(new AggregateError([coded("connect ECONNREFUSED ::1:5432", "ECONNREFUSED")]), { code: "ECONNREFUSED" }), "unavailable"],
    [new Error("Connection terminated unexpectedly"), "unavailable"],
    [new Error("Connection terminated due to connection timeout"), "unavailable"],
    [new Error("timeout exceeded when trying to connect"), "unavailable"],
    [new Error("Client has encountered a connection error and is not queryable"), "unavailable"],
    [new Error("Query read timeout"), "unavailable"],
    [coded("the database system is starting up", "57P03"), "unavailable"],
    [new Error("The server does not support SSL connections"), "denied"],
    [coded("self-signed certificate", "DEPTH_ZERO_SELF_SIGNED_CERT"), "denied"],
    [new Error("SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string"), "denied"],
    [new TypeError("undefined is not a function"), "unknown"],
    ["a string", "unknown"],
  ])("%s is %s", (error, fault) => {
    expect(faultOf(error).fault).toBe(fault);
    expect(faultOf(error).reason).not.toBe("");
  });

  test.each([
    ["a parameter that a pooler rejects", "unsupported startup parameter: application_name", "08P01", /ignore_startup_parameters/],
    ["search_path", "unsupported startup parameter in options: search_path", "08P01", /ALTER ROLE … SET search_path/],
    ["a name unknown to the pooler", "no such database: celery", "08P01", /Check DATABASE_URL/],
    ["a pooler without transactions", "transaction blocks not allowed in statement pooling mode", "08P01", /pool_mode to transaction/],
    ["a missing database", 'database "x" does not exist', "3D000", /CREATE DATABASE/],
    ["a replica", "cannot execute INSERT in a read-only transaction", "25006", /read-only replica.*set DATABASE_URL to the primary/],
    ["missing rights", "permission denied for table celery_task", "42501", /docs\/permissions\.md/],
    ["a wrong password", 'password authentication failed for user "x"', "28P01", /Correct the user and password/],
  ])("says what to do about %s", (_what, message, code, remedy) => {
    const error = toDatabaseError(coded(message, code));
    expect(error).toBeInstanceOf(UnavailableError);
    expect(error.message).toContain(`${message} (SQLSTATE ${code})`);
    expect(error.message).toMatch(remedy);
  });

  test.each([
    ['relation "celery_task" does not exist', "42P01", false],
    ["Relation »mon.celery_task« existiert nicht", "42P01", false],
    ['relation "celery_task_audit" does not exist', "42P01", true],
    ['column "audit" of relation "celery_task" does not exist', "42703", true],
    ["function audit() does not exist", "42883", true],
  ])("mentions triggers only if there is a table that may have some: %s", (message, code, names) => {
    const error = toDatabaseError(coded(message, code));
    expect(error.message).toMatch(/^The database is not migrated: .* Run `pnpm drizzle-kit migrate`/);
    expect(error.message.includes("triggers")).toBe(names);
  });

  test("says what to do if a pooler rejects any parameter", () => {
    for (const name of ["constructor", "__proto__"]) {
      expect(toDatabaseError(coded(`unsupported startup parameter: ${name}`, "08P01")).message).toMatch(/ignore_startup_parameters/);
    }
  });

  test("says where to put a required password", () => {
    expect(toDatabaseError(new Error("SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string")).message).toMatch(/PGPASSFILE/);
  });

  test("says what to do if the server does not support TLS", () => {
    const { message } = toDatabaseError(new Error("The server does not support SSL connections"));
    expect(message).toMatch(/ssl = on.*sslmode=disable/);
  });

  test("is truncated if a trigger's message is too long", () => {
    expect(toDatabaseError(coded("x".repeat(1e6), "P0001")).message.length).toBeLessThan(1_100);
  });

  test("contains the address that refused, if a name has several", () => {
    const error = new AggregateError([coded("connect ECONNREFUSED ::1:5432", "ECONNREFUSED")], "");
    expect(toDatabaseError(error).message).toContain("connect ECONNREFUSED ::1:5432");
  });
});

describe("an error of PostgreSQL", () => {
  const table = useTaskTable();
  const [row] = toTaskRows([taskSent({ args: "('hunter2',)" })]);
  if (row === undefined) throw new Error("no row");

  test("about the data is a RefusedDataError without arguments", async () => {
    const error = await failure(upsertRows(table.database, [{ ...row, retries: 2 ** 40 }]));
    expect(error).toBeInstanceOf(RefusedDataError);
    expect(error.message).toMatch(/SQLSTATE 22003/);
    expect(JSON.stringify([error.message, error.stack, error])).not.toContain("hunter2");
  });

  test("about an id too long for the index is a RefusedDataError", async () => {
    const id = Array.from({ length: 4_000 }, (_, index) => String.fromCodePoint(0x4e00 + ((index * 7_919) % 20_000))).join("");
    expect(await failure(upsertRows(table.database, [{ ...row, task_id: id }]))).toBeInstanceOf(RefusedDataError);
  });

  test("about a missing table says how to migrate, and is not the data's fault", async () => {
    const error = await failure(query(table.database, sql`select * from celery_tusk`));
    expect(error).toBeInstanceOf(UnavailableError);
    expect(error.message).toContain("pnpm drizzle-kit migrate");
  });

  test.each([
    [
      "a check",
      "alter table celery_task add constraint c check (args is null)",
      RefusedDataError,
      /violates check constraint "c" \(SQLSTATE 23514\)/,
    ],
    [
      "a trigger",
      "create function boom() returns trigger language plpgsql as $$ begin raise exception 'boom'; end $$; create trigger boom before insert on celery_task for each row execute function boom()",
      Error,
      /^PostgreSQL failed: boom \(SQLSTATE P0001\)$/,
    ],
    [
      "a trigger that sleeps",
      "create function boom() returns trigger language plpgsql as $$ begin raise exception 'canceling statement due to statement timeout' using errcode = '57014'; end $$; create trigger boom before insert on celery_task for each row execute function boom()",
      TimedOutError,
      /SQLSTATE 57014.*rows of celery_task.*POSTGRES_STATEMENT_TIMEOUT_MS/,
    ],
    [
      "a broken index",
      "create function boom() returns trigger language plpgsql as $$ begin raise exception 'zero page' using errcode = 'XX002'; end $$; create trigger boom before insert on celery_task for each row execute function boom()",
      UnavailableError,
      /zero page \(SQLSTATE XX002\)/,
    ],
  ])("from %s contains PostgreSQL's message and the SQLSTATE, but no row", async (_what, change, kind, message) => {
    await query(table.database, sql.raw(change));
    try {
      const error = await failure(upsertRows(table.database, [row]));
      expect(error).toBeInstanceOf(kind);
      expect(error.message).toMatch(message);
      expect(JSON.stringify([error.message, error.stack, Object.entries(error)])).not.toContain("hunter2");
    } finally {
      await query(table.database, sql.raw("alter table celery_task drop constraint if exists c"));
      await query(table.database, sql.raw("drop trigger if exists boom on celery_task"));
      await query(table.database, sql.raw("drop function if exists boom"));
    }
  });

  test("of any other kind contains no arguments either", async () => {
    const error = await failure(upsertRows(table.database, [row, row]));
    expect(error.message).toContain("cannot affect row a second time (SQLSTATE 21000)");
    expect(error).not.toBeInstanceOf(RefusedDataError);
    expect(error).not.toBeInstanceOf(UnavailableError);
    expect(JSON.stringify([error.message, error.stack, Object.entries(error)])).not.toContain("hunter2");
  });
});
