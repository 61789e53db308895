import { DeadLetters, RECEIVER, type DeadLetter } from "@celery-metrics-exporter/pipeline";
import { Metrics, createLogger } from "@celery-metrics-exporter/runtime";
import { afterAll, afterEach, expect, it } from "vitest";
import { startDashboard, stopRedis, type Harness } from "./harness.ts";

let harness: Harness | undefined;

afterEach(async () => {
  await harness?.stop();
});
afterAll(stopRedis);

const event = { type: "task-received", uuid: "u1", hostname: "celery@a", timestamp: 1, name: "shop.pay", args: "('4111 1111',)" };

const REFUSED: DeadLetter = {
  source: "postgres",
  reason: "refused",
  detail: "PostgreSQL refuses the data: invalid input value for enum x: ('4111 1111',) (SQLSTATE 22P02)",
  event,
};

/** The dead letter of an event, as the page receives it. */
async function shownLetter(settings: Readonly<Record<string, string>>, letter: DeadLetter = REFUSED): Promise<unknown> {
  const running = await startDashboard(settings);
  harness = running;
  const letters = new DeadLetters({
    redis: running.redis,
    prefix: "{cme}",
    logger: createLogger("test", "silent"),
    metrics: new Metrics(),
    source: undefined,
  });
  await letters.add([letter]);
  await letters.close();
  const answer = await fetch(`${running.url}/api/queues?activeQueue=dead-letter&status=waiting&page=1&jobsPerPage=10`);
  const { queues } = (await answer.json()) as { queues: { name: string; jobs: unknown[] }[] };
  return queues.find(({ name }) => name === "dead-letter")?.jobs[0];
}

it("a dead letter shows its reason, source and task, and hides the task's arguments", async () => {
  const letter = await shownLetter({});
  expect(letter).toMatchObject({
    name: "refused",
    data: { source: "postgres", reason: "refused", detail: "[hidden] (SQLSTATE 22P02)", event: { uuid: "u1", name: "shop.pay" } },
  });
  expect(JSON.stringify(letter)).not.toContain("4111 1111");
});

it("a dead letter shows its whole event and the sink's message with DASHBOARD_SHOW_TASK_DATA", async () => {
  expect(await shownLetter({ DASHBOARD_SHOW_TASK_DATA: "true" })).toMatchObject({
    name: "refused",
    data: { detail: REFUSED.detail, event },
  });
});

it("a dead letter of the receiver always shows why it was rejected", async () => {
  const detail = 'pickled events are never loaded; set event_serializer = "json" in Celery (12 alike)';
  expect(await shownLetter({}, { source: RECEIVER, reason: "pickle", detail, raw: "4111 1111" })).toMatchObject({
    data: { source: "receiver", reason: "pickle", detail, raw: "[hidden]", "[hidden]": "shown with DASHBOARD_SHOW_TASK_DATA=true" },
  });
});
