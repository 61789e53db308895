import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import { connectRabbitmq } from "../../src/rabbitmq/connection.ts";
import { RabbitmqSource } from "../../src/rabbitmq/source.ts";
import { RedisSource } from "../../src/redis/source.ts";
import { SessionKeeper, type Session } from "../../src/source/session-keeper.ts";
import { TOPOLOGY, rabbitmqServers } from "../rabbitmq-harness.ts";
import { redisServers } from "../redis-harness.ts";
import { testContext, type TestContext } from "../test-context.ts";

class TestSession implements Session {
  end: (reason: Error) => void = () => {};
  readonly ended = new Promise<Error>((resolve) => (this.end = resolve));
  async close(): Promise<void> {
    this.end(new Error("closed by us"));
  }
}

/** A broker that accepts `open` while `away` is false. */
class Broker {
  readonly context: TestContext = testContext();
  readonly sessions: TestSession[] = [];
  away = false;
  tries = 0;
  readonly keeper = new SessionKeeper<string, TestSession>({
    name: "RabbitMQ",
    servers: ["amqp://one"],
    open: async () => {
      this.tries += 1;
      if (this.away) throw new Error("ECONNREFUSED");
      const session = new TestSession();
      this.sessions.push(session);
      return session;
    },
    describe: (server) => server,
    startupTimeoutMs: 10_000,
    logger: this.context.logger,
    health: this.context.health.component("broker"),
  });

  get said(): string[] {
    return this.context.logs.map(({ msg }) => msg);
  }

  async triedAgain(times: number): Promise<void> {
    const before = this.tries;
    await vi.waitUntil(() => this.tries >= before + times, 10_000);
  }
}

describe("SessionKeeper", () => {
  it("reports at once what it waits for at startup, and when it is available", async () => {
    const broker = new Broker();
    broker.away = true;
    const started = broker.keeper.start();
    await broker.triedAgain(3);
    broker.away = false;
    await started;
    expect(broker.said).toEqual(["waiting for RabbitMQ", "RabbitMQ is available"]);
    expect(broker.context.logs[0]).toMatchObject({ server: "amqp://one", reason: "ECONNREFUSED" });
    await broker.keeper.stop();
  });

  it("does not log every attempt while the broker is away", async () => {
    const broker = new Broker();
    await broker.keeper.start();
    broker.away = true;
    broker.sessions[0]?.end(new Error("connection closed"));
    await broker.triedAgain(4);
    expect(broker.said).toEqual(["broker connection lost, reconnecting", "broker unreachable, retrying"]);
    expect(broker.context.logs[1]).toMatchObject({ broker: "RabbitMQ", server: "amqp://one", reason: "ECONNREFUSED" });
    broker.away = false;
    await vi.waitFor(() => expect(broker.said.at(-1)).toBe("broker reconnected"), 10_000);
    await broker.keeper.stop();
  });
});

const failure = (starting: Promise<unknown>): Promise<Error> =>
  starting.then(
    () => new Error("unexpected connection"),
    (thrown: Error) => thrown,
  );

describe("a server of another kind", () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
  });

  async function listen(handle: (socket: Socket) => unknown): Promise<number> {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      handle(socket);
      // Without reading, it would not notice that the other end has closed.
      socket.resume();
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return (server.address() as AddressInfo).port;
  }

  it.each<[string, (socket: Socket) => unknown]>([
    ["an HTTP server", (socket) => socket.once("data", () => socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))],
    ["a mail server", (socket) => socket.write("220 mail.example.com ESMTP\r\n")],
  ])("is reported at once in place of RabbitMQ: %s", async (_, handle) => {
    const url = `amqp://127.0.0.1:${await listen(handle)}//`;
    const source = new RabbitmqSource(rabbitmqServers(url), { ...TOPOLOGY, prefetch: 1 }, testContext(60_000));
    const error = await failure(source.start(() => {}));
    await source.stop();
    expect(error).toBeInstanceOf(UnavailableError);
    expect(error.message).toMatch(
      /^Cannot use RabbitMQ at amqp:.*: a server other than RabbitMQ listens there\. Correct CELERY_BROKER_URL\.$/,
    );
  });

  it("is suspected in place of RabbitMQ if the server does not answer, like a Redis", async () => {
    const [server] = rabbitmqServers(`amqp://127.0.0.1:${await listen(() => {})}//`);
    if (server === undefined) throw new Error("no server");
    expect((await failure(connectRabbitmq(server))).message).toMatch(
      /accepts connections but does not answer.*a server other than RabbitMQ/,
    );
  });

  it.each<[string, (socket: Socket) => unknown]>([
    ["an HTTP server", (socket) => socket.once("data", () => socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))],
    ["a RabbitMQ", (socket) => socket.once("data", () => socket.end("AMQP\0\0\x09\x01"))],
  ])("is reported at once in place of Redis: %s", async (_, handle) => {
    const url = `redis://127.0.0.1:${await listen(handle)}/0`;
    const source = new RedisSource(redisServers(url), { bufferMaxBytes: 1_000 }, testContext(60_000));
    const error = await failure(source.start(() => {}));
    await source.stop();
    expect(error.message).toMatch(/^Cannot use Redis at redis:.*: a server other than Redis listens there\. Correct CELERY_BROKER_URL\.$/);
  });
});
