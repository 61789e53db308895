import { taskSent } from "@celery-metrics-exporter/events/testing";
import { describe, expect, it } from "vitest";
import type { DeadLetter } from "../src/dead-letter.ts";
import { decodeBatch, type EventBatch } from "../src/batch.ts";
import { BurialLimit } from "../src/burial-limit.ts";
import { Drain } from "../src/drain.ts";
import { PermanentError } from "../src/errors.ts";
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

describe("what can end a process", () => {
  const entries: string[] = [];
  const told = (entry: string): void => void entries.push(entry);
  const within =
    (kind: string) =>
    async (task: () => Promise<void>): Promise<void> => {
      told(`+${kind}`);
      await task().finally(() => told(`-${kind}`));
    };
  const job = { id: "1", payload: {}, begun: 1, attempt: within("attempt"), step: within("step") };
  const screened = { events: BATCH.events, told: [], finished: new Set(), filtered: true };
  const rules = {
    drain: new Drain(),
    maxTries: 1,
    burials: new BurialLimit(),
    onUnavailable: () => {},
    onServed: () => {},
    onRetry: () => {},
    onError: () => {},
    onSplit: () => {},
  };

  function stageOf(send: () => Promise<void>): ReturnType<typeof eventsStage> {
    entries.length = 0;
    const host = {
      name: "postgres",
      rules,
      metrics: { time: (_: string, task: () => Promise<void>) => task(), exported: () => {}, forgot: () => {} },
      filter: {
        screen: async () => {
          told("screen");
          return screened;
        },
        leftovers: async () => {
          told("leftovers");
          return ["x"];
        },
        remind: async () => told("remind"),
      },
      exporter: { export: send, forget: async () => told("forget") },
    };
    return eventsStage(host as unknown as Host);
  }

  it("runs as a step of its job: filtering, exporting, forgetting", async () => {
    await stageOf(async () => told("export")).run(BATCH, job);
    expect(entries.join(" ")).toBe("+step screen -step +attempt export -attempt +step leftovers -step +attempt remind forget -attempt");
  });

  it("is left to a step too where what is held has to be written", async () => {
    const batch = { broker: "rabbitmq", events: [taskSent({ uuid: "a" })] };
    const held = await stageOf(() => Promise.reject(new PermanentError("no"))).run(batch, job);
    expect(held?.rest).toBeTypeOf("function");
    expect(decodeBatch(held?.rest()).events).toHaveLength(BATCH.events.length);
  });
});
