/** The first stage: batches of events go to `export`, and what a filter excludes only now to `forget`. */
import { isTaskEvent, type CeleryEvent } from "@celery-metrics-exporter/events";
import { isFurtherAttempt, type Screened } from "./batch-filter.ts";
import { batchHalves } from "./batch-halves.ts";
import { decodeBatch, encodeBatch, type EventBatch } from "./batch.ts";
import { Deliverer, tryUntilDecided, type Held } from "./deliver.ts";
import type { Host } from "./host.ts";
import { eventsQueueName } from "./queue-names.ts";
import type { HeldBatch, Stage, StageJob } from "./stage.ts";

export function eventsStage(host: Host): Stage<EventBatch> {
  const { name, deadLetters } = host;
  const run = exportWith(host);
  return {
    queueName: eventsQueueName(name),
    decode: decodeBatch,
    size: ({ events }) => events.length,
    split: (batch) => batchHalves(batch).map((half) => encodeBatch(half)),
    run,
    bury: ({ events, excluded = [] }, reason, detail) =>
      deadLetters.add([
        ...events.map((event) => ({ source: name, reason, detail, event })),
        ...excluded.map((id) => ({ source: name, reason, detail, raw: id, readAs: "id to forget" as const })),
      ]),
  };
}

function exportWith(host: Host): Stage<EventBatch>["run"] {
  const { filter, rules, exporter } = host;
  const exports = exportDelivery(host);
  const forgets = forgetDelivery(host);
  return async (batch, job: StageJob) => {
    const { step } = job;
    let screened: Screened | undefined;
    await tryUntilDecided(() => step(async () => void (screened = await filter.screen(batch))), rules);
    if (screened === undefined) return undefined;
    if (screened.events.length > 0) {
      const held = await exports.deliver(screened.events, undefined, job);
      if (held !== undefined) return heldBatch(batch, screened, held);
    }
    if (exporter.forget === undefined) return undefined;
    let leftovers: readonly string[] = [];
    const known = screened;
    await tryUntilDecided(() => step(async () => void (leftovers = await filter.leftovers(known))), rules);
    if (leftovers.length === 0) return undefined;
    const held = await forgets.deliver(leftovers, screened, job);
    const tookSome = screened.events.length > 0 || (held !== undefined && held.items.length < leftovers.length);
    return held && { ...held, tookSome, rest: () => encodeBatch({ ...batch, events: [], excluded: held.items }) };
  };
}

/** The events that are held, without those that got through or were buried, and the ids that are forgotten after them. */
function heldBatch(batch: EventBatch, { events, told, filtered }: Screened, { items, because, error }: Held<CeleryEvent>): HeldBatch {
  const { broker, kept = [] } = batch;
  const rest = (): unknown => encodeBatch({ broker, events: items, kept, ...(filtered && { excluded: told }) });
  return { rest, tookSome: items.length < events.length, because, error };
}

function exportDelivery({ name, exporter, deadLetters, metrics, rules }: Host): Deliverer<CeleryEvent> {
  return new Deliverer<CeleryEvent>(
    {
      send: (events, signal) => metrics.time("export", () => exporter.export(events, signal)),
      onDelivered: (events) => metrics.exported(events.length),
      bury: (event, { reason, error }) => deadLetters.add([{ source: name, reason, detail: error.message, event }]),
      kindOf,
      subjectOf: (event) => ("uuid" in event ? event.uuid : undefined),
    },
    rules,
  );
}

function forgetDelivery({ name, exporter, filter, deadLetters, metrics, rules }: Host): Deliverer<string, Screened> {
  return new Deliverer<string, Screened>(
    {
      send: async (ids, signal, screened) => {
        await filter.remind(screened);
        return metrics.time("forget", async () => exporter.forget?.(ids, signal));
      },
      onDelivered: (ids) => metrics.forgot(ids.length),
      bury: (id, { reason, error }) =>
        deadLetters.add([{ source: name, reason, detail: `cannot forget: ${error.message}`, raw: id, readAs: "id to forget" }]),
      kindOf: () => "id to forget",
    },
    rules,
  );
}

/** A further attempt finds its task in the sink already, so that what became of first attempts says nothing about it. */
function kindOf(event: CeleryEvent): string {
  if (!isTaskEvent(event)) return "event of no task";
  return isFurtherAttempt(event) ? `${event.type} of a further attempt` : event.type;
}
