/** A receiver that is frozen, like a virtual machine that is paused, hears nothing, and must not say that it listened. */
import { createVhost, startRedis } from "@celery-metrics-exporter/testkit";
import { Worker } from "bullmq";
import { Redis } from "ioredis";
import { setTimeout as sleep } from "node:timers/promises";
import { it } from "vitest";
import { Fleet } from "../fleet/fleet.ts";

/** Longer than a hesitation, and shorter than a broker's patience. */
const FROZEN_MS = 12_000;
const WAIT = { timeout: 60_000, interval: 100 };

interface Report {
  readonly type: string;
  readonly since: number;
  readonly timestamp: number;
}

it.concurrent.for(["RabbitMQ", "Redis"])(
  "a frozen receiver does not say that it listened meanwhile: %s",
  { timeout: 120_000 },
  async (kind, { expect, onTestFinished }) => {
    const releases: (() => Promise<unknown>)[] = [];
    onTestFinished(async () => {
      for (const release of releases.toReversed()) await release();
    });
    const [redis, vhost] = await Promise.all([startRedis(), createVhost()]);
    releases.push(
      () => redis.stop(),
      () => vhost.drop(),
    );
    const brokerUrl = kind === "Redis" ? redis.url : vhost.url;
    const fleet = await Fleet.start({
      env: { CELERY_BROKER_URL: brokerUrl, REDIS_URL: redis.url, EXPORTERS: "postgres" },
      processes: { receiver: 1 },
    });
    releases.push(() => fleet.stop());
    const connection = new Redis(redis.url, { maxRetriesPerRequest: null });
    const reports: Report[] = [];
    const take = ({ data }: { data: { observations?: readonly Report[] } }): Promise<void> => {
      reports.push(...(data.observations ?? []).filter(({ type }) => type === "listened"));
      return Promise.resolve();
    };
    const worker = new Worker("postgres", take, { connection, prefix: "{cme}", removeOnComplete: { count: 0 } });
    releases.push(
      () => Promise.resolve(connection.disconnect()),
      () => worker.close(),
    );

    await expect.poll(() => reports.length, WAIT).toBeGreaterThan(0);
    const [receiver] = fleet.processes("receiver");
    receiver?.child.kill("SIGSTOP");
    const frozenAt = Date.now() / 1_000;
    await sleep(FROZEN_MS);
    const before = reports.length;
    const continuedAt = Date.now() / 1_000;
    receiver?.child.kill("SIGCONT");
    await expect.poll(() => reports.length, WAIT).toBeGreaterThan(before + 1);
    for (const { since, timestamp } of reports) {
      const heard = Math.max(0, Math.min(timestamp, continuedAt) - Math.max(since, frozenAt));
      expect(heard, `from ${since - frozenAt} to ${timestamp - frozenAt} s`).toBeLessThan(1);
    }
  },
);
