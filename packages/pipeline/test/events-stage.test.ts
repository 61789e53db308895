import { taskSent } from "@celery-metrics-exporter/events/testing";
import { describe, expect, it } from "vitest";
import type { DeadLetter } from "../src/dead-letter.ts";
import { decodeBatch, type EventBatch } from "../src/batch.ts";
import { eventsStage } from "../src/events-stage.ts";
import type { Host } from "../src/host.ts";

const BATCH: EventBatch = { broker: "rabbitmq", events: ["a", "b", "c"].map((uuid) => taskSent({ uuid })), excluded: ["x", "y"] };

describe("a batch that is suspected of having ended its process", () => {
  const buried: DeadLetter[] = [];
  const deadLetters = { add: (letters: readonly DeadLetter[]) => Promise.resolve(void buried.push(...letters)) };
  const stage = eventsStage({ name: "postgres", deadLetters } as unknown as Host);

  it("is split into halves, of which one has the ids to forget and the other knows that there are filters", () => {
    const halves = stage.split(BATCH).map(decodeBatch);
    expect(halves.map(({ events }) => events.length)).toEqual([2, 1]);
    expect(halves.map(({ excluded }) => excluded)).toEqual([["x", "y"], []]);
  });

  it("is buried with its events and the ids to forget", async () => {
    await stage.bury(BATCH, "crash", "three times");
    expect(buried.map((letter) => letter.event ?? letter.raw)).toEqual([...BATCH.events, "x", "y"]);
    expect(buried.at(-1)).toMatchObject({ source: "postgres", reason: "crash", readAs: "id to forget" });
  });
});
