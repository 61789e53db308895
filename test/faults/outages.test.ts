/** Outages of Redis and RabbitMQ under load, by shutdown and by SIGKILL: the flow resumes by itself, and nothing is lost or given up. */
import { startRabbitmq, type RabbitmqServer, scaled } from "@celery-metrics-exporter/testkit";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, it } from "vitest";
import type { RoleProcess } from "../fleet/role-process.ts";
import { Load } from "../load/load.ts";
import { residentBytes, sumOf } from "../fleet/own-metrics.ts";
import { expectReadiness, readiness } from "./readiness.ts";
import { expectAllDone } from "./queues.ts";
import { startScene, type Scene } from "./scene.ts";
import { expectMetrics, expectRows } from "./truth.ts";

const EVENTS_PER_SECOND = 2_000;
const MAX_EVENTS = scaled(15_000, 300_000);
const ROUNDS = scaled(1, 3);
/** How long a server stays away after all processes have noticed. */
const AWAY_MS = scaled(500, 15_000);
/** Takes far less time on a machine that is not busy. */
const NOTICED_MS = 20_000;
const BACK_MS = 60_000;
const WITHIN = { timeoutMs: 60_000 };
/** The design's limit for one process. */
const MAX_RESIDENT_BYTES = 200e6;
/** How a server ends; the short version only uses SIGKILL, the harder case. */
const ENDINGS = scaled(["kill"] as const, ["terminate", "kill"] as const);

let rabbitmq: RabbitmqServer | undefined;
let scene: Scene | undefined;

afterEach(async () => {
  await scene?.close();
  await rabbitmq?.stop();
  scene = undefined;
  rabbitmq = undefined;
});

interface Server {
  terminate(): Promise<void>;
  kill(): Promise<void>;
  start(): Promise<void>;
}

interface Outage {
  readonly server: Server;
  readonly ending: "terminate" | "kill";
  /** The roles that need it. */
  readonly affected: readonly RoleProcess[];
}

/** Takes a server away for a while. When all processes are ready again, resolves with the peak memory of a receiver in that time. */
async function outage({ fleet }: Scene, { server, ending, affected }: Outage): Promise<number> {
  const others = fleet.processes().filter((process) => !affected.includes(process));
  const residents: number[] = [];
  const measure = async (): Promise<void> => {
    for (const receiver of fleet.processes("receiver")) residents.push(await residentBytes(receiver));
  };
  await server[ending]();
  await expectReadiness(affected, false, NOTICED_MS);
  await measure();
  await sleep(AWAY_MS);
  await measure();
  expect(await readiness(others)).toEqual(others.map(() => true));
  expect(await readiness(affected)).toEqual(affected.map(() => false));
  await server.start();
  await expectReadiness(fleet.processes(), true, BACK_MS);
  await measure();
  return Math.max(...residents);
}

it("resumes by itself, with exact rows and counts, no split batch and no dead letter", async () => {
  rabbitmq = await startRabbitmq();
  scene = await startScene({ brokerUrl: rabbitmq.url, processes: { receiver: 2, "datadog-processor": 2, "postgres-processor": 2 } });
  const { fleet, publisher, redis, database, sink, queues } = scene;
  const load = Load.start({ publisher, eventsPerSecond: EVENTS_PER_SECOND, maxEvents: MAX_EVENTS });
  let maxResidentBytes = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const ending of ENDINGS) {
      for (const { server, affected } of [
        { server: redis, affected: fleet.processes() },
        { server: rabbitmq, affected: fleet.processes("receiver") },
      ]) {
        await sleep(1_000);
        maxResidentBytes = Math.max(maxResidentBytes, await outage(scene, { server, ending, affected }));
      }
    }
  }
  const truth = await load.stop();
  await expectRows(database, truth, WITHIN);
  await expectMetrics(sink, truth, WITHIN);
  await expectAllDone(queues, WITHIN.timeoutMs);
  console.info(
    `${truth.events} events over ${2 * ROUNDS * ENDINGS.length} outages; a receiver held at most ${Math.round(maxResidentBytes / 1e6)} MB`,
  );
  expect(await sumOf(fleet.processes(), "batches_split_total")).toBe(0);
  expect(await sumOf(fleet.processes(), "dead_letters_total")).toBe(0);
  expect(maxResidentBytes).toBeLessThan(MAX_RESIDENT_BYTES);
});
