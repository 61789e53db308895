/** Real Celery with each broker, and several processes per role: rows and metrics agree with what Celery did. */
import { createVhost, driveShop, startRedis, type RedisServer } from "@celery-metrics-exporter/testkit";
import { afterEach, describe, it } from "vitest";
import { expectTruth, startDeployment, type Deployment } from "./deployment.ts";

let deployment: Deployment | undefined;
const cleanups: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  await deployment?.close();
  deployment = undefined;
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function brokerUrl(broker: string): Promise<string> {
  if (broker === "RabbitMQ") {
    const vhost = await createVhost();
    cleanups.push(() => vhost.drop());
    return vhost.url;
  }
  const redis: RedisServer = await startRedis();
  cleanups.push(() => redis.stop());
  return `${redis.url}/2`;
}

describe.each([
  ["RabbitMQ", 2],
  ["Redis", 1],
])("a shop on %s", (broker, receivers) => {
  it("results in the right rows and metrics", async () => {
    deployment = await startDeployment({ brokerUrl: await brokerUrl(broker), receivers, processors: 2 });
    const truth = await driveShop({ ...deployment, count: 300, rate: 100, revoke: true, seed: 7 });
    await expectTruth(deployment, truth);
  });
});
