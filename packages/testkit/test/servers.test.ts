import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { Redis } from "ioredis";
import { Client } from "pg";
import { expect, test } from "vitest";
import { createDatabase, createVhost, sharedRabbitmqUrl, sharedRedisUrl, startPostgres, startRedis } from "../src/index.ts";
import { describePrivate, openAmqp } from "./private-server.ts";

async function pingRedis(url: string): Promise<void> {
  const redis = new Redis(url, { lazyConnect: true, maxRetriesPerRequest: 0, retryStrategy: () => null });
  redis.on("error", () => {});
  try {
    await redis.connect();
    await redis.ping();
  } finally {
    redis.disconnect();
  }
}

async function queryPostgres(url: string, sql = "SELECT 1"): Promise<readonly Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

describePrivate("Redis", () => startRedis(), pingRedis);
describePrivate("PostgreSQL", () => startPostgres(), queryPostgres);

test("a Redis with an append-only file keeps its data over a SIGKILL", async () => {
  const server = await startRedis({ args: ["--appendonly", "yes", "--appendfsync", "always"] });
  const before = new Redis(server.url);
  before.on("error", () => {});
  await before.set("key", "kept");
  before.disconnect();
  await server.kill();
  await server.restart();
  const after = new Redis(server.url);
  expect(await after.get("key")).toBe("kept");
  after.disconnect();
  await server.stop();
});

test("a server that cannot start is reported with its output", async () => {
  await expect(startRedis({ args: ["--no-such-option", "1"] })).rejects.toThrow(/no-such-option/);
});

test("RabbitMQ's rabbitmqctl reaches the private node", async () => {
  const vhost = await createVhost();
  await openAmqp(vhost.url);
  await vhost.drop();
  await expect(openAmqp(vhost.url)).rejects.toThrow(/ConnectionClose/);
  await openAmqp(sharedRabbitmqUrl());
});

test("servers and folders are removed when their process is killed", async () => {
  const redis = new URL("../src/services/redis.mjs", import.meta.url).href;
  const program = `import { startRedis } from ${JSON.stringify(redis)};
    const server = await startRedis();
    console.log(JSON.stringify({ port: server.port, folder: server.folder }));
    setInterval(() => {}, 1000);`;
  const parent = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(parent.stdout, "data")) as [Buffer];
  const { port, folder } = JSON.parse(line.toString()) as { port: number; folder: string };
  expect(await listens(port)).toBe(true);
  expect(existsSync(folder)).toBe(true);

  parent.kill("SIGKILL");
  await expect.poll(() => existsSync(folder), { timeout: 10_000 }).toBe(false);
  expect(await listens(port)).toBe(false);
});

test("the shared Redis answers, and each database created on the shared PostgreSQL is empty and separate", async () => {
  await pingRedis(sharedRedisUrl());
  const [one, two] = await Promise.all([createDatabase(), createDatabase()]);
  await queryPostgres(one.url, "CREATE TABLE here (id int)");
  expect(await queryPostgres(two.url, "SELECT to_regclass('here') AS found")).toEqual([{ found: null }]);
  await Promise.all([one.drop(), two.drop()]);
  await expect(queryPostgres(one.url)).rejects.toThrow(/does not exist/);
});

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" });
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}
