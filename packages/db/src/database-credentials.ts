/** A database's URL in parts, for drizzle-kit: it refuses URLs that name a Unix socket, and has its own idea of their TLS settings. */
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
  /** What the server is to be told at the start of the session; drizzle-kit does not hand it on. */
  readonly options?: string;
}

/** @throws {ConfigError} as `toDatabaseConnection` does. */
export function toDatabaseCredentials(url: string): DatabaseCredentials {
  const { connectionString, ssl } = toDatabaseConnection(url);
  // The driver reads the URL, and the environment for what it does not say. Given the key too, it would hide it from drizzle-kit.
  const client: unknown = new Client({ connectionString });
  const { host, port, user, database, password, ssl: fromEnvironment, connectionParameters } = client as Parsed;
  return {
    host,
    port,
    user: user ?? "",
    database: database ?? "",
    ssl: ssl ?? fromEnvironment,
    ...(password === undefined || password === "" ? {} : { password }),
    ...(connectionParameters.options === undefined ? {} : { options: connectionParameters.options }),
  };
}

/** What `Client` has, of which its types do not tell all. */
type Parsed = Pick<Client, "host" | "port" | "user" | "database" | "password" | "ssl"> & {
  readonly connectionParameters: { readonly options?: string };
};
