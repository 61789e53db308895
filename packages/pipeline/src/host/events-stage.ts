/**
 * The first stage: passes batches of events to `export`, tasks that a filter excludes only now to `forget`, and observations, which wait in the
 * same queue, to `observe`.
 */
import { type CeleryEvent, type Observation, isTaskEvent } from "@celery-metrics-exporter/celery";
import { isFurtherAttempt, standingOf } from "../filter/attempt-memory.ts";
import { type EventBatch, batchHalves, decodeBatch, encodeBatch } from "../queue/batch.ts";
import { Deliverer, type Held } from "../deliver/deliver.ts";
import { deliverObservations } from "./observations.ts";
import { decodeObservations, encodeObservations, isOfObservations } from "../queue/observations.ts";
import type { ExportedBatch } from "../contract/exporter.ts";
import type { Host } from "./host.ts";
import type { Screened } from "../filter/host-filter.ts";
import { eventsQueueName } from "../queue/names.ts";
import type { StoredBefore } from "../queue/stored-before.ts";
import type { HeldBatch, Stage, StageJob } from "./stage.ts";
import { tryUntilDecided } from "../deliver/tries.ts";

/** The contents of a job in an exporter's queue. */
export type EventsJob = EventBatch | Observed;

interface Observed {
  readonly observations: readonly Observation[];
}

/** @param storedBefore says whether a report of a receiver is true of the sink. If not, it is left out: the next one comes soon. */
export function eventsStage(host: Host, storedBefore: Pick<StoredBefore, "has">): Stage<EventsJob> {
  const { name, deadLetters, metrics, rules } = host;
  const exportBatch = exportWith(host);
  return {
    queueName: eventsQueueName(name),
    decode: (payload) => (isOfObservations(payload) ? { observations: decodeObservations(payload) } : decodeBatch(payload)),
    // Observations are not worth splitting.
    size: (job) => (isObserved(job) ? 1 : job.events.length),
    split: (job) => (isObserved(job) ? [encodeObservations(job.observations)] : batchHalves(job).map((half) => encodeBatch(half))),
    run: async (contents, job) => {
      if (!isObserved(contents)) return exportBatch(contents, job);
      await deliverObservations(host, await whatIsTrue(contents.observations, job.id), job.step);
      return undefined;
    },
    bury: async (job, reason, detail) => {
      if (isObserved(job)) return metrics.droppedObservations(job.observations.length);
      const { events, marked = [] } = job;
      const excluded = marked.filter(({ marks }) => standingOf(marks) === "excluded");
      return deadLetters.add([
        ...events.map((event) => ({ source: name, reason, detail, event })),
        ...excluded.map(({ id }) => ({ source: name, reason, detail, raw: id, readAs: "id to forget" as const })),
      ]);
    },
  };

  async function whatIsTrue(observations: readonly Observation[], id: string): Promise<readonly Observation[]> {
    const reports = observations.filter(({ type }) => type === "listened");
    const until = Math.max(...reports.map(({ timestamp }) => timestamp));
    if (reports.length === 0 || (await storedBefore.has({ id, until }, rules.drain.begun))) return observations;
    return observations.filter(({ type }) => type !== "listened");
  }
}

function isObserved(job: EventsJob): job is Observed {
  return "observations" in job;
}

