/** Events from the future in the receiver: rejected, unless nearly all are from the future. */
import { taskSent, taskStarted, workerHeartbeat } from "@celery-metrics-exporter/celery/testing";
import { sharedRabbitmqUrl } from "@celery-metrics-exporter/testkit";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Stage, metricOf } from "./running-receiver.ts";

const WAIT = { timeout: 20_000, interval: 50 };
const DAY_SECONDS = 86_400;
/** The latest timestamp that the decoder accepts is in 2096. */
const FAR = 3_999_999_999;

const now = (): number => Date.now() / 1_000;

/** As a broken sender would send them: one event per message. */
function started(uuid: string, timestamp: number, hostname = "w1@host-a"): string {
  return JSON.stringify(taskStarted({ uuid, timestamp, hostname }));
}

describe("events from the future", { timeout: 60_000 }, () => {
  let stage: Stage;
  beforeEach(async () => {
    stage = new Stage();
    await stage.channel();
  });
  afterEach(async () => {
    await stage.release();
  });

  const idsIn = async (exporter: string): Promise<string[]> =>
    (await stage.events(exporter)).map((event) => String((event as { uuid?: string }).uuid)).sort();
  const warnings = (): string[] => stage.logs.filter(({ msg }) => msg.startsWith("nearly all events")).map(({ msg }) => msg);

  it("are rejected, counted and kept as dead letters, whether they arrive first or last, and the others go through", async () => {
    const running = await stage.startReceiver(sharedRabbitmqUrl());
    await stage.publish([started("first", FAR)]);
    await vi.waitFor(async () => expect(await stage.deadLetters()).toHaveLength(1), WAIT);
    const others = Array.from({ length: 40 }, (_, index) =>
      started(`good-${String(index).padStart(2, "0")}`, now(), `w2@host-${index % 4}`),
    );
    await stage.publish([...others, started("nearly", now() + DAY_SECONDS - 60), started("last", now() + DAY_SECONDS + 60)]);
    const flood = Array.from({ length: 400 }, (_, index) => started(`flood-${index}`, FAR, "broken@host-z"));
    await stage.publish([...flood, JSON.stringify(workerHeartbeat({ timestamp: FAR, hostname: "broken@host-z" }))]);
    await vi.waitFor(async () => expect(await metricOf(running, "events_rejected_total", { reason: "future" })).toBe(403), WAIT);
    for (const exporter of ["postgres", "datadog"]) {
      await vi.waitFor(async () => expect(await idsIn(exporter)).toHaveLength(41), WAIT);
      expect((await idsIn(exporter)).filter((id) => !id.startsWith("good-"))).toEqual(["nearly"]);
    }
    const letters = await stage.deadLetters();
    expect(new Set(letters.map(({ source, reason }) => `${source} ${reason}`))).toEqual(new Set(["receiver future"]));
    expect(letters.map(({ event }) => (event as { uuid?: string } | undefined)?.uuid)).toEqual(
      expect.arrayContaining(["first", "last", "flood-0"]),
    );
    expect(letters[0]?.detail).toContain("2096-10-02T07:06:39.000Z");
    expect(letters[0]?.detail).toContain("w1@host-a");
    expect(warnings()).toEqual([]);
    await running.stop();
    await vi.waitFor(async () => expect(await stage.waiting()).toBe(0), WAIT);
  });

  it("are kept without the values that redaction hides", async () => {
    await stage.startReceiver(sharedRabbitmqUrl(), { REDACT_MODE: "drop" });
    const event = taskSent({ uuid: "secret", args: "('hunter2',)", timestamp: FAR });
    await stage.publish([JSON.stringify(event)]);
    await vi.waitFor(async () => expect(await stage.deadLetters()).toHaveLength(1), WAIT);
    expect((await stage.deadLetters())[0]?.event).toMatchObject({ uuid: "secret", queue: event.queue });
    expect(JSON.stringify(await stage.deadLetters())).not.toContain("hunter2");
  });

  it("are accepted if nearly all events are from the future: then our own clock is wrong, as one warning says, and the receiver stays ready", async () => {
    const running = await stage.startReceiver(sharedRabbitmqUrl());
    const events = Array.from({ length: 400 }, (_, index) => started(String(index), now() + 3 * DAY_SECONDS, `w1@host-${index % 4}`));
    await stage.publish([...events, started("in time", now(), "w1@host-1")]);
    await vi.waitFor(async () => expect(await idsIn("postgres")).toHaveLength(401), WAIT);
    expect(await idsIn("datadog")).toHaveLength(401);
    expect(await metricOf(running, "events_rejected_total")).toBe(0);
    expect(await stage.deadLetters()).toEqual([]);
    expect(warnings()).toHaveLength(1);
    const { ready, components } = running.health.report();
    expect(ready).toBe(true);
    expect(components["clock"]).toContain("nearly all");
  });
});
