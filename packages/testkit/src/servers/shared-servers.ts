/**
 * The servers that all tests of a run share. A worker asks for one by leaving a file in a folder that the global setup (`global-setup.ts`)
 * watches, and waits for the answer beside it: so a run starts only what its tests use. A URL in the environment wins over all this.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Environment variable by which the global setup tells its workers the folder. */
export const FOLDER_VARIABLE = "TEST_SERVERS_FOLDER";

export const sharedServerNames = ["redis", "rabbitmq", "postgres"] as const;
export type SharedServerName = (typeof sharedServerNames)[number];

/** What the global setup answers; `control` and `tlsPort` only for RabbitMQ. */
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

/** A Redis shared by all test files: use keys of your own, and never `FLUSHALL`. */
export function sharedRedisUrl(): string {
  return sharedServer("redis").url;
}

/** A RabbitMQ shared by all test files: use queues of your own, or a vhost of your own (`createVhost`). */
export function sharedRabbitmqUrl(): string {
  return sharedServer("rabbitmq").url;
}

/** Where the shared RabbitMQ speaks TLS, to clients with a certificate; undefined for one that the environment names. */
export function sharedRabbitmqTlsPort(): number | undefined {
  return sharedServer("rabbitmq").tlsPort;
}

/** A PostgreSQL shared by all test files: use a database of your own (`createDatabase`). */
export function sharedPostgresUrl(): string {
  return sharedServer("postgres").url;
}

/**
 * The shared server of this name, started by the global setup if nobody asked for it before. Blocks this process until it is there.
 *
 * @throws {Error} when it cannot be started, or outside a vitest run with the global setup.
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

/** Leaves the answer where `sharedServer` finds it, whole from the first moment. */
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
