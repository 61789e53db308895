/** TLS on both brokers, against the servers themselves: they want a client's certificate, and their own names `localhost` only. */
import { certificate, sharedRabbitmqTlsPort, sharedRabbitmqUrl, startRabbitmq, startRedis } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { connect } from "amqplib";
import { randomUUID } from "node:crypto";
import { copyFileSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { parseBrokerUrl } from "../src/broker-url.ts";
import { createEventSource } from "../src/sources.ts";
import type { EventSource } from "../src/source.ts";
import { Recorder } from "../src/testing/index.ts";
import { TOPOLOGY } from "./rabbitmq-harness.ts";
import { envelope } from "./redis-harness.ts";
import { testContext } from "./test-context.ts";

const BODY = JSON.stringify({ type: "task-started", uuid: "1", hostname: "w1@host-a", timestamp: 1_795_328_908.5 });
const AUTHORITY = `ssl_ca_certs=${certificate("ca")}`;
const CLIENT = `ssl_certfile=${certificate("client")}&ssl_keyfile=${certificate("client-key")}`;
const NAME = `tls-${randomUUID()}`;

interface Broker {
  readonly tlsPort: number;
  url(host: string, port: number, query: string): string;
  publish(): Promise<void>;
  stop(): Promise<void>;
}

async function rabbitmq(): Promise<Broker> {
  // One that the environment names may speak no TLS.
  const own = sharedRabbitmqTlsPort() === undefined ? await startRabbitmq() : undefined;
  const plainUrl = own?.url ?? sharedRabbitmqUrl();
  const connection = await connect(plainUrl);
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange(NAME, "topic", { durable: true });
  return {
    tlsPort: own?.tlsPort ?? sharedRabbitmqTlsPort() ?? 0,
    url: (host, port, query) => `amqps://guest:guest@${host}:${port}//?${query}`,
    publish: async () => {
      channel.publish(NAME, "task.multi", Buffer.from(BODY), { contentType: "application/json", contentEncoding: "utf-8" });
      await channel.waitForConfirms();
    },
    stop: async () => {
      await channel.deleteQueue(NAME);
      await channel.deleteExchange(NAME);
      await connection.close();
      await own?.stop();
    },
  };
}

async function redis(): Promise<Broker> {
  const server = await startRedis({ tls: true });
  const publisher = new Redis(server.url);
  return {
    tlsPort: server.tlsPort,
    url: (host, port, query) => `rediss://${host}:${port}/0?${query}`,
    publish: async () => void (await publisher.publish(`/0.${NAME}/task.multi`, envelope(BODY))),
    stop: async () => {
      await publisher.quit();
      await server.stop();
    },
  };
}

describe.each([
  ["amqps", rabbitmq],
  ["rediss", redis],
])("%s", (_, startBroker) => {
  let broker: Broker;
  const sources: EventSource[] = [];

  beforeAll(async () => {
    broker = await startBroker();
  });
  afterEach(async () => {
    await Promise.all(sources.splice(0).map((source) => source.stop()));
  });
  afterAll(() => broker.stop());

  async function start(host: string, query: string): Promise<Recorder> {
    const parsed = parseBrokerUrl(broker.url(host, broker.tlsPort, query));
    if (!parsed.ok) throw new Error(parsed.problem);
    const options = {
      rabbitmq: { ...TOPOLOGY, exchange: NAME, queue: NAME, queueType: "classic", queueExpiresMs: 60_000, prefetch: 10 },
      redis: { exchange: NAME, bufferMaxBytes: 2 ** 20 },
    } as const;
    // A refusal is told at once, but for one whose words are lost in a reset.
    const source = createEventSource(parsed.url, options, testContext(10_000));
    sources.push(source);
    const recorder = new Recorder();
    await source.start(recorder.onMessage);
    return recorder;
  }

  it("carries events to a client that trusts the authority and shows its certificate", async () => {
    const recorder = await start("localhost", `${AUTHORITY}&${CLIENT}`);
    await broker.publish();
    await recorder.waitFor(1);
    expect(recorder.types).toEqual(["task-started"]);
    for (const message of recorder.messages) message.ack();
  });

  it.each([
    ["another name that the server is known by", "127.0.0.1", `${AUTHORITY}&${CLIENT}&ssl_server_hostname=localhost`],
    ["another host with that check off", "127.0.0.1", `${AUTHORITY}&${CLIENT}&ssl_check_hostname=false`],
    ["anyone with all checks off", "127.0.0.1", `${CLIENT}&ssl_cert_reqs=CERT_NONE`],
  ])("connects to %s", async (_what, host, query) => {
    await expect(start(host, query)).resolves.toBeDefined();
  });

  it.each([
    ["an authority that is not named", "localhost", CLIENT, /not trusted.*ssl_ca_certs/],
    ["another authority", "localhost", `ssl_ca_certs=${certificate("other-ca")}&${CLIENT}`, /not trusted.*ssl_ca_certs/],
    ["a certificate for another host", "127.0.0.1", `${AUTHORITY}&${CLIENT}`, /for another host.*ssl_server_hostname/],
    ["another name than was asked for", "localhost", `${AUTHORITY}&${CLIENT}&ssl_server_hostname=other.test`, /for another host/],
    ["to go without a certificate", "localhost", AUTHORITY, /wants a certificate of ours.*ssl_certfile/],
    [
      "a certificate of ours from another authority",
      "localhost",
      `${AUTHORITY}&ssl_certfile=${certificate("stranger")}&ssl_keyfile=${certificate("stranger-key")}`,
      /does not accept our certificate.*ssl_certfile/,
    ],
    [
      "a key that belongs to another certificate",
      "localhost",
      `${AUTHORITY}&ssl_certfile=${certificate("client")}&ssl_keyfile=${certificate("stranger-key")}`,
      /our certificate or its key cannot be used.*ssl_certfile/,
    ],
    ["a file that holds no certificate", "localhost", `${AUTHORITY}&ssl_certfile=${certificate("client-key")}`, /cannot be used/],
  ])("refuses %s, and says what to set", async (_what, host, query, message) => {
    await expect(start(host, query)).rejects.toMatchObject({ code: "ERR_UNAVAILABLE", message: expect.stringMatching(message) as string });
  });

  it.each(["ssl_ca_certs=/nowhere/ca.pem", "ssl_certfile=/nowhere/client.pem"])("names a file that cannot be read: %s", async (query) => {
    const path = query.split("=")[1] ?? "";
    const message = expect.stringMatching(new RegExp(`CELERY_BROKER_URL: ssl_.*ENOENT.*${path}`)) as string;
    await expect(start("localhost", query)).rejects.toMatchObject({ code: "ERR_CONFIG_INVALID", message });
  });

  it("uses a certificate that was renewed", async () => {
    const folder = mkdtempSync(join(tmpdir(), "celery-metrics-exporter-tls-"));
    const file = join(folder, "authority.pem");
    const query = `ssl_ca_certs=${file}&${CLIENT}`;
    copyFileSync(certificate("other-ca"), file);
    await expect(start("localhost", query)).rejects.toThrow(/not trusted/);
    writeFileSync(file, "");
    copyFileSync(certificate("ca"), file);
    await expect(start("localhost", query)).resolves.toBeDefined();
  });
});
