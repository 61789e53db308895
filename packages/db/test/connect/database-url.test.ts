import { ConfigError } from "@celery-metrics-exporter/runtime";
import { describe, expect, test } from "vitest";
import { connectDatabase } from "../../src/connect/connect-database.ts";
import { databaseUrlProblem } from "../../src/connect/database-url.ts";
import { parseDatabaseUrl } from "../../src/connect/connection.ts";
import { migrate } from "../../src/migrate/migrate.ts";

const UNREADABLE = [
  "postgres://u:hun/ter2@h/db",
  "postgres://u:hun#ter2@h/db",
  "postgres://u:hunter2@h:99999/db",
  "postgres://u:hunter2%E0%A4@h/db",
  "postgres://u:hun%ter2@h/db",
  "postgres://u:hun?ter2@h/db",
  "postgres://u:hun?ter2=1@h/db",
  "postgres://u:1/hunter2@h/db",
  "postgres://u:hunter2%00@h/db",
  "postgres://u:hunter2@h:0/db",
  "postgres://u:hunter2@[::1/db",
  "postgres://h/db?password=hun%ter2",
  "postgres://h/db?password=hunter2%00",
];

describe("the URL of a database", () => {
  test.each([
    "postgres://u:p@h/d",
    "postgresql://h:5433/d?sslmode=require",
    "postgres://u:p%2Fp@h/d",
    "postgres:///d",
    "postgres://u:p@/d?host=/run/postgresql",
    "postgres://u@%2Frun%2Fpostgresql/d",
    "postgres://",
    "postgres://u:p@ss:word@h/d",
    "postgres://u@[fe80::1%25eth0]:5432/d",
    "postgres://h/d?application_name=x&connect_timeout=10&target_session_attrs=read-write&client_encoding=utf8",
    "postgres://u:p@h/d?sslmode=require&channel_binding=require",
    "postgres://u:p@h/d?sslmode=require&supa=base-pooler.x&pgbouncer=true&connection_limit=1",
    "postgres://h/d?options=-c search_path=mon",
    "postgres://h/d?options=-c%20search_path%3Dmon",
    "pglite:memory",
    "pglite:./.data/pglite",
  ])("may be %s", (value) => {
    expect(databaseUrlProblem(value)).toBeUndefined();
  });

  test.each(UNREADABLE)("is a configuration error if it is invalid: %s", async (value) => {
    for (const work of [() => migrate(value), () => connectDatabase({ url: value })]) {
      const error: unknown = await work().catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(ConfigError);
      expect(String(error)).toMatch(/DATABASE_URL: .*password.*%2F/);
      expect(String(error)).not.toMatch(/hun|ter2/);
    }
  });

  test.each(["postgres://u:hunter2@h:54a/db", "postgres://u:hunter2@h:99999/db", "postgres://h/d?port=0"])(
    "must have a valid port: %s",
    (value) => {
      expect(databaseUrlProblem(value)).toMatch(/^its port must be a number from 1 to 65535 \(.*%2F/);
      expect(databaseUrlProblem(value)).not.toContain("hunter2");
    },
  );

  test.each([
    "postgres://h1,h2:5432/db?target_session_attrs=read-write",
    "postgres://u:p@h1:5432,h2:5433/db",
    "postgres:///db?host=h1,h2",
    "postgres:///db?host=h1&hostaddr=10.0.0.1,10.0.0.2",
    "postgres://h/db?port=5432,5433",
  ])("may not name several hosts: %s", (value) => {
    expect(databaseUrlProblem(value)).toMatch(
      /^names several hosts, which is not supported: use one address that always leads to the primary/,
    );
  });

  test.each([
    ["schema=mon", /unknown setting schema: set the schema with \?options=-c search_path=NAME/],
    ["search_path=mon", /unknown setting search_path: .*options=-c search_path/],
    ["currentSchema=mon", /unknown setting currentSchema: .*options=-c search_path/],
    ["option=-c", /unknown setting option: did you mean options\?/],
    ["sslMode=require", /unknown setting sslMode: did you mean sslmode\?/],
    ["ssl-mode=require", /invalid settings after the \?/],
    ["ssl_mode=require", /unknown setting ssl_mode: write sslmode/],
    ["sslrootcrt=/ca.pem", /did you mean sslrootcert\?/],
    ["sslkye=/key.pem", /did you mean sslkey\?/],
    ["aplication_name=x", /did you mean application_name\?/],
    ["passfile=/x", /unknown setting passfile: set the environment variable PGPASSFILE/],
    ["constructor=1", /unknown setting constructor: leave it out, or use one of application_name, /],
    ["__proto__=1", /unknown setting __proto__: leave it out, or use one of application_name, /],
    ["nonsense=1", /unknown setting nonsense: leave it out, or use one of application_name, /],
    ["client_encoding=latin1", /client_encoding must be UTF8/],
    ["target_session_attrs=standby", /must be read-write or primary/],
    ["connect_timeout=soon", /connect_timeout must be a whole number of seconds/],
  ])("may not have the setting %s", (setting, message) => {
    expect(databaseUrlProblem(`postgres://u:hunter2@h/d?${setting}`)).toMatch(message);
  });

  test("is decoded as in libpq: only %XX, and the last of two equal settings wins", () => {
    const url = "postgres://u+v:a+b%2Bc@h/d+e?application_name=x&password=a+b%2Bc%20d&options=-c a=b&application_name=p+q";
    expect(parseDatabaseUrl(url)).toMatchObject({ ok: true, parts: { user: "u+v", password: "a+b+c d", database: "d+e" } });
    const { settings } = (parseDatabaseUrl(url) as { readonly parts: { readonly settings: URLSearchParams } }).parts;
    expect([...settings]).toEqual([
      ["application_name", "p+q"],
      ["options", "-c a=b"],
    ]);
  });

  test("lists the supported schemes", () => {
    expect(databaseUrlProblem("mysql://root:hunter2@h/d")).toMatch(/^must be a URL that starts with postgres:\/\/.*pglite:<folder>$/);
  });
});
