/**
 * The host of an exporter, as a role: it consumes the exporter's queues, and handles retries, splitting, filters, draining and its own
 * metrics.
 */
import {
  BaseConfig,
  type Logger,
  Outage,
  type RedisConnection,
  type Role,
  type RoleContext,
  openRedis,
  runRole,
  warnIfNotDurable,
} from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";
import { z } from "zod";
import { AttemptMemory } from "../filter/attempt-memory.ts";
import { openFilter } from "../filter/batch-filter.ts";
import { BegunBatches, createSchedule } from "../queue/scheduled-ids.ts";
import { BurialLimit } from "../deliver/evidence.ts";
import { stageWorker } from "./stage-worker.ts";
import { type QueueWorker, closeWorker } from "../queue/queue-worker.ts";
import { DeadLetters } from "../dead-letter/dead-letters.ts";
import { Drain } from "../deliver/tries.ts";
import { ErrorLog } from "./error-log.ts";
import { eventsStage } from "./events-stage.ts";
import type { Exporter, ExporterDefinition } from "../contract/exporter.ts";
import { EXPORTERS } from "../contract/exporters.ts";
import { Holding } from "../hold/holding.ts";
import { JobList } from "../queue/job-list.ts";
import { StoredBefore } from "../queue/stored-before.ts";
import { type Host, HostConfig, HostMetrics } from "./host.ts";
import { HostFilter } from "../filter/host-filter.ts";
import { idsStage } from "./ids-stage.ts";
import { openQueue, queueIsReady } from "../queue/bullmq.ts";
import { RedisReturn } from "../queue/redis-errors.ts";
import { QueueGauges } from "./queue-gauges.ts";
import { eventsQueueName, processingQueueName } from "../queue/names.ts";
import { processSolitude } from "../hold/solitude.ts";
import { FilterConfig } from "../filter/task-filter.ts";

const ProcessorConfig = z.object({ ...BaseConfig.shape, ...HostConfig.shape, ...FilterConfig.shape });
type ProcessorConfig = z.output<typeof ProcessorConfig>;
type Context = RoleContext<ProcessorConfig>;

/** The role that runs this exporter. Several roles may share a process. */
export function processorRole(definition: ExporterDefinition): Role {
  const healthPort = EXPORTERS.find(({ name }) => name === definition.name)?.healthPort;
  return {
    name: `${definition.name}-processor`,
    ...(healthPort === undefined ? {} : { healthPort }),
    // Keeps the rules about several settings at once, which the shape lacks.
    Config: definition.Config.safeExtend({ ...ProcessorConfig.shape, ...definition.Config.shape }),
    start: (context) => startProcessor(definition, context as unknown as Context),
  };
}

/** Runs the exporter as this process, until a signal arrives. The `main.ts` of a processor calls only this. */
export async function runProcessor(definition: ExporterDefinition): Promise<void> {
  await runRole(processorRole(definition));
}

async function startProcessor(definition: ExporterDefinition, context: Context): Promise<void> {
  const connections = await connect(definition.name, context);
  await warnIfNotDurable(connections.producer, context.logger);
  const queues = openQueues(definition.name, connections.producer, context);
  const exporter = await startExporter(definition, queues, context);
  const used = exporter.process === undefined ? [queues.events] : [queues.events, queues.processing()];
  const stages = createStages(
    { name: definition.name, exporter, queues, queueNames: used.map(({ name }) => name) },
    connections.producer,
    context,
  );
  await Promise.all([...used.map((queue) => queueIsReady(queue)), stages.deadLetters.start()]);
  const workers = createWorkers(stages, queues, connections, context);
  const graceMs = (context.config.SHUTDOWN_TIMEOUT_SECONDS * 1_000) / 2;
  context.lifecycle.defer(`${definition.name} workers`, async () => {
    await Promise.all(workers.map((worker) => drainStage(worker, graceMs, context.logger)));
  });
  for (const { worker } of workers) await worker.start();
  await watchQueues(used, connections.producer, context);
}

interface Connections {
  /** Waits for Redis forever. */
  readonly worker: RedisConnection;
  /** Fails at once if Redis is unavailable, so that the caller can react. */
  readonly producer: RedisConnection;
  /** Watches the producer connection. */
  readonly redisReturn: RedisReturn;
}

async function connect(name: string, context: Context): Promise<Connections> {
  const redisReturn = new RedisReturn();
  const { onConnected, onLost } = redisReturn;
  return {
    producer: await openRedis(context, { use: "producer", name: `${name} Redis`, onConnected, onLost }),
    worker: await openRedis(context, { use: "worker", name: `${name} queue` }),
    redisReturn,
  };
}

interface Queues {
  readonly events: Queue;
  /** Opened by the first call, because an exporter without a second stage has no such queue. */
  readonly processing: () => Queue;
  /** The batches begun in the events' queue. */
  readonly begun: BegunBatches;
}

function openQueues(name: string, redis: RedisConnection, { config, logger, lifecycle }: Context): Queues {
  const open = (queueName: string): Queue => {
    const queue = openQueue(queueName, { redis, prefix: config.QUEUE_PREFIX, logger });
    lifecycle.defer(`${queueName} queue`, () => queue.close());
    return queue;
  };
  let processing: Queue | undefined;
  const events = open(eventsQueueName(name));
  return { events, begun: new BegunBatches(redis, events), processing: () => (processing ??= open(processingQueueName(name))) };
}

