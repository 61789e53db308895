import { addUser, setPermissions, startRabbitmq, type RabbitmqServer } from "@celery-metrics-exporter/testkit";
import { connect } from "amqplib";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { RabbitmqSource } from "../../src/rabbitmq/source.ts";
import { Recorder } from "../../src/testing/index.ts";
import { TOPOLOGY, publishEvents, rabbitmqServers } from "../rabbitmq-harness.ts";
import { testContext, type TestContext } from "../test-context.ts";

const OUTAGE = 120_000;
const permit = (pattern: string): string => setPermissions("guest", "shop", { configure: pattern, write: pattern, read: pattern });
const ADD_VHOST = `rabbit_vhost:add(<<"shop">>, <<"test">>), ${permit(".*")}`;
const CLOSE_ALL = `rabbit_networking:close_connections([P || P <- rabbit_networking:connections()], "test")`;

/** RabbitMQ 3.10 loses a quorum queue that is only seconds old when it is killed. Its consumers then wait forever. */
const outgrowYouth = (): Promise<void> => sleep(5_000);

describe("RabbitmqSource during outages of the broker", { timeout: OUTAGE }, () => {
  let server: RabbitmqServer;
  let source: RabbitmqSource;
  let context: TestContext;
  let recorder: Recorder;

  beforeAll(async () => {
    server = await startRabbitmq();
  }, OUTAGE);
  afterAll(async () => {
    await server.stop();
  }, OUTAGE);
  afterEach(async () => {
    await source.stop();
  });

  async function start(queue: string, url = server.url): Promise<void> {
    context = testContext();
    recorder = new Recorder();
    source = new RabbitmqSource(rabbitmqServers(url), { ...TOPOLOGY, queue, prefetch: 2_000, quietMs: 500 }, context);
    await source.start(recorder.onMessage);
  }

  async function publish(count: number, prefix: string): Promise<void> {
    const connection = await connect(server.url);
    const channel = await connection.createConfirmChannel();
    await publishEvents(channel, count, prefix);
    await connection.close();
  }

  const setTimeouts = async (timeoutMs: number, tickMs: number): Promise<unknown> =>
    server.evaluate(
      `[application:set_env(rabbit, K, V) || {K, V} <- [{consumer_timeout, ${timeoutMs}}, {channel_tick_interval, ${tickMs}}]]`,
    );

  const broker = (): string | undefined => context.health.report().components["broker"];
  const ready = (): boolean => context.health.report().ready;

  it("recovers when the broker closes its channel, and gets the message again", async () => {
    // A consumer that does not acknowledge for this long loses its channel, or is cancelled (RabbitMQ 4.3). The broker checks every tick.
    await setTimeouts(2_000, 500);
    await start("timeouts");
    await publish(1, "slow");
    await recorder.waitFor(2, 30_000);
    recorder.messages[1]?.ack();
    expect(recorder.types).toEqual(["task-slow0", "task-slow0"]);
    expect(context.logs).toContainEqual(
      expect.objectContaining({ msg: "broker connection lost, reconnecting", reason: expect.stringContaining("timed out") as string }),
    );
    await vi.waitFor(() => expect(ready()).toBe(true), { timeout: 10_000 });
    // The queue was not deleted.
    expect(await context.metric("broker_gaps_total")).toBe(0);
    await setTimeouts(1_800_000, 60_000);
  });

  it.each([
    ["all at once", 0],
    ["one by one", 1],
  ])("has everything acknowledged before it closes, although its queue is slow to apply it: %s", async (_, ticks) => {
    const queue = `slow-queue-${ticks}`;
    await start(queue);
    await publish(200, "slow");
    await recorder.waitFor(200);
    // While 32 acknowledgements to a quorum queue are pending, the channel holds back further ones.
    await server.evaluate(
      `Q = whereis('%2F_${queue}'), spawn(fun() -> sys:suspend(Q), timer:sleep(2500), sys:resume(Q) end), timer:sleep(100)`,
    );
    for (const message of recorder.messages) {
      message.ack();
      if (ticks > 0) await Promise.resolve();
    }
    await source.stop();
    await start(queue);
    await publish(1, "next");
    await recorder.waitFor(1);
    expect(recorder.types).toEqual(["task-next0"]);
    recorder.messages[0]?.ack();
  });

  it("hands over buffered messages while the broker is away, and gets them again afterwards", async () => {
    await start("in-hand");
    await outgrowYouth();
    source.pause();
    await publish(100, "hand");
    await vi.waitFor(async () => expect(await context.metric("broker_unacked_messages")).toBe(100), { timeout: 10_000 });
    await server.kill();
    await vi.waitFor(() => expect(ready()).toBe(false), { timeout: 10_000 });
    source.resume();
    await recorder.waitFor(100);
    await server.restart();
    await recorder.waitFor(200, 60_000);
    expect(new Set(recorder.types).size).toBe(100);
    for (const message of recorder.messages.slice(100)) message.ack();
  });

  it("continues and connects while an alarm keeps RabbitMQ from accepting messages", async () => {
    await start("alarm");
    await publish(5, "before");
    await recorder.waitFor(5);
    await server.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.0001)");
    for (const message of recorder.messages) message.ack();
    await source.drain();
    await source.stop();
    await start("alarm");
    expect(ready()).toBe(true);
    await server.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4)");
    await publish(1, "after");
    await recorder.waitFor(1, 30_000);
    expect(recorder.types).toEqual(["task-after0"]);
    recorder.messages[0]?.ack();
  });

  it("reports that its virtual host is gone or forbidden, and recovers when it is available again", async () => {
    await server.evaluate(ADD_VHOST);
    await start("away", `${server.url}/shop`);
    await server.evaluate('rabbit_vhost:delete(<<"shop">>, <<"test">>)');
    await vi.waitFor(() => expect(broker()).toMatch(/virtual host "shop" does not exist/), { timeout: 15_000 });
    expect(await context.metric("broker_reconnects_total")).toBe(1);
    await server.evaluate(ADD_VHOST);
    await vi.waitFor(() => expect(broker()).toBe("up"), { timeout: 15_000 });
    expect(await context.metric("broker_gaps_total")).toBe(1);
    await server.evaluate('rabbit_vhost_limit:set(<<"shop">>, [{<<"max-connections">>, 0}], <<"test">>)', CLOSE_ALL);
    await vi.waitFor(() => expect(broker()).toMatch(/connection limit/), { timeout: 15_000 });
    await server.evaluate('rabbit_vhost_limit:clear(<<"shop">>, <<"test">>)', permit(""));
    await vi.waitFor(() => expect(broker()).toMatch(/^cannot .*ACCESS_REFUSED/), { timeout: 15_000 });
    await server.evaluate(permit(".*"));
    await vi.waitFor(() => expect(broker()).toBe("up"), { timeout: 15_000 });
    expect(await context.metric("broker_reconnects_total")).toBe(2);
    expect(await context.metric("broker_gaps_total")).toBe(1);
  });

  it("continues to read but is not ready when the permission to bind is revoked", async () => {
    await start("binding");
    await source.stop();
    const mayBind = setPermissions("binder", "/", { configure: "^$", write: "^binding$", read: ".*" });
    await server.evaluate(addUser("binder", "secret"), mayBind);
    await start("binding", server.url.replace("guest:guest", "binder:secret"));
    await server.evaluate(setPermissions("binder", "/", { configure: "^$", write: "^$", read: ".*" }));
    const events = (): string | undefined => context.health.report().components["events"];
    await vi.waitFor(() => expect(events()).toMatch(/cannot bind queue binding to exchange celeryev \(ACCESS_REFUSED/), {
      timeout: 15_000,
    });
    await publish(1, "read");
    await recorder.waitFor(1);
    recorder.messages[0]?.ack();
    await server.evaluate(mayBind);
    await vi.waitFor(() => expect(ready()).toBe(true), { timeout: 15_000 });
    expect(await context.metric("broker_gaps_total")).toBe(0);
  });

  it("works without the permission to declare if the queue exists, and names the queue if it does not", async () => {
    await start("permissions");
    await source.stop();
    await server.evaluate(addUser("reader", "secret"));
    await server.evaluate(setPermissions("reader", "/", { configure: "^nothing$", write: "^permissions$", read: ".*" }));
    const url = server.url.replace("guest:guest", "reader:secret");
    await start("permissions", url);
    await publish(1, "read");
    await recorder.waitFor(1);
    recorder.messages[0]?.ack();
    await source.stop();
    await expect(start("forbidden", url)).rejects.toThrow(/refused access: cannot declare queue forbidden \(ACCESS_REFUSED.*reader/);
  });

  it.each([
    ["is restarted", () => Promise.resolve()],
    ["is killed", () => server.kill()],
  ])("loses nothing when the broker %s", async (how, kill) => {
    const queue = how.replace(" ", "-");
    await start(queue);
    await source.stop();
    await outgrowYouth();
    await publish(500, "kept");
    await start(queue);
    await recorder.waitFor(500);
    for (const message of recorder.messages.slice(0, 100)) message.ack();
    await sleep(200);
    await kill();
    const restarted = server.restart();
    await vi.waitFor(() => expect(ready()).toBe(false), { timeout: 10_000 });
    await restarted;
    await vi.waitFor(() => expect(ready()).toBe(true), { timeout: 60_000 });
    await recorder.waitFor(900, 30_000);
    await publish(1, "after");
    await recorder.waitFor(901);
    for (const message of recorder.messages) message.ack();
    expect(new Set(recorder.types).size).toBe(501);
  });
});