function exportWith(host: Host): Stage<EventBatch>["run"] {
  const { filter, rules, exporter } = host;
  const exports = exportDelivery(host);
  const exportsOfWorkers = exportDelivery(host);
  const forgets = forgetDelivery(host);
  return async (batch, job: StageJob) => {
    const { step } = job;
    let screened: Screened | undefined;
    await tryUntilDecided(() => step(async () => void (screened = await filter.screen(batch))), rules);
    if (screened === undefined) return undefined;
    const held = await exportEvents(screened.events, { receivedAt: batch.receivedAt }, job);
    const unforgotten = exporter.forget === undefined ? undefined : await forgetLeftovers(screened, job);
    if (held === undefined && unforgotten === undefined) return undefined;
    return heldBatch(batch, screened, held, unforgotten);
  };

  /**
   * The events of tasks, then those of workers: sinks store the two in different places. If the sink takes no event of a task, events of workers that get
   * through would hide that. So they wait too.
   */
  async function exportEvents(
    events: readonly CeleryEvent[],
    context: ExportedBatch,
    job: StageJob,
  ): Promise<Held<CeleryEvent> | undefined> {
    const ofWorkers = events.filter((event) => !isTaskEvent(event));
    const ofTasks = ofWorkers.length === 0 ? events : events.filter(isTaskEvent);
    const held = ofTasks.length === 0 ? undefined : await exports.deliver(ofTasks, context, job);
    if (ofWorkers.length === 0) return held;
    if (held !== undefined && held.as !== "slow" && held.items.length === ofTasks.length)
      return { ...held, items: [...held.items, ...ofWorkers] };
    const others = await exportsOfWorkers.deliver(ofWorkers, context, job);
    return held === undefined || others === undefined ? (held ?? others) : { ...held, items: [...held.items, ...others.items] };
  }

  /** Also called for a held batch, because some of it may have got through. */
  async function forgetLeftovers(screened: Screened, job: StageJob): Promise<Held<string> | undefined> {
    let leftovers: readonly string[] = [];
    await tryUntilDecided(() => job.step(async () => void (leftovers = await filter.leftovers(screened))), rules);
    return leftovers.length === 0 ? undefined : forgets.deliver(leftovers, undefined, job);
  }
}

/** The events and ids that are held, without those that got through or were buried. The marked tasks stay with them. */
function heldBatch(
  batch: EventBatch,
  { events }: Screened,
  held: Held<CeleryEvent> | undefined,
  unforgotten: Held<string> | undefined,
): HeldBatch | undefined {
  const first = held ?? unforgotten;
  if (first === undefined) return undefined;
  const { marked = [] } = batch;
  const others = (unforgotten?.items ?? []).filter((id) => !marked.some((task) => task.id === id)).map((id) => ({ id, marks: [] }));
  const rest = (): unknown => encodeBatch({ ...batch, events: held?.items ?? [], marked: [...marked, ...others] });
  const tookSome = events.length > (held?.items.length ?? 0);
  const hasWorkers = held?.items.some((event) => !isTaskEvent(event)) === true;
  return { ...first, rest, tookSome, hasWorkers };
}

function exportDelivery({ name, exporter, deadLetters, metrics, rules }: Host): Deliverer<CeleryEvent, ExportedBatch> {
  return new Deliverer<CeleryEvent, ExportedBatch>(
    {
      send: (events, signal, batch) => metrics.time("export", () => exporter.export(events, signal, batch)),
      onDelivered: (events) => metrics.exported(events.length),
      bury: (event, { reason, error }) => deadLetters.add([{ source: name, reason, detail: error.message, event }]),
      kindOf,
      subjectOf: (event) => ("uuid" in event ? event.uuid : undefined),
    },
    rules,
  );
}

function forgetDelivery({ name, exporter, filter, deadLetters, metrics, rules }: Host): Deliverer<string> {
  return new Deliverer<string>(
    {
      send: (ids, signal) =>
        filter.forget(ids, signal, async (excluded, limited) => {
          const forgotten = await metrics.time("forget", async () => exporter.forget?.(excluded, limited));
          metrics.forgot(excluded.length);
          return forgotten;
        }),
      bury: (id, { reason, error }) =>
        deadLetters.add([{ source: name, reason, detail: `cannot forget: ${error.message}`, raw: id, readAs: "id to forget" }]),
      kindOf: () => "id to forget",
    },
    rules,
  );
}

/** A further attempt finds its task in the sink already, so results of first attempts are no evidence for it. */
function kindOf(event: CeleryEvent): string {
  if (!isTaskEvent(event)) return "event of no task";
  return isFurtherAttempt(event) ? `${event.type} of a further attempt` : event.type;
}
