/** Deliveries that are not acknowledged: by receivers that crash, and for a long time. */
import { TcpProxy, createVhost, documentedRabbitmqPermissions, type TestVhost } from "@celery-metrics-exporter/testkit";
import { connect, type ChannelModel, type ConfirmChannel } from "amqplib";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { RabbitmqSource } from "../../src/rabbitmq/source.ts";
import { isSince, rabbitmqVersion } from "../../src/rabbitmq/version.ts";
import { Recorder } from "../../src/testing/index.ts";
import { TOPOLOGY, publishEvents, rabbitmqServers } from "../rabbitmq-harness.ts";
import { testContext, type TestContext } from "../test-context.ts";

const { queue, exchange } = TOPOLOGY;
const EVENTS = 10;
/** RabbitMQ 4 drops a message that was delivered more than 20 times, from a quorum queue that was declared without a limit. */
const CRASHES = 25;

let vhost: TestVhost;
let administrator: ChannelModel;
let channel: ConfirmChannel;
let context: TestContext;
let recorder: Recorder;
const releases: (() => Promise<void>)[] = [];

beforeEach(async () => {
  vhost = await createVhost();
  administrator = await connect(vhost.url);
  channel = await administrator.createConfirmChannel();
  await channel.assertExchange(exchange, "topic", { durable: true });
});
afterEach(async () => {
  for (const release of releases.splice(0).reverse()) await release();
  await administrator.close();
  await vhost.drop();
});

async function start(url: string): Promise<RabbitmqSource> {
  context = testContext();
  recorder = new Recorder();
  const source = new RabbitmqSource(rabbitmqServers(url), { ...TOPOLOGY, prefetch: 100 }, context);
  releases.push(() => source.stop());
  await source.start(recorder.onMessage);
  return source;
}

/** Like an administrator. */
async function makeQueue(type: "quorum" | "classic"): Promise<void> {
  await channel.assertQueue(queue, { durable: true, arguments: { "x-queue-type": type } });
}

/** Longer than the shortest time after which a broker cancels a consumer that does not acknowledge. */
async function holdOneEvent(): Promise<void> {
  await publishEvents(channel, 1, "held");
  await recorder.waitFor(1);
  await sleep(1_500);
}

it("loses nothing when receivers crash 25 times with the same messages", async () => {
  const first = await start(vhost.url);
  await first.stop();
  await publishEvents(channel, EVENTS, "custom");
  const proxy = await TcpProxy.start(Number(new URL(vhost.url).port));
  releases.push(() => proxy.stop());
  for (let crash = 1; crash <= CRASHES; crash++) await crashWithDeliveries(proxy);
  await start(vhost.url);
  await recorder.waitFor(EVENTS);
  expect(new Set(recorder.types).size).toBe(EVENTS);
  for (const message of recorder.messages) message.ack();
});

/** To the broker, a client that takes all messages and disappears is a receiver that crashes. */
async function crashWithDeliveries(proxy: TcpProxy): Promise<void> {
  const connection = await connect(proxy.inFrontOf(vhost.url));
  connection.on("error", () => {});
  const consuming = await connection.createChannel();
  consuming.on("error", () => {});
  let taken = 0;
  await consuming.consume(queue, () => (taken += 1));
  await vi.waitFor(() => expect(taken).toBe(EVENTS), { timeout: 10_000 });
  proxy.cut();
}

it("counts a gap when the queue of an administrator is deleted while a delivery is held for long", async () => {
  await makeQueue("quorum");
  const [url = ""] = await vhost.createUsers([documentedRabbitmqPermissions("sh receiver whose queue an administrator made")]);
  await start(url);
  await holdOneEvent();
  await channel.deleteQueue(queue);
  await vi.waitFor(() => expect(context.health.report().components["broker"]).toMatch(/cannot declare queue/), { timeout: 15_000 });
  await makeQueue("quorum");
  await vi.waitFor(async () => expect(await context.metric("broker_gaps_total")).toBe(1), { timeout: 15_000 });
});

it("counts a gap when the queue is declared again at once while a delivery is held for long, except on RabbitMQ 4.3", async () => {
  await makeQueue("classic");
  await start(vhost.url);
  await holdOneEvent();
  await channel.deleteQueue(queue);
  await makeQueue("classic");
  // Since 4.3 the receiver cannot tell this from a late acknowledgement.
  const gaps = isSince("4.3", rabbitmqVersion(administrator)) ? 0 : 1;
  await vi.waitFor(async () => expect(await context.metric("broker_gaps_total")).toBe(gaps), { timeout: 15_000 });
});
