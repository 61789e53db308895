/** RabbitMQ 4.2.6 and 4.3.0 require the permission to configure a queue for a passive declaration too: a broker of another release behaves like them. */
import { TcpProxy, createVhost, documentedRabbitmqPermissions, type TestVhost } from "@celery-metrics-exporter/testkit";
import { connect, type Channel, type ChannelModel } from "amqplib";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { KeepAlive } from "../../src/rabbitmq/keep-alive.ts";
import { RabbitmqSource, type RabbitmqOptions } from "../../src/rabbitmq/source.ts";
import { Recorder } from "../../src/testing/index.ts";
import { TOPOLOGY, rabbitmqServers } from "../rabbitmq-harness.ts";
import { testContext, type TestContext } from "../test-context.ts";
import type { Socket } from "node:net";

const { queue, exchange } = TOPOLOGY;

let vhost: TestVhost;
let proxy: TcpProxy;
let administrator: ChannelModel;
let channel: Channel;
let source: RabbitmqSource | undefined;
let context: TestContext;
let recorder: Recorder;
/** Passive declarations that the broker refused. */
let refused: number;

beforeEach(async () => {
  vhost = await createVhost();
  refused = 0;
  source = undefined;
  proxy = await TcpProxy.start(Number(new URL(vhost.url).port), (client, server) => makeActive(client, server, () => (refused += 1)));
  administrator = await connect(vhost.url);
  channel = await administrator.createChannel();
  await channel.assertExchange(exchange, "topic", { durable: true });
});
afterEach(async () => {
  await source?.stop();
  await administrator.close();
  await proxy.stop();
  await vhost.drop();
});

/** For the documented user of a receiver that does not make its queue. */
async function openUrl(): Promise<string> {
  const [url = ""] = await vhost.createUsers([documentedRabbitmqPermissions("sh receiver whose queue an administrator made")]);
  return proxy.inFrontOf(url);
}

async function makeQueue(): Promise<void> {
  await channel.assertQueue(queue, { durable: true, arguments: { "x-queue-type": "quorum" } });
}

async function start(options: Partial<RabbitmqOptions> = {}): Promise<void> {
  context = testContext();
  recorder = new Recorder();
  const servers = rabbitmqServers(await openUrl());
  source = new RabbitmqSource(servers, { ...TOPOLOGY, prefetch: 100, prefetchBytes: 2 ** 25, ...options }, context);
  await source.start(recorder.onMessage);
}

function publish(): void {
  const event = { type: "task-sent", uuid: "1", hostname: "w1@host-a", timestamp: 1 };
  channel.publish(exchange, "task.multi", Buffer.from(JSON.stringify(event)), { contentType: "application/json" });
}

it("reads a queue that an administrator made", async () => {
  await makeQueue();
  await start();
  publish();
  await recorder.waitFor(1);
  expect(refused).toBeGreaterThan(0);
  expect(context.health.report().ready).toBe(true);
});

it("notices during a pause that the queue was deleted", async () => {
  await makeQueue();
  await start({ longPauseMs: 1, quietMs: 200 });
  source?.pause();
  await channel.deleteQueue(queue);
  await vi.waitFor(() => expect(context.health.report().components["broker"]).toMatch(/cannot declare queue/), { timeout: 15_000 });
});

it("keeps the connection while the queue is only checked", async () => {
  await makeQueue();
  const connection = await connect(await openUrl());
  const lost: Error[] = [];
  const keepAlive = new KeepAlive({
    connection,
    topology: TOPOLOGY,
    isConsuming: () => false,
    onLost: (reason) => lost.push(reason),
    maxCheckMs: 50,
  });
  await vi.waitFor(() => expect(lost.length + refused).toBeGreaterThan(3), { timeout: 15_000 });
  keepAlive.stop();
  await connection.close();
  expect(lost).toEqual([]);
});

it("names the queue if it does not exist", async () => {
  await expect(start()).rejects.toThrow(/refused access: cannot declare queue celery-metrics-exporter \(ACCESS_REFUSED/);
});

const PROTOCOL_HEADER = 8;
/** Type, channel and size before a frame's payload, and an end byte after it. */
const FRAME_HEADER = 7;
const METHOD_FRAME = 1;
const QUEUE_DECLARE = Buffer.from([0, 50, 0, 10]);
const PASSIVE = 1;

/** Passes everything on, but makes each passive declaration of a queue an active one: the broker then checks the same permission, and refuses in its own words. */
function makeActive(client: Socket, server: Socket, onMade: () => void): void {
  let left: Buffer = Buffer.alloc(0);
  let isFirst = true;
  client.on("data", (chunk) => {
    left = Buffer.concat([left, chunk]);
    if (isFirst && left.length < PROTOCOL_HEADER) return;
    let at = isFirst ? PROTOCOL_HEADER : 0;
    isFirst = false;
    while (left.length >= at + FRAME_HEADER) {
      const end = at + FRAME_HEADER + left.readUInt32BE(at + 3) + 1;
      if (left.length < end) break;
      const method = left.subarray(at + FRAME_HEADER, end);
      if (left[at] === METHOD_FRAME && method.subarray(0, 4).equals(QUEUE_DECLARE)) {
        // A reserved number and the queue's name, with its length, come first.
        const bits = 7 + (method[6] ?? 0);
        if (((method[bits] ?? 0) & PASSIVE) !== 0) {
          method[bits] = (method[bits] ?? 0) & ~PASSIVE;
          onMade();
        }
      }
      at = end;
    }
    server.write(left.subarray(0, at));
    left = left.subarray(at);
  });
}
