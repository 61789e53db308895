/** The first stage: batches of events go to `export`, and what a filter excludes only now to `forget`. */
import type { CeleryEvent } from "@celery-metrics-exporter/events";
import { type Screened } from "./batch-filter.ts";
import { batchHalves } from "./batch-halves.ts";
import { decodeBatch, encodeBatch, type EventBatch } from "./batch.ts";
import { deliver, tryUntilDecided } from "./deliver.ts";
import type { Exporter } from "./exporter.ts";
import type { Host } from "./host.ts";
import { eventsQueueName } from "./queue-names.ts";
import type { Stage } from "./stage.ts";

export function eventsStage(host: Host): Stage<EventBatch> {
  const { name, deadLetters } = host;
  return {
    queueName: eventsQueueName(name),
    decode: decodeBatch,
    size: ({ events }) => events.length,
    split: (batch) => batchHalves(batch).map((half) => encodeBatch(half)),
    run: (batch) => exportBatch(batch, host),
    bury: ({ events, excluded = [] }, reason, detail) =>
      deadLetters.add([
        ...events.map((event) => ({ source: name, reason, detail, event })),
        ...excluded.map((id) => ({ source: name, reason, detail, raw: id, readAs: "id to forget" as const })),
      ]),
  };
}

async function exportBatch(batch: EventBatch, host: Host): Promise<void> {
  const { name, exporter, filter, deadLetters, metrics, rules } = host;
  let screened: Screened | undefined;
  await tryUntilDecided(async () => void (screened = await filter.screen(batch)), rules);
  if (screened === undefined) return;
  if (screened.events.length > 0) {
    await deliver<CeleryEvent>(
      screened.events,
      {
        send: async (events, signal) => {
          await metrics.time("export", () => exporter.export(events, signal));
          metrics.exported(events.length);
        },
        bury: (event, { reason, error }) => deadLetters.add([{ source: name, reason, detail: error.message, event }]),
      },
      rules,
    );
  }
  if (exporter.forget !== undefined) await forgetLeftovers(screened, exporter, host);
}

async function forgetLeftovers(screened: Screened, exporter: Exporter, { name, filter, deadLetters, metrics, rules }: Host): Promise<void> {
  let leftovers: readonly string[] = [];
  await tryUntilDecided(async () => void (leftovers = await filter.leftovers(screened)), rules);
  if (leftovers.length === 0) return;
  await deliver(
    leftovers,
    {
      send: async (ids, signal) => {
        await filter.remind(screened);
        await metrics.time("forget", async () => exporter.forget?.(ids, signal));
        metrics.forgot(ids.length);
      },
      bury: (id, { reason, error }) =>
        deadLetters.add([{ source: name, reason, detail: `cannot forget: ${error.message}`, raw: id, readAs: "id to forget" }]),
    },
    rules,
  );
}
