/** Servers on which each role has its own user, with exactly the rights in docs/permissions.md. */
import { migrate } from "@celery-metrics-exporter/db";
import { createLogger, startRoles, type Role, type RunningRoles } from "@celery-metrics-exporter/runtime";
import {
  createDatabase,
  createVhost,
  documentedRabbitmqPermissions,
  documentedStatements,
  grantDocumented,
  recordCommands,
  sharedPostgresUrl,
  startRedis,
  startStatsdSink,
  type CommandRecord,
  type StatsdSink,
  type TestVhost,
} from "@celery-metrics-exporter/testkit";
import amqp from "amqplib";
import { Queue } from "bullmq";
import { ALL_ROLES } from "cli";
import { randomBytes } from "node:crypto";
import { Redis } from "ioredis";
import { Client } from "pg";

export const PASSWORD = "opensesame";
export const PREFIX = "{cme}";

/** Others have tests of their own: the dashboard, which has two users, the monitor, which has rights on the broker's Redis too, and `web`, which has none in Redis. */
const OTHERS: ReadonlySet<string> = new Set(["dashboard", "monitor", "web"]);
const ROLES: readonly Role[] = ALL_ROLES.filter(({ name }) => !OTHERS.has(name));
export const ROLE_NAMES: readonly string[] = ROLES.map(({ name }) => name);

/** The user that the role's block of the document creates. */
export function userOf(role: string): string {
  return `cme-${role}`;
}

export interface Scene {
  /** A user with all rights. */
  readonly redis: Redis;
  readonly record: CommandRecord;
  readonly vhost: TestVhost;
  /** Connected as the administrator, to the database with the table. */
  readonly database: Client;
  readonly sink: StatsdSink;
  /** Connected as the administrator. */
  queue(name: string): Queue;
  /** The document's database roles, by their names there. */
  sql(statement: string): string;
  databaseUrlOf(role: "cme_migrator" | "cme_processor" | "cme_web"): string;
  redisUrlOf(user: string): string;
  /** The URL for the receiver's user, who creates its queue. */
  readonly brokerUrl: string;
  start(name: string, env?: Readonly<Record<string, string>>): Promise<RunningRoles>;
  /** Stops everything; nothing more can be started. */
  close(): Promise<void>;
}

export async function openScene(): Promise<Scene> {
  const [server, vhost, sink, testDatabase] = await Promise.all([startRedis(), createVhost(), startStatsdSink(), createDatabase()]);
  const redis = new Redis(server.url);
  const record = await recordCommands(server.url);
  for (const name of ROLE_NAMES) await grantDocumented(redis, `redis ${name}`, PASSWORD);
  const suffix = randomBytes(4).toString("hex");
  const databaseName = new URL(testDatabase.url).pathname.slice(1);
  const sql = (statement: string): string =>
    statement
      .replace(/\bcme_(migrator|processor|web)\b/g, (name) => `${name}_${suffix}`)
      .replaceAll("celery_metrics", databaseName)
      .replace("PASSWORD 'PASSWORD'", `PASSWORD '${PASSWORD}'`);
  const databaseUrlOf = (role: string): string =>
    Object.assign(new URL(testDatabase.url), { username: `${role}_${suffix}`, password: PASSWORD }).href;
  const redisUrlOf = (user: string): string => Object.assign(new URL(server.url), { username: user, password: PASSWORD }).href;
  const database = new Client({ connectionString: testDatabase.url });
  await database.connect();
  await grantDatabase({ database, sql, databaseUrlOf });
  await declareExchange(vhost.url);
  const [brokerUrl = ""] = await vhost.createUsers([documentedRabbitmqPermissions("sh receiver that makes its queue")]);
  const running: RunningRoles[] = [];
  const queues = new Map<string, Queue>();

  return {
    redis,
    record,
    vhost,
    database,
    sink,
    queue: (name) => {
      const queue = queues.get(name) ?? new Queue(name, { connection: redis, prefix: PREFIX });
      queues.set(name, queue);
      return queue;
    },
    sql,
    databaseUrlOf,
    redisUrlOf,
    brokerUrl,
    start: async (name, env = {}) => {
      const settings = {
        REDIS_URL: redisUrlOf(userOf(name)),
        QUEUE_PREFIX: PREFIX,
        CELERY_BROKER_URL: brokerUrl,
        DATABASE_URL: databaseUrlOf("cme_processor"),
        DD_AGENT_HOST: "127.0.0.1",
        DD_DOGSTATSD_PORT: String(sink.port),
        DATADOG_INCOMPLETE_WAIT_MS: "1500",
        PROMETHEUS_PORT: "0",
        PROMETHEUS_INCOMPLETE_WAIT_MS: "1500",
        ...env,
      };
      const started = await startRoles(
        ROLES.filter((role) => role.name === name),
        settings,
        createLogger(name, "silent"),
      );
      running.push(started);
      return started;
    },
    close: async () => {
      await Promise.all(running.map((roles) => roles.stop()));
      await Promise.all([...queues.values()].map((queue) => queue.close()));
      record.stop();
      redis.disconnect();
      await database.end();
      await testDatabase.drop();
      await dropRoles(sql);
      await Promise.all([server.stop(), vhost.drop(), sink.close()]);
    },
  };
}

/** Declares the exchange, as Celery does before its first event. */
async function declareExchange(url: string): Promise<void> {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  await channel.assertExchange("celeryev", "topic", { durable: true });
  await connection.close();
}

/** Runs everything in the document in its order, with the migration in between. */
async function grantDatabase({ database, sql, databaseUrlOf }: Pick<Scene, "database" | "sql" | "databaseUrlOf">): Promise<void> {
  for (const statement of documentedStatements("sql administrator")) await database.query(sql(statement));
  await migrate(databaseUrlOf("cme_migrator"));
  const owner = new Client({ connectionString: databaseUrlOf("cme_migrator") });
  await owner.connect();
  for (const block of ["sql owner", "sql owner, for retention and filters"]) {
    for (const statement of documentedStatements(block)) await owner.query(sql(statement));
  }
  await owner.end();
}

/** Roles belong to the server, not to the database. */
async function dropRoles(sql: Scene["sql"]): Promise<void> {
  const client = new Client({ connectionString: sharedPostgresUrl() });
  await client.connect();
  await client.query(sql("DROP ROLE cme_migrator, cme_processor, cme_web"));
  await client.end();
}
