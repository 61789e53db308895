/** Every process is replaced under load, one after the other, as in a rolling deployment: nothing is delivered or counted twice. */
import { createVhost, type TestVhost, scaled } from "@celery-metrics-exporter/testkit";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, it } from "vitest";
import type { RoleName } from "../fleet/fleet.ts";
import type { RoleProcess } from "../fleet/role-process.ts";
import { Load, prepareBurst, publishBurst, together, type Truth } from "../load/load.ts";
import { sumOf } from "../fleet/own-metrics.ts";
import { expectAllDone } from "./queues.ts";
import { startScene, type Scene } from "./scene.ts";
import { expectMetrics, expectRows } from "./truth.ts";

const ROUNDS = scaled(1, 10);
const PROCESSES = { receiver: 2, "datadog-processor": 2, "postgres-processor": 2 };
const EVENTS_PER_SECOND = 2_000;
/** Events published while a receiver drains: it then has as many messages as its prefetch allows. */
const FLOOD_EVENTS = 8_000;
const MAX_EVENTS = scaled(12_000, 200_000);
/** The default of SHUTDOWN_TIMEOUT_SECONDS, after which a process exits with 1. */
const DEADLINE_MS = 30_000;
const WITHIN = { timeoutMs: 60_000 };
/**
 * Each of these counts work that was done twice or given up. `messages_redelivered_total` is not among them: a quorum queue marks messages that it
 * has just sent to a cancelled consumer, and that never arrived, when the next consumer gets them.
 */
const REPEATS = ["broker_reconnects_total", "jobs_stalled_total", "batches_split_total", "dead_letters_total", "export_retries_total"];

let vhost: TestVhost | undefined;
let scene: Scene | undefined;

afterEach(async () => {
  await scene?.close();
  await vhost?.drop();
  scene = undefined;
  vhost = undefined;
});

async function expectNoRepeats(processes: readonly RoleProcess[]): Promise<void> {
  const counted = await Promise.all(REPEATS.map(async (name) => [name, await sumOf(processes, name)]));
  expect(Object.fromEntries(counted)).toEqual(Object.fromEntries(REPEATS.map((name) => [name, 0])));
}

/** The number of events that an ended receiver reported as taken. */
function eventsTaken(receiver: RoleProcess): number {
  const [, taken] = /"eventsTaken":(\d+),.*"msg":"drained"/.exec(receiver.output()) ?? [];
  return Number(taken);
}

it("drains within the deadline, takes no event twice, and leaves every row and every count exact", async () => {
  vhost = await createVhost();
  scene = await startScene({ brokerUrl: vhost.url, processes: PROCESSES });
  const { fleet, publisher, database, sink, queues } = scene;
  const load = Load.start({ publisher, eventsPerSecond: EVENTS_PER_SECOND, maxEvents: MAX_EVENTS });
  const floods: Truth[] = [];
  const receivers: RoleProcess[] = [];
  let slowestMs = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const role of Object.keys(PROCESSES).flatMap((name) => [name, name] as RoleName[])) {
      const [victim] = fleet.processes(role);
      if (victim !== undefined) await expectNoRepeats([victim]);
      const flood = prepareBurst(role === "receiver" ? FLOOD_EVENTS : 0, 100 + floods.length);
      const flooding = publishBurst(publisher, flood);
      if (role === "receiver") await sleep(200);
      const began = Date.now();
      expect(await fleet.drain(role), victim?.output()).toBe(0);
      if (role === "receiver" && victim !== undefined) receivers.push(victim);
      slowestMs = Math.max(slowestMs, Date.now() - began);
      await fleet.add(role);
      await flooding;
      floods.push(flood);
    }
  }
  const truth = together(await load.stop(), ...floods);
  await expectMetrics(sink, truth, WITHIN);
  await expectRows(database, truth, WITHIN);
  await expectAllDone(queues, WITHIN.timeoutMs);
  await expectNoRepeats(fleet.processes());
  receivers.push(...fleet.processes("receiver"));
  await fleet.drain("receiver");
  await fleet.drain("receiver");
  expect(
    receivers.map(eventsTaken).reduce((sum, taken) => sum + taken, 0),
    "events taken from RabbitMQ",
  ).toBe(truth.events);
  console.info(`${truth.events} events, ${ROUNDS * 6} drains, the slowest ${slowestMs} ms`);
  expect(slowestMs).toBeLessThan(DEADLINE_MS);
});
