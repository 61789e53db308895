/** Large messages while nothing can be stored: the receiver's memory is limited by bytes, whatever the prefetch in messages is. */
import { taskReceived } from "@celery-metrics-exporter/celery/testing";
import { createVhost, SOAK, scaled } from "@celery-metrics-exporter/testkit";
import { expect, it, onTestFinished } from "vitest";
import { residentBytes } from "../fleet/own-metrics.ts";
import type { RoleProcess } from "../fleet/role-process.ts";
import { freeze } from "./frozen-server.ts";
import { messagesIn } from "./rabbitmq-backlog.ts";
import { startScene } from "./scene.ts";

const MEGABYTE = 1e6;
/** In total several times the allowed memory. */
const MESSAGES = scaled(2_500, 8_000);
const FROZEN_MS = scaled(7_000, 12_000);
/** Measured: 193 to 198 MB, 196 without any pause, and more than 400 without the limit. */
const MOST_MEGABYTES = 256;

/** Messages of some 100 KB each. */
const KINDS = [
  {
    kind: "one event with long arguments",
    eventsOf: (message: number) => [taskReceived({ uuid: `task-${message}`, args: "x".repeat(100_000) })],
    everyRun: true,
  },
  {
    kind: "24 events of 4 KB each",
    eventsOf: (message: number) =>
      Array.from({ length: 24 }, (_, event) => taskReceived({ uuid: `task-${message}-${event}`, args: `${message} ${"x".repeat(3_900)}` })),
    everyRun: false,
  },
] as const;

/** Peak memory of a process, in megabytes. */
function watchMemory(process: RoleProcess | undefined): () => number {
  if (process === undefined) throw new Error("no such process");
  let most = 0;
  const timer = setInterval(() => {
    residentBytes(process).then(
      (bytes) => (most = Math.max(most, bytes / MEGABYTE)),
      () => {},
    );
  }, 100);
  onTestFinished(() => clearInterval(timer));
  return () => Math.round(most);
}

it.each(KINDS.filter(({ everyRun }) => everyRun || SOAK))(
  `while Redis hangs, ${MESSAGES} messages of 100 KB arrive, $kind: the receiver does not grow, and every event gets through`,
  async ({ kind, eventsOf }) => {
    const vhost = await createVhost();
    onTestFinished(() => vhost.drop());
    const processes = { receiver: 1, "postgres-processor": 1 };
    const scene = await startScene({ brokerUrl: vhost.url, processes, env: { EXPORTERS: "postgres" } });
    onTestFinished(() => scene.close());
    const [receiver] = scene.fleet.processes("receiver");
    const most = watchMemory(receiver);
    const thaw = await freeze(scene.redis.pid);
    const thawAt = Date.now() + FROZEN_MS;
    let events = 0;
    for (let message = 0; message < MESSAGES; message += 1) {
      const list = eventsOf(message);
      events += list.length;
      await scene.publisher.publish([{ routingKey: "task.multi", hostname: "w1@host-a", body: Buffer.from(JSON.stringify(list)) }]);
    }
    await scene.publisher.confirmed();
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, thawAt - Date.now())));
    thaw();
    const rows = async (): Promise<number | undefined> =>
      (await scene.database.query<{ rows: number }>("select count(*)::int as rows from celery_task")).rows[0]?.rows;
    await expect.poll(rows, { timeout: 120_000, interval: 500 }).toBe(events);
    await expect.poll(() => messagesIn(vhost.url), { timeout: 10_000 }).toBe(0);
    console.info(`${MESSAGES} messages of 100 KB, ${kind}: the receiver took at most ${most()} MB`);
    expect(most()).toBeLessThan(MOST_MEGABYTES);
  },
);
