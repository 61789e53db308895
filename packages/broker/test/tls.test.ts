/** TLS on both brokers, against real servers. They require a client certificate, and their own is valid only for `localhost`. */
import {
  addUser,
  certificate,
  setPermissions,
  sharedRabbitmqTlsPort,
  sharedRabbitmqUrl,
  startRabbitmq,
  startRedis,
  type RabbitmqServer,
} from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { connect } from "amqplib";
import { randomUUID } from "node:crypto";
import { copyFileSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { parseBrokerUrl } from "../src/url/broker-url.ts";
import { connectRabbitmq } from "../src/rabbitmq/connection.ts";
import { createEventSource } from "../src/source/sources.ts";
import type { EventSource } from "../src/source/source.ts";
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
  readonly plainUrl: string;
  url(host: string, port: number, query: string): string;
  publish(): Promise<void>;
  stop(): Promise<void>;
}

async function rabbitmq(): Promise<Broker> {
  // A server named by the environment may not support TLS.
  const own = sharedRabbitmqTlsPort() === undefined ? await startRabbitmq() : undefined;
  const plainUrl = own?.url ?? sharedRabbitmqUrl();
  const connection = await connect(plainUrl);
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange(NAME, "topic", { durable: true });
  return {
    tlsPort: own?.tlsPort ?? sharedRabbitmqTlsPort() ?? 0,
    plainUrl,
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
    plainUrl: server.url,
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

  const start = (host: string, query: string): Promise<Recorder> => connectTo(broker.url(host, broker.tlsPort, query));

  async function connectTo(url: string, startupTimeoutMs = 10_000): Promise<Recorder> {
    const parsed = parseBrokerUrl(url);
    if (!parsed.ok) throw new Error(parsed.problem);
    const options = {
      rabbitmq: { ...TOPOLOGY, exchange: NAME, queue: NAME, queueType: "classic", queueExpiresMs: 60_000, prefetch: 10 },
      redis: { exchange: NAME, bufferMaxBytes: 2 ** 20 },
    } as const;
    // Refusals are reported at once, except when a reset loses the alert.
    const source = createEventSource(parsed.url, options, testContext(startupTimeoutMs));
    sources.push(source);
    const recorder = new Recorder();
    await source.start(recorder.onMessage);
    return recorder;
  }

  it("carries events to a client that trusts the authority and sends its certificate", async () => {
    const recorder = await start("localhost", `${AUTHORITY}&${CLIENT}`);
    await broker.publish();
    await recorder.waitFor(1);
    expect(recorder.types).toEqual(["task-started"]);
    for (const message of recorder.messages) message.ack();
  });

  it.each([
    ["another name of the server", "127.0.0.1", `${AUTHORITY}&${CLIENT}&ssl_server_hostname=localhost`],
    ["another host with that check disabled", "127.0.0.1", `${AUTHORITY}&${CLIENT}&ssl_check_hostname=false`],
    ["any server with all checks disabled", "127.0.0.1", `${CLIENT}&ssl_cert_reqs=CERT_NONE`],
  ])("connects to %s", async (_what, host, query) => {
    await expect(start(host, query)).resolves.toBeDefined();
  });

  it.each([
    ["an unknown authority", "localhost", CLIENT, /not trusted.*ssl_ca_certs/],
    ["another authority", "localhost", `ssl_ca_certs=${certificate("other-ca")}&${CLIENT}`, /not trusted.*ssl_ca_certs/],
    ["a certificate for another host", "127.0.0.1", `${AUTHORITY}&${CLIENT}`, /for another host.*ssl_server_hostname/],
    [
      "a certificate for another name than requested",
      "localhost",
      `${AUTHORITY}&${CLIENT}&ssl_server_hostname=other.test`,
      /for another host/,
    ],
    ["a connection without a client certificate", "localhost", AUTHORITY, /requires a client certificate.*ssl_certfile/],
    [
      "a client certificate from another authority",
      "localhost",
      `${AUTHORITY}&ssl_certfile=${certificate("stranger")}&ssl_keyfile=${certificate("stranger-key")}`,
      /does not accept our client certificate.*ssl_certfile/,
    ],
    [
      "the key of another certificate",
      "localhost",
      `${AUTHORITY}&ssl_certfile=${certificate("client")}&ssl_keyfile=${certificate("stranger-key")}`,
      /our client certificate or its key is unusable.*ssl_certfile/,
    ],
    ["a file without a certificate", "localhost", `${AUTHORITY}&ssl_certfile=${certificate("client-key")}`, /is unusable/],
  ])("rejects %s, and says what to set", async (_what, host, query, message) => {
    await expect(start(host, query)).rejects.toMatchObject({ code: "ERR_UNAVAILABLE", message: expect.stringMatching(message) as string });
  });

  it.each(["ssl_ca_certs=/nowhere/ca.pem", "ssl_certfile=/nowhere/client.pem"])("names an unreadable file: %s", async (query) => {
    const path = query.split("=")[1] ?? "";
    const message = expect.stringMatching(new RegExp(`CELERY_BROKER_URL: ssl_.*ENOENT.*${path}`)) as string;
    await expect(start("localhost", query)).rejects.toMatchObject({ code: "ERR_CONFIG_INVALID", message });
  });

  it("names the other scheme if only one end uses TLS", async () => {
    const { protocol, host } = new URL(broker.plainUrl);
    await expect(connectTo(`${protocol}//localhost:${broker.tlsPort}`, 1_000)).rejects.toThrow(
      /perhaps it requires TLS on this port \(use (amqps|rediss):/,
    );
    const mismatch = /perhaps it does not support TLS on this port; if so, use redis:|it does not support TLS on this port/;
    await expect(connectTo(`${protocol.replace(":", "s:")}//${host}`, 6_000)).rejects.toThrow(mismatch);
  });

  it("uses a renewed certificate", async () => {
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

describe("login_method=EXTERNAL", { timeout: 60_000 }, () => {
  let server: RabbitmqServer;

  beforeAll(async () => {
    const config =
      "auth_mechanisms.1 = EXTERNAL\nauth_mechanisms.2 = PLAIN\nauth_mechanisms.3 = AMQPLAIN\nssl_cert_login_from = common_name";
    server = await startRabbitmq({ config, plugins: ["rabbitmq_auth_mechanism_ssl"] });
  }, 120_000);
  afterAll(() => server.stop(), 60_000);

  const open = async (query: string, url = `amqps://localhost:${server.tlsPort}//?${AUTHORITY}&${CLIENT}&`): Promise<void> => {
    const parsed = parseBrokerUrl(url + query);
    if (!parsed.ok || parsed.url.broker !== "rabbitmq") throw new Error("not a URL of RabbitMQ");
    for (const each of parsed.url.servers) await (await connectRabbitmq(each)).close();
  };

  it("logs in as the user in our certificate", async () => {
    await expect(open("login_method=EXTERNAL")).rejects.toThrow(/there is no user with the name in our client certificate/);
    const client = [addUser("client", "unused"), setPermissions("client", "/", { configure: ".*", write: ".*", read: ".*" })];
    await server.evaluate(...client, 'rabbit_auth_backend_internal:delete_user(<<"guest">>, <<"guest">>)');
    await open("login_method=EXTERNAL");
    await expect(open("")).rejects.toThrow(/wrong user or password/);
    await open("login_method=AMQPLAIN", `amqps://client:unused@localhost:${server.tlsPort}//?${AUTHORITY}&${CLIENT}&`);
  });

  it("reports that the broker does not offer it", async () => {
    await server.evaluate("application:set_env(rabbit, auth_mechanisms, ['EXTERNAL'])");
    await expect(open("login_method=PLAIN")).rejects.toThrow(/does not offer the login method PLAIN; set another with \?login_method=/);
    await open("login_method=EXTERNAL");
  });
});