async function startExporter(definition: ExporterDefinition, queues: Queues, context: Context): Promise<Exporter> {
  const exporter = await definition.create({ ...context, schedule: createSchedule(queues.processing, queues.begun) });
  context.lifecycle.defer(`${definition.name} exporter`, () => exporter.stop?.());
  await exporter.start?.();
  return exporter;
}

const OUTAGE_MESSAGES = { began: "sink unavailable: batches are kept and retried", ended: "sink available again" };

/**
 * The host's parts for one stage. Each stage has its own sink (for example Store and agent), and one can be available without the other.
 */
interface StageParts {
  readonly host: Host;
  readonly held: JobList;
  readonly heldWorkers: JobList;
  readonly outage: Outage;
}

interface StagesOptions {
  readonly name: string;
  readonly exporter: Exporter;
  readonly queues: Queues;
  readonly queueNames: readonly string[];
}

interface Stages {
  readonly events: StageParts;
  /** Only if the exporter has a second stage. */
  readonly processing?: StageParts;
  readonly deadLetters: DeadLetters;
}

function createStages({ name, exporter, queues, queueNames }: StagesOptions, redis: RedisConnection, context: Context): Stages {
  const { config, logger, lifecycle, health, metrics } = context;
  const prefix = config.QUEUE_PREFIX;
  const deadLetters = new DeadLetters({ redis, prefix, logger, metrics, source: name });
  lifecycle.defer("dead letters", () => deadLetters.close());
  const hostMetrics = new HostMetrics(name, queueNames, metrics);
  const burials = new BurialLimit();
  const errors = new ErrorLog(logger.child({ exporter: name }));
  const attempts = new AttemptMemory({ redis, prefix, owner: name });
  const filter = new HostFilter({ own: openFilter(config, { redis, prefix, owner: `${name}:own` }), attempts });
  const partsOf = (component: string, queue: Queue): StageParts => {
    const outage = new Outage({ component: health.component(component), logger: logger.child({ component }), ...OUTAGE_MESSAGES });
    const heldBatches = `${component}: held batches`;
    const held = JobList.held(redis, queue);
    const holding = new Holding({
      component: health.component(heldBatches),
      logger: logger.child({ component: heldBatches }),
      held,
      onEnd: () => outage.served(),
    });
    lifecycle.defer(heldBatches, () => holding.close());
    const rules: Host["rules"] = {
      drain: new Drain(),
      maxTries: config.PROCESSOR_MAX_TRIES,
      burials,
      onUnavailable: (error) => outage.failed({ reason: error.message }),
      onServed: () => outage.served(),
      onRetry: (reason) => hostMetrics.retried(reason),
      onError: (error) => errors.add(error),
      onSplit: () => hostMetrics.split(),
    };
    const host = { name, exporter, filter, deadLetters, metrics: hostMetrics, rules, holding };
    return { host, held, heldWorkers: JobList.heldWorkers(redis, queue), outage };
  };
  const events = partsOf(`${name} exporter`, queues.events);
  if (exporter.process === undefined) return { events, deadLetters };
  return { events, processing: partsOf(`${name} processing`, queues.processing()), deadLetters };
}

interface WorkerOfStage extends StageParts {
  readonly worker: QueueWorker;
}

function createWorkers(
  { events, processing }: Stages,
  queues: Queues,
  { worker: redis, redisReturn }: Connections,
  { config, logger, health }: Context,
): WorkerOfStage[] {
  const common = {
    redis,
    prefix: config.QUEUE_PREFIX,
    concurrency: config.PROCESSOR_CONCURRENCY,
    solitude: processSolitude,
    logger,
    health,
  };
  const worker = stageWorker({
    ...common,
    ...events,
    stage: eventsStage(events.host, new StoredBefore(queues.begun, events.held, events.heldWorkers)),
    queue: queues.events,
  });
  const workers: WorkerOfStage[] = [{ ...events, worker }];
  const { exporter } = events.host;
  if (processing !== undefined && exporter.process !== undefined) {
    const stage = idsStage(processing.host, exporter.process.bind(exporter), { batches: queues.begun, redisReturn });
    workers.push({ ...processing, worker: stageWorker({ ...common, ...processing, stage, queue: queues.processing() }) });
  }
  return workers;
}

/**
 * An unavailable sink only ends the tries of its own stage. The other stage finishes what it has begun, because otherwise it would be
 * reported twice.
 */
async function drainStage({ host, outage, worker }: WorkerOfStage, graceMs: number, logger: Logger): Promise<void> {
  const { drain } = host.rules;
  drain.begin(outage.isOn ? 0 : graceMs);
  await closeWorker(worker, drain.overdue, logger);
  drain.finish();
}

async function watchQueues(queues: readonly Queue[], redis: RedisConnection, { metrics, logger, lifecycle }: Context): Promise<void> {
  const gauges = new QueueGauges({ queues, redis, metrics, logger });
  lifecycle.defer("queue gauges", () => gauges.close());
  await gauges.start();
}
