/** A database's URL in parts, for drizzle-kit: it refuses URLs of Unix sockets, and reads their TLS settings in its own way. */
import type { TlsOptions } from "@celery-metrics-exporter/runtime";
import { Client } from "pg";
import { toDatabaseConnection } from "./database-connection.ts";

export interface DatabaseCredentials {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
  readonly password?: string;
  readonly ssl: boolean | TlsOptions;
  /** `-c name=value …` for the session; drizzle-kit does not pass them on. */
  readonly options?: string;
}

/** @throws {ConfigError} as `toDatabaseConnection` does. */
export function toDatabaseCredentials(url: string): DatabaseCredentials {
  const { ssl, ...connection } = toDatabaseConnection(url);
  // The driver looks up in the environment what the URL leaves out. Given the client's key too, it would hide it from drizzle-kit.
  const client: unknown = new Client(connection);
  const { host, port, user, database, password, ssl: fromEnvironment, connectionParameters } = client as Parsed;
  return {
    host,
    port,
    user: user ?? "",
    database: database ?? "",
    ssl: ssl ?? fromEnvironment,
    // The driver says null where there is none, and looks into PGPASSFILE later.
    ...(typeof password === "string" && password !== "" && { password }),
    ...(typeof connectionParameters.options === "string" && { options: connectionParameters.options }),
  };
}

/** What `Client` has and its types leave out. */
type Parsed = Pick<Client, "host" | "port" | "user" | "database" | "ssl"> & {
  readonly password?: unknown;
  readonly connectionParameters: { readonly options?: unknown };
};
