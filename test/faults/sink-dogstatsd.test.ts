/** The agent: the exporter waits for an absent one, and a running one gets every line, however fast the queue is drained. */
import { createVhost, startStatsdSink, type StatsdSink, type TestVhost, SOAK, scaled } from "@celery-metrics-exporter/testkit";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Load, prepareBurst, publishBurst, type Truth } from "../load/load.ts";
import { sumOf } from "../fleet/own-metrics.ts";
import { readinessOf } from "./readiness.ts";
import { startScene, type Scene } from "./scene.ts";
import { expectMetrics, expectRows } from "./truth.ts";

const EVENTS_PER_SECOND = 2_000;
const EMPTY = { waiting: 0, active: 0, delayed: 0, failed: 0 };
const PATIENCE = { timeout: scaled(60_000, 300_000), interval: 250 };
const WITHIN = { timeoutMs: scaled(60_000, 300_000) };

/** Of both processors. */
const ABSENT = /^{.*No Datadog agent accepts DogStatsD.*\n{.*No Datadog agent accepts DogStatsD/;

let vhost: TestVhost;
let scene: Scene | undefined;
let agent: StatsdSink | undefined;
beforeEach(async () => {
  vhost = await createVhost();
});
afterEach(async () => {
  await scene?.close();
  await agent?.close();
  await vhost.drop();
  scene = undefined;
  agent = undefined;
});

async function publish({ publisher }: Scene, events: number): Promise<Truth> {
  const prepared = prepareBurst(events);
  await publishBurst(publisher, prepared);
  return prepared;
}

async function agentsOf({ fleet }: Scene): Promise<string> {
  const reports = await Promise.all(fleet.processes("datadog-processor").map(readinessOf));
  return reports.map(({ ready, text }) => (ready ? "ready" : text)).join("\n");
}

describe("an absent agent", () => {
  it("pauses sending, as readiness reports, does not affect the other exporter, and gets every sample once it is running", async () => {
    agent = await startStatsdSink();
    const { port } = agent;
    await agent.close();
    agent = undefined;
    const played = await startScene({
      brokerUrl: vhost.url,
      processes: { receiver: 1, "datadog-processor": 2, "postgres-processor": 1 },
      env: { DD_DOGSTATSD_PORT: String(port), DATADOG_GRACE_MS: "200" },
    });
    scene = played;
    const load = Load.start({ publisher: played.publisher, eventsPerSecond: EVENTS_PER_SECOND });
    await expect.poll(() => agentsOf(played), PATIENCE).toMatch(ABSENT);
    await new Promise((resolve) => setTimeout(resolve, scaled(500, 60_000)));
    for (let look = 0; look < 20; look++) expect(await agentsOf(played)).toMatch(ABSENT);
    agent = await startStatsdSink({ port, thread: true });
    await expect.poll(() => agentsOf(played), PATIENCE).toBe("ready\nready");
    const truth = await load.stop();
    await expectRows(played.database, truth, WITHIN);
    await expectMetrics(agent, truth, WITHIN);
    const processors = played.fleet.processes("datadog-processor");
    expect(await sumOf(processors, "batches_split_total")).toBe(0);
    expect(await sumOf(processors, "export_retries_total", { reason: "error" })).toBe(0);
  });
});

describe("a running agent", () => {
  it("gets every sample of a backlog that two processors drain as fast as they can (in the soak with the system's receive buffer)", async () => {
    // A task has 4.2 events on average.
    const events = scaled(25_000, 420_000);
    const played = await startScene({
      brokerUrl: vhost.url,
      processes: { receiver: 1 },
      env: { EXPORTERS: "datadog", DATADOG_GRACE_MS: "200" },
    });
    scene = played;
    // On a machine that is busy with other tests, the cause of a loss would be unclear.
    agent = await startStatsdSink({ thread: !SOAK });
    const truth = await publish(played, events);
    const taken = (): Promise<number> => sumOf(played.fleet.processes("receiver"), "events_received_total");
    await expect.poll(taken, PATIENCE).toBe(truth.events);
    const began = performance.now();
    const env = { DD_DOGSTATSD_PORT: String(agent.port) };
    await Promise.all([played.fleet.add("datadog-processor", env), played.fleet.add("datadog-processor", env)]);
    // While it receives, the agent does nothing else.
    await expect.poll(() => played.queues.contents("datadog"), PATIENCE).toEqual(EMPTY);
    await expect.poll(() => played.queues.contents("datadog-processing"), PATIENCE).toEqual(EMPTY);
    const seconds = (performance.now() - began) / 1_000;
    const sent = await sumOf(played.fleet.processes("datadog-processor"), "datadog_packets_sent_total");
    console.info({
      sent,
      received: agent.packets.length,
      tasks: truth.tasks.length,
      seconds,
      packetsPerSecond: agent.packets.length / seconds,
    });
    await expectMetrics(agent, truth, WITHIN);
  });
});
