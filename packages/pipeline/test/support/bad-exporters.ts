/** Exporters with one fault each, which the contract suite has to find. Run by `contract-suite.test.ts`, with a Vitest of its own. */
import { isTaskEvent, type CeleryEvent, type Observation } from "@celery-metrics-exporter/celery";
import { UnavailableError } from "@celery-metrics-exporter/runtime";
import { MortalLink, setRedisFull, startRedis } from "@celery-metrics-exporter/testkit";
import { Redis } from "ioredis";
import { z } from "zod";
import { defineExporter, type ExporterDefinition } from "../../src/index.ts";
import { createTestExporter, describeExporter, startMortal } from "../../src/testing/index.ts";

type Write = (redis: Redis, fields: readonly string[]) => Promise<unknown>;

interface Fault {
  readonly write: Write;
  /** Gets the type of an observation, and the observation. */
  readonly observe?: Write;
}

const FAULTS: Readonly<Record<string, Fault>> = {
  "marks events as done before it stores them": {
    write: async (redis, fields) => {
      const marks = await Promise.all(fields.map((field) => redis.sismember("done", field)));
      const left = fields.filter((_, index) => marks[index] === 0);
      if (left.length === 0) return;
      await redis.sadd("done", ...left);
      await redis.sadd("events", ...left);
    },
  },
  "ignores errors of a pipeline": {
    write: async (redis, fields) => {
      const pipeline = redis.pipeline();
      for (const field of fields) pipeline.sadd("events", field);
      await pipeline.exec();
    },
  },
  "keeps the observation that comes last": {
    write: (redis, fields) => redis.sadd("events", ...fields),
    observe: (redis, [type = "", observation = ""]) => redis.hset("observed", type, observation),
  },
};

function exporterInto(url: string, { write, observe }: Fault): ExporterDefinition {
  return defineExporter({
    name: "fixture",
    Config: z.object({}),
    create: ({ lifecycle }) => {
      const redis = new Redis(url, { maxRetriesPerRequest: 1, retryStrategy: () => 50 });
      redis.on("error", () => {});
      lifecycle.defer("fixture Redis", () => redis.disconnect());
      return {
        start: async () => void (await redis.ping()),
        export: async (events: readonly CeleryEvent[]) => {
          const fields = events.filter(isTaskEvent).map((event) => JSON.stringify(event));
          try {
            if (fields.length > 0) await write(redis, fields);
          } catch (cause) {
            throw new UnavailableError("fixture Redis is down", { cause });
          }
        },
        ...(observe !== undefined && {
          observe: async (observations: readonly Observation[]) => {
            for (const observation of observations) await observe(redis, [observation.type, JSON.stringify(observation)]);
          },
        }),
        stop: () => Promise.resolve(redis.disconnect()),
      };
    },
  });
}

for (const [name, fault] of Object.entries(FAULTS)) {
  describeExporter(`an exporter that ${name}`, async () => {
    const server = await startRedis();
    const test = await createTestExporter(exporterInto(server.url, fault), {});
    return {
      exporter: test.exporter,
      observe: async () => {
        const redis = new Redis(server.url);
        const stored = [...(await redis.smembers("events")), ...(await redis.hvals("observed"))].toSorted();
        redis.disconnect();
        return stored;
      },
      refuseWrites: () => setRedisFull(server.url, true),
      allowWrites: () => setRedisFull(server.url, false),
      mortal: async () => {
        const link = await MortalLink.start(server.port, "redis");
        return startMortal(await createTestExporter(exporterInto(link.inFrontOf(server.url), fault), {}), link);
      },
      close: async () => {
        await test.close();
        await server.stop();
      },
    };
  });
}
