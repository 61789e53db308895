/** What the users of docs/permissions.md may not do, and what a role reports if it lacks a permission. */
import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { documentedCommands, documentedRabbitmqPermissions, grantDocumented } from "@celery-metrics-exporter/testkit";
import amqp from "amqplib";
import { Redis } from "ioredis";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openScene, PASSWORD, userOf, type Scene } from "./scene.ts";

let scene: Scene;

beforeAll(async () => {
  scene = await openScene();
  await grantDocumented(scene.redis, "redis receiver's broker", PASSWORD);
  await grantDocumented(scene.redis, "redis dashboard, read-only", PASSWORD);
  await grantDocumented(scene.redis, "redis replay", PASSWORD);
  await scene.redis.set("other", "1");
});
afterAll(async () => {
  await scene?.close();
});

/** The role does not start, and reports this. */
async function expectRefusal(name: string, env: Readonly<Record<string, string>>, words: RegExp): Promise<void> {
  const starting = scene.start(name, { STARTUP_TIMEOUT_SECONDS: "60", ...env });
  await expect(starting).rejects.toThrow(words);
  await expect(starting).rejects.toBeInstanceOf(UnavailableError);
}

describe("in Redis", () => {
  const NOBODY_MAY = [
    "GET other",
    "SET other 2",
    "DEL other",
    "EVAL return(redis.call('GET','other')) 0",
    "KEYS *",
    "SCAN 0",
    "DBSIZE",
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG SET maxmemory 1",
    "CONFIG GET requirepass",
    "ACL LIST",
    "ACL SETUSER cme-receiver allkeys",
    "SHUTDOWN NOSAVE",
    "MONITOR",
    "CLIENT KILL TYPE normal",
    "REPLICAOF NO ONE",
    "SAVE",
    "PUBLISH 0.celeryev x",
    "SWAPDB 0 1",
    "FUNCTION FLUSH",
    "SCRIPT FLUSH",
  ];
  const OTHERS_KEYS: Readonly<Record<string, readonly string[]>> = {
    "cme-receiver": ["{cme:1}:datadog:task:x", "{cme}:datadog-processing:wait", "{cme}:excluded:datadog:x"],
    "cme-datadog-processor": ["{cme}:postgres:wait", "{cme:1}:prometheus:counts", "{cme}:excluded:receiver:x", "{other:1}:datadog:task:x"],
    "cme-postgres-processor": ["{cme}:datadog:wait", "{cme}:datadog-processing:wait", "{cme:1}:datadog:task:x"],
    "cme-prometheus-processor": [
      "{cme}:datadog:wait",
      "{cme:1}:datadog:task:x",
      "{cme}:excluded:receiver:x",
      "{other:1}:prometheus:counts",
    ],
    "cme-dashboard": ["{cme:1}:datadog:task:x", "{cme}:excluded:receiver:x"],
    "cme-replay": ["{cme}:postgres-processing:wait", "{cme}:excluded:datadog:x", "{cme}:excluded:postgres:x", "{cme:1}:datadog:task:x"],
    "cme-events": ["{cme}:datadog:wait", "{cme:1}:datadog:task:x"],
  };

  it.each(Object.keys(OTHERS_KEYS))("%s can access only its own keys", async (user) => {
    const redis = new Redis(scene.redisUrlOf(user), { retryStrategy: () => null, enableReadyCheck: false });
    const commands = [...NOBODY_MAY, ...(OTHERS_KEYS[user] ?? []).flatMap((key) => [`LRANGE ${key} 0 -1`, `HGETALL ${key}`, `DEL ${key}`])];
    const allowed: string[] = [];
    for (const command of commands) {
      const [name = "", ...words] = command.split(" ");
      const refusal = await redis.call(name, ...words).then(
        () => "",
        (error: Error) => error.message,
      );
      if (!/^NOPERM|The user executing the script can't/.test(refusal)) allowed.push(`${command}: ${refusal}`);
    }
    redis.disconnect();
    expect(allowed).toEqual([]);
  });

  it("the read-only dashboard's user cannot write to what it shows", async () => {
    await scene.redis.lpush("{cme}:datadog:wait", "1");
    const redis = new Redis(scene.redisUrlOf("cme-dashboard"), { retryStrategy: () => null, enableReadyCheck: false });
    for (const command of ["LPUSH", "RPUSH", "HSET", "SET", "DEL", "UNLINK", "SADD", "HDEL", "SREM", "PFADD"]) {
      await expect(redis.call(command, "{cme}:datadog:wait", "a", "b")).rejects.toThrow("NOPERM");
    }
    await expect(redis.eval("return redis.call('DEL', KEYS[1])", 1, "{cme}:datadog:wait")).rejects.toThrow("The user executing the script");
    redis.disconnect();
    await scene.redis.del("{cme}:datadog:wait");
  });

  it("the receiver does not start without its commands or its keys, and says so", async () => {
    const user = userOf("receiver");
    await scene.redis.call("ACL", "SETUSER", user, "-evalsha");
    await expectRefusal("receiver", {}, /NOPERM.*evalsha/);
    await scene.redis.call("ACL", "SETUSER", user, "+evalsha");
    await expectRefusal("receiver", { QUEUE_PREFIX: "{other}" }, /NOPERM.*keys/);
  });
});

describe("in PostgreSQL", () => {
  const NOT_ALLOWED = [
    "DROP TABLE celery_task",
    "TRUNCATE celery_task",
    "DROP TABLE celery_task_event_default",
    "SELECT * FROM celery_task_event_default",
    "DROP TABLE celery_worker",
    "TRUNCATE celery_task_minute",
    "TRUNCATE celery_task_period",
    "UPDATE celery_task_minute_dirty SET minute = now()",
    "DELETE FROM celery_rollup",
    "ALTER TABLE celery_task ADD COLUMN x int",
    "CREATE TABLE x ()",
    "CREATE SCHEMA x",
    "CREATE TEMP TABLE x ()",
    "SELECT * FROM other",
    "SELECT * FROM celery_metrics_exporter_migrations",
    "COPY celery_task TO PROGRAM 'true'",
    "CREATE ROLE x",
  ];

  it("the processor's user may only do its work", async () => {
    await scene.database.query("create table if not exists other ()");
    const client = new Client({ connectionString: scene.databaseUrlOf("cme_processor") });
    await client.connect();
    try {
      for (const statement of NOT_ALLOWED) await expect(client.query(statement), statement).rejects.toThrow(/permission denied|must be/);
    } finally {
      await client.end();
    }
  });

  it.each(["SELECT", "INSERT", "UPDATE"])("the processor does not start without %s, and says so", async (right) => {
    await scene.database.query(scene.sql(`REVOKE ${right} ON celery_task FROM cme_processor`));
    await expectRefusal("postgres-processor", {}, /refused access: permission denied for table celery_task/);
    await scene.database.query(scene.sql(`GRANT ${right} ON celery_task TO cme_processor`));
  });

  it.each([
    ["INSERT ON celery_task_event", /refused access: permission denied for table celery_task_event/],
    [
      "EXECUTE ON FUNCTION celery_task_event_partitions(integer, integer)",
      /refused access: permission denied for function celery_task_event_partitions/,
    ],
  ])("the processor does not start without %s, unless it keeps no history", async (right, message) => {
    await scene.database.query(scene.sql(`REVOKE ${right} FROM cme_processor`));
    await expectRefusal("postgres-processor", {}, message);
    const withoutHistory = await scene.start("postgres-processor", { POSTGRES_HISTORY: "off" });
    await withoutHistory.stop();
    await scene.database.query(scene.sql(`GRANT ${right} TO cme_processor`));
  });

  it.each([
    ["SELECT", "celery_worker"],
    ["INSERT", "celery_worker"],
    ["UPDATE", "celery_worker"],
    ["DELETE", "celery_worker"],
    ["INSERT", "celery_queue_minute"],
    ["UPDATE", "celery_queue_minute"],
    ["DELETE", "celery_queue_minute"],
    ["INSERT", "celery_task_minute"],
    ["UPDATE", "celery_task_minute"],
    ["DELETE", "celery_task_minute"],
    ["INSERT", "celery_task_period"],
    ["UPDATE", "celery_task_period"],
    ["DELETE", "celery_task_period"],
    ["INSERT", "celery_task_minute_dirty"],
    ["DELETE", "celery_task_minute_dirty"],
    ["INSERT", "celery_rollup"],
    ["UPDATE", "celery_rollup"],
    ["INSERT", "celery_listening"],
    ["UPDATE", "celery_listening"],
    ["DELETE", "celery_listening"],
  ])("the processor does not start without %s on %s, and says so", async (right, table) => {
    await scene.database.query(scene.sql(`REVOKE ${right} ON ${table} FROM cme_processor`));
    await expectRefusal("postgres-processor", {}, new RegExp(`refused access: permission denied for table ${table}\\b`));
    await scene.database.query(scene.sql(`GRANT ${right} ON ${table} TO cme_processor`));
  });

  it("the processor does not start with retention and without DELETE, and says so", async () => {
    await scene.database.query(scene.sql("REVOKE DELETE ON celery_task FROM cme_processor"));
    await expectRefusal("postgres-processor", { POSTGRES_RETENTION_DAYS: "1" }, /permission denied for table celery_task/);
    const withoutRetention = await scene.start("postgres-processor");
    await withoutRetention.stop();
    await scene.database.query(scene.sql("GRANT DELETE ON celery_task TO cme_processor"));
  });
});

describe("in RabbitMQ", () => {
  const makes = documentedRabbitmqPermissions("sh receiver that makes its queue");
  const finds = documentedRabbitmqPermissions("sh receiver whose queue an administrator made");
  const LACKING = [
    {
      what: "write to its queue",
      permissions: { ...makes, write: "^$" },
      words: /cannot bind queue .*ACCESS_REFUSED.*celery-metrics-exporter/,
    },
    {
      what: "read the exchange",
      permissions: { ...makes, read: "^celery-metrics-exporter$" },
      words: /cannot bind queue .*ACCESS_REFUSED.*celeryev/,
    },
    {
      what: "read its queue",
      permissions: { ...makes, read: "^celeryev$" },
      words: /cannot read queue .*ACCESS_REFUSED.*celery-metrics-exporter/,
    },
  ];
  let finding: Record<string, string>;
  let lacking: string[];

  beforeAll(async () => {
    const [first = "", ...others] = await scene.vhost.createUsers([finds, ...LACKING.map(({ permissions }) => permissions)]);
    finding = { CELERY_BROKER_URL: first };
    lacking = others;
  });

  // In this order, because the queue does not exist yet.
  it("the receiver does not start without the right to create its queue, and says so", async () => {
    await expectRefusal("receiver", finding, /refused access: cannot declare queue celery-metrics-exporter \(ACCESS_REFUSED/);
  });

  it("the receiver's user may bind again after the exchange was deleted and declared again", async () => {
    const receiver = await scene.start("receiver");
    const connection = await amqp.connect(scene.vhost.url);
    const channel = await connection.createConfirmChannel();
    await channel.deleteExchange("celeryev");
    await channel.assertExchange("celeryev", "topic", { durable: true });
    const received = async (): Promise<string> => {
      channel.publish("celeryev", "task.any", Buffer.from("no event"));
      await channel.waitForConfirms();
      return (await fetch(`${receiver.healthUrl}/metrics`)).text();
    };
    await expect.poll(received, { timeout: 30_000, interval: 200 }).toMatch(/messages_received_total\{broker="rabbitmq"\} [1-9]/);
    await receiver.stop();
    await channel.deleteQueue("celery-metrics-exporter");
    await connection.close();
  });

  it("the receiver waits for an exchange that it may not create, and names it", async () => {
    const connection = await amqp.connect(scene.vhost.url);
    const channel = await connection.createChannel();
    await channel.deleteExchange("celeryev");
    const receiver = await scene.start("receiver");
    const readiness = async (): Promise<string> => (await fetch(`${receiver.healthUrl}/readyz`)).text();
    expect(await readiness()).toContain("waiting for the exchange celeryev");
    await channel.assertExchange("celeryev", "topic", { durable: true });
    await expect.poll(readiness, { timeout: 30_000 }).not.toContain("waiting for");
    await receiver.stop();
    await channel.deleteQueue("celery-metrics-exporter");
    await connection.close();
  });

  it("the receiver uses a queue that an administrator created", async () => {
    const connection = await amqp.connect(scene.vhost.url);
    const channel = await connection.createChannel();
    await channel.assertQueue("celery-metrics-exporter", { durable: true });
    await connection.close();
    const receiver = await scene.start("receiver", finding);
    expect((await fetch(`${receiver.healthUrl}/readyz`)).status).toBe(200);
    await receiver.stop();
  });

  it.each(LACKING.map(({ what, words }, index) => ({ what, words, index })))(
    "the receiver does not start when it may not $what, and says so",
    async ({ words, index }) => {
      await expectRefusal("receiver", { CELERY_BROKER_URL: lacking[index] ?? "" }, words);
    },
  );

  it("the receiver's user may not publish, or create or purge other queues", async () => {
    const connection = await amqp.connect(scene.brokerUrl);
    const steps: ((channel: amqp.Channel) => Promise<unknown>)[] = [
      (channel) => channel.assertQueue("other"),
      (channel) => channel.assertExchange("other", "topic"),
      (channel) => channel.deleteExchange("celeryev"),
      (channel) => channel.consume("others", () => {}),
    ];
    const other = await amqp.connect(scene.vhost.url);
    await (await other.createChannel()).assertQueue("others");
    for (const step of steps) {
      const channel = await connection.createChannel();
      channel.on("error", () => {});
      await expect(step(channel)).rejects.toThrow("ACCESS_REFUSED");
    }
    const channel = await connection.createConfirmChannel();
    const refused = new Promise((resolve) => channel.on("error", resolve));
    channel.publish("celeryev", "task.any", Buffer.from("x"));
    expect(String(await refused)).toContain("ACCESS_REFUSED");
    await connection.close();
    await other.close();
  });
});

describe("of Celery's Redis", () => {
  it("the receiver reads only the channels that it may use", async () => {
    const receiver = await scene.start("receiver", { CELERY_BROKER_URL: `${scene.redisUrlOf("cme-events")}/0` });
    const isReady = async (): Promise<number> => (await fetch(`${receiver.healthUrl}/readyz`)).status;
    await expect.poll(isReady, { timeout: 30_000 }).toBe(200);
    expect(await scene.redis.pubsub("NUMPAT")).toBe(1);
    await expect.poll(() => scene.record.commandsOf("cme-events"), { timeout: 30_000 }).toContain("psubscribe");
    await receiver.stop();

    const heard = await scene.record.commandsOf("cme-events");
    // It sends a probe only occasionally.
    expect([...documentedCommands("redis receiver's broker")].sort()).toEqual([...heard, "ping"].sort());
    const granted = documentedCommands("redis receiver");
    const used = await scene.record.commandsOf(userOf("receiver"));
    expect([...used].filter((command) => !granted.has(command))).toEqual([]);
  });

  it("the receiver does not start without them, and says so", async () => {
    await expectRefusal("receiver", { CELERY_BROKER_URL: `${scene.redisUrlOf("cme-events")}/1` }, /lacks a permission \(NOPERM.*channels/);
  });
});
