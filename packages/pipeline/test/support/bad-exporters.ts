/**
 * Exporters with one fault each, which the contract suite has to find, and one without. Run by `contract-suite.test.ts`, with a Vitest of
 * its own.
 */
import { isTaskEvent, type Observation, type TaskEvent } from "@celery-metrics-exporter/celery";
import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { MortalLink, setRedisFull, startRedis } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { z } from "zod";
import { defineExporter, type Exporter, type ExporterDefinition, type Schedule } from "../../src/index.ts";
import { createTestExporter, describeExporter, startMortal } from "../../src/testing/index.ts";

/** An exporter into the Redis set `events`. Its errors become `UnavailableError`. */
interface Kind {
  write(redis: Redis, events: readonly TaskEvent[], schedule: Schedule): Promise<unknown>;
  process?(redis: Redis, ids: readonly string[]): Promise<unknown>;
  forget?(redis: Redis, ids: readonly string[]): Promise<unknown>;
  observe?(redis: Redis, observation: Observation): Promise<unknown>;
}

const toField = (event: TaskEvent): string => JSON.stringify(event);

const KINDS: Readonly<Record<string, Kind>> = {
  "marks events as done before it stores them": {
    write: async (redis, events) => {
      const fields = events.map(toField);
      const marks = await Promise.all(fields.map((field) => redis.sismember("done", field)));
      const left = fields.filter((_, index) => marks[index] === 0);
      if (left.length === 0) return;
      await redis.sadd("done", ...left);
      await redis.sadd("events", ...left);
    },
  },
  "ignores errors of a pipeline": {
    write: async (redis, events) => {
      const pipeline = redis.pipeline();
      for (const event of events) pipeline.sadd("events", toField(event));
      await pipeline.exec();
    },
  },
  "takes events out of its first stage before they are in the second": {
    write: writeFirstStage,
    process: async (redis, ids) => {
      const fields = await firstStageOf(redis, ids);
      if (fields.length === 0) return;
      await redis.srem("first stage", ...fields);
      await redis.sadd("events", ...fields);
    },
  },
  "empties its sink to forget, and writes the rest back": {
    write: (redis, events) => redis.sadd("events", ...events.map(toField)),
    forget: async (redis, ids) => {
      const stored = await redis.smembers("events");
      const gone = forgettable(stored, ids);
      if (gone.length === 0) return;
      await redis.del("events");
      await redis.sadd("events", ...stored.filter((field) => !gone.includes(field)));
    },
  },
  "keeps the observation that comes last": {
    write: (redis, events) => redis.sadd("events", ...events.map(toField)),
    observe: (redis, observation) => redis.hset("observed", observation.type, JSON.stringify(observation)),
  },
  "has no fault": {
    write: writeFirstStage,
    process: async (redis, ids) => {
      const fields = await firstStageOf(redis, ids);
      if (fields.length === 0) return;
      await redis.sadd("events", ...fields);
      await redis.srem("first stage", ...fields);
    },
    forget: async (redis, ids) => {
      for (const key of ["first stage", "events"]) {
        const gone = forgettable(await redis.smembers(key), ids);
        if (gone.length > 0) await redis.srem(key, ...gone);
      }
    },
  },
};

async function writeFirstStage(redis: Redis, events: readonly TaskEvent[], schedule: Schedule): Promise<void> {
  await redis.sadd("first stage", ...events.map(toField));
  await schedule([...new Set(events.map(({ uuid }) => uuid))], { delayMs: 100 });
}

async function firstStageOf(redis: Redis, ids: readonly string[]): Promise<string[]> {
  const stored = await redis.smembers("first stage");
  return stored.filter((field) => ids.includes((JSON.parse(field) as TaskEvent).uuid));
}

/** The stored events of these tasks, except of those that have a task-sent. */
function forgettable(stored: readonly string[], ids: readonly string[]): string[] {
  const events = stored.map((field) => ({ field, event: JSON.parse(field) as TaskEvent }));
  const sent = new Set(events.filter(({ event }) => event.type === "task-sent").map(({ event }) => event.uuid));
  return events.filter(({ event }) => ids.includes(event.uuid) && !sent.has(event.uuid)).map(({ field }) => field);
}

function exporterInto(url: string, kind: Kind): ExporterDefinition {
  return defineExporter({
    name: "fixture",
    Config: z.object({}),
    create: ({ lifecycle, schedule }) => {
      const redis = new Redis(url, { maxRetriesPerRequest: 1, retryStrategy: () => 50 });
      redis.on("error", () => {});
      lifecycle.defer("fixture Redis", () => redis.disconnect());
      return {
        start: async () => void (await redis.ping()),
        export: async (events) => {
          const ofTasks = events.filter(isTaskEvent);
          if (ofTasks.length > 0) await serving(() => kind.write(redis, ofTasks, schedule));
        },
        ...(kind.process !== undefined && { process: (ids) => serving(async () => kind.process?.(redis, ids)) }),
        ...(kind.forget !== undefined && { forget: (ids) => serving(async () => kind.forget?.(redis, ids)) }),
        ...(kind.observe !== undefined && {
          observe: async (observations) => {
            for (const observation of observations) await kind.observe?.(redis, observation);
          },
        }),
        stop: () => Promise.resolve(redis.disconnect()),
      } satisfies Exporter;
    },
  });
}

async function serving(command: () => Promise<unknown>): Promise<void> {
  try {
    await command();
  } catch (cause) {
    throw new UnavailableError("fixture Redis is down", { cause });
  }
}

for (const [name, kind] of Object.entries(KINDS)) {
  describeExporter(
    `an exporter that ${name}`,
    async () => {
      const server = await startRedis();
      const test = await createTestExporter(exporterInto(server.url, kind), {});
      return {
        exporter: test.exporter,
        observe: async () => {
          await test.idle();
          const redis = new Redis(server.url);
          const stored = [...(await redis.smembers("events")), ...(await redis.hvals("observed"))].toSorted();
          redis.disconnect();
          return stored;
        },
        refuseWrites: () => setRedisFull(server.url, true),
        allowWrites: () => setRedisFull(server.url, false),
        mortal: async () => {
          const link = await MortalLink.start(server.port, "redis");
          return startMortal(await createTestExporter(exporterInto(link.inFrontOf(server.url), kind), {}), link);
        },
        close: async () => {
          await test.close();
          await server.stop();
        },
      };
    },
    {
      breakSink: "its Redis keeps nothing on disk",
      ...(kind.process === undefined && { process: "it has one stage" }),
      ...(kind.forget === undefined && { forget: "it is too simple" }),
    },
  );
}
