/** A process that asks the workers leaves nothing on the broker, however it ends. */
import { createVhost, scaled, startCeleryWorker, startProgram, startRedis, type RunningProgram } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { fileURLToPath } from "node:url";
import { afterEach, expect, it } from "vitest";

const ASKING = fileURLToPath(new URL("fixtures/asking.mjs", import.meta.url));
/** RabbitMQ answers a round in some 100 ms, Redis in a few. */
const ROUNDS = { Redis: 1_000, RabbitMQ: scaled(100, 1_000) } as const;

/** A worker starts in 3 s, and in a minute on a busy machine. */
const TIMEOUT_MS = scaled(240_000, 900_000);

const releases: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
});

async function startWorker(brokerUrl: string): Promise<void> {
  const worker = await startCeleryWorker({ brokerUrl, app: "inspected", queues: ["default"], pool: "solo" });
  releases.push(() => worker.kill());
}

/** Asks for a number of rounds, all of which are answered, and is killed in the middle of one. */
async function askAndDie(brokerUrl: string, count: number): Promise<void> {
  const program: RunningProgram = startProgram(process.execPath, [ASKING], { env: { BROKER_URL: brokerUrl } });
  const rounds = (): string[] => program.output().split("\n").slice(0, -1);
  await expect.poll(() => rounds().length, { timeout: scaled(180_000, 600_000), interval: 1 }).toBeGreaterThan(count);
  program.signal("SIGKILL");
  await program.exitCode;
  expect(new Set(rounds())).toEqual(new Set(["1"]));
}

it(
  "on Redis: no key stays, not even with the replies that nobody took",
  async () => {
    const server = await startRedis();
    const redis = new Redis(server.url);
    releases.push(
      () => server.stop(),
      () => redis.disconnect(),
    );
    await startWorker(server.url);
    const keys = async (): Promise<string[]> => (await redis.keys("*")).sort();
    const before = await keys();
    await askAndDie(server.url, ROUNDS.Redis);
    const [key = ""] = (await keys()).filter((name) => !before.includes(name));
    expect(key).toBe("asking.reply.celery.pidbox");
    expect(await redis.ttl(key)).toBeGreaterThan(0);
    expect(await redis.llen(key)).toBeLessThan(10);
    await expect.poll(keys).toEqual(before);
  },
  TIMEOUT_MS,
);

it(
  "on RabbitMQ: no queue and no binding stays",
  async () => {
    const vhost = await createVhost();
    releases.push(() => vhost.drop());
    await startWorker(vhost.url);
    const [queues, bindings] = [await vhost.list("queues"), await vhost.list("bindings")];
    expect(queues).toContain("default");
    await askAndDie(vhost.url, ROUNDS.RabbitMQ);
    await expect.poll(() => vhost.list("queues")).toEqual(queues);
    expect(await vhost.list("bindings")).toEqual(bindings);
  },
  TIMEOUT_MS,
);
