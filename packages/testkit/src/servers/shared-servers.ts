/**
 * The servers that all tests of a run share. A worker requests one by creating a file in a folder that the global setup (`global-setup.ts`)
 * watches, and waits for the answer in the same folder. So a run starts only the servers that its tests use. A URL in the environment takes precedence.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Environment variable through which the global setup passes the folder to its workers. */
export const FOLDER_VARIABLE = "TEST_SERVERS_FOLDER";

export const sharedServerNames = ["redis", "rabbitmq", "postgres"] as const;
export type SharedServerName = (typeof sharedServerNames)[number];

/** The answer of the global setup; `control` and `tlsPort` only for RabbitMQ. */
export interface SharedServer {
  readonly url: string;
  readonly control?: { readonly rabbitmqctl: string; readonly environment: Readonly<Record<string, string>> };
  readonly tlsPort?: number;
}

export type Answer = { readonly server: SharedServer } | { readonly error: string };

const URL_VARIABLES: Readonly<Record<SharedServerName, string>> = {
  redis: "TEST_REDIS_URL",
  rabbitmq: "TEST_RABBITMQ_URL",
  postgres: "TEST_POSTGRES_URL",
};
const POLL_MS = 20;
const TIMEOUT_MS = 120_000;
const known = new Map<SharedServerName, SharedServer>();

/** A Redis shared by all test files: use your own keys, and never `FLUSHALL`. */
export function sharedRedisUrl(): string {
  return sharedServer("redis").url;
}

/** A RabbitMQ shared by all test files: use your own queues or your own vhost (`createVhost`). */
export function sharedRabbitmqUrl(): string {
  return sharedServer("rabbitmq").url;
}

/** The TLS port of the shared RabbitMQ, for clients with a certificate; undefined if the environment names the server. */
export function sharedRabbitmqTlsPort(): number | undefined {
  return sharedServer("rabbitmq").tlsPort;
}

/** A PostgreSQL shared by all test files: use your own database (`createDatabase`). */
export function sharedPostgresUrl(): string {
  return sharedServer("postgres").url;
}

/**
 * The shared server of this name, started by the global setup if it is the first request for it. Blocks this process until it is running.
 *
 * @throws {Error} if it cannot be started, or outside a vitest run with the global setup.
 */
export function sharedServer(name: SharedServerName): SharedServer {
  const server = known.get(name) ?? given(name) ?? askGlobalSetup(name);
  known.set(name, server);
  return server;
}

function given(name: SharedServerName): SharedServer | undefined {
  const url = process.env[URL_VARIABLES[name]];
  return url === undefined || url === "" ? undefined : { url };
}

function askGlobalSetup(name: SharedServerName): SharedServer {
  const folder = process.env[FOLDER_VARIABLE];
  if (folder === undefined) throw new Error(`${URL_VARIABLES[name]} is not set and vitest's global setup of testkit has not run`);
  writeFileSync(join(folder, wantedFile(name)), "");
  const deadline = Date.now() + TIMEOUT_MS;
  while (!existsSync(join(folder, answerFile(name)))) {
    if (Date.now() > deadline) throw new Error(`the shared ${name} was not started within ${TIMEOUT_MS} ms`);
    sleepSync(POLL_MS);
  }
  const answer = JSON.parse(readFileSync(join(folder, answerFile(name)), "utf8")) as Answer;
  if ("error" in answer) throw new Error(`the shared ${name} could not be started: ${answer.error}`);
  return answer.server;
}

export function wantedFile(name: SharedServerName): string {
  return `${name}.wanted`;
}

/** Writes the answer for `sharedServer` in one atomic step. */
export function writeAnswer(folder: string, name: SharedServerName, answer: Answer): void {
  const path = join(folder, answerFile(name));
  writeFileSync(`${path}.new`, JSON.stringify(answer), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

function answerFile(name: SharedServerName): string {
  return `${name}.json`;
}

function sleepSync(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
