/** Roles killed at random moments under a steady load: nothing is lost, and the others take over. */
import { createVhost, seededRandom, type TestVhost } from "@celery-metrics-exporter/testkit";
import { afterEach, describe, expect, it } from "vitest";
import type { RoleName } from "../fleet/fleet.ts";
import { Load } from "./load.ts";
import { scaled } from "./scale.ts";
import { startScene, type Scene } from "./scene.ts";
import { expectMetrics, expectRows } from "./truth.ts";

const EVENTS_PER_SECOND = 2_000;
/** Until a killed process' batches are with another one, and done. */
const TAKEOVER_MS = 15_000;
/** A batch of events is at most this many tasks. */
const BATCH_TASKS = 500;

let vhost: TestVhost | undefined;
let scene: Scene | undefined;

afterEach(async () => {
  await scene?.close();
  await vhost?.drop();
  scene = undefined;
  vhost = undefined;
});

describe("killed again and again, and replaced", () => {
  it.each<RoleName>(["receiver", "datadog-processor", "postgres-processor"])("%s", async (role) => {
    vhost = await createVhost();
    scene = await startScene({
      brokerUrl: vhost.url,
      processes: { receiver: 2, "datadog-processor": 2, "postgres-processor": 2 },
    });
    const { fleet, publisher, database, sink } = scene;
    const kills = scaled(2, 20);
    const random = seededRandom(role.length);
    const load = Load.start({ publisher, eventsPerSecond: EVENTS_PER_SECOND });
    for (let kill = 0; kill < kills; kill += 1) {
      await new Promise((resolve) => setTimeout(resolve, 500 + random() * 2_000));
      await fleet.kill(role);
      await fleet.add(role);
    }
    const truth = await load.stop();
    const within = { timeoutMs: 2 * TAKEOVER_MS };
    await expectRows(database, truth, within);
    await expectMetrics(sink, truth, { ...within, doubled: role === "datadog-processor" ? kills * BATCH_TASKS : 0 });
    expect(truth.events).toBeGreaterThan(EVENTS_PER_SECOND);
  });
});
