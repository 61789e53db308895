/** Every process replaced under load, one after the other, as a rolling deployment does: nothing is delivered or counted twice. */
import { createVhost, type TestVhost } from "@celery-metrics-exporter/testkit";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, it } from "vitest";
import { ROLES } from "../fleet/fleet.ts";
import type { RoleProcess } from "../fleet/role-process.ts";
import { Load, prepareBurst, publishBurst, together, type Truth } from "../load/load.ts";
import { sumOf } from "../fleet/own-metrics.ts";
import { expectAllDone } from "./queues.ts";
import { scaled } from "./scale.ts";
import { startScene, type Scene } from "./scene.ts";
import { expectMetrics, expectRows } from "./truth.ts";

const ROUNDS = scaled(1, 10);
const EVENTS_PER_SECOND = 2_000;
/** Published while a receiver drains: it has then been sent as much as its prefetch allows. */
const FLOOD_EVENTS = 8_000;
const MAX_EVENTS = scaled(12_000, 200_000);
/** The default of SHUTDOWN_TIMEOUT_SECONDS: past it a process ends with 1. */
const DEADLINE_MS = 30_000;
const WITHIN = { timeoutMs: 60_000 };
/**
 * Any of these is work done twice, or given up. Not `messages_redelivered_total`: what a quorum queue has on the way to a consumer that is
 * being cancelled never arrives, and is marked when the next one gets it.
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

/** What a receiver that has ended said it had taken. */
function eventsTaken(receiver: RoleProcess): number {
  const [, taken] = /"eventsTaken":(\d+),.*"msg":"drained"/.exec(receiver.output()) ?? [];
  return Number(taken);
}

it("drains within the deadline, takes no event twice, and leaves every row and every count exact", async () => {
  vhost = await createVhost();
  scene = await startScene({ brokerUrl: vhost.url, processes: { receiver: 2, "datadog-processor": 2, "postgres-processor": 2 } });
  const { fleet, publisher, database, sink, queues } = scene;
  const load = Load.start({ publisher, eventsPerSecond: EVENTS_PER_SECOND, maxEvents: MAX_EVENTS });
  const floods: Truth[] = [];
  const receivers: RoleProcess[] = [];
  let slowestMs = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const role of ROLES.flatMap((name) => [name, name])) {
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
