/** The host of an exporter, as a role: consumes its queues, and owns retry, splitting, filters, drain and self-metrics. */
import {
  BaseConfig,
  connectRedis,
  redisTarget,
  runRole,
  warnIfNotDurable,
  type Role,
  type RoleContext,
  type RedisConnection,
} from "@celery-metrics-exporter/runtime";
import type { Queue } from "bullmq";
import { z } from "zod";
import { BatchFilter } from "./batch-filter.ts";
import { BegunBatches } from "./begun-batches.ts";
import { BurialLimit } from "./burial-limit.ts";
import { closeWorkers, type AnyStageWorker } from "./close-workers.ts";
import { DeadLetters } from "./dead-letter.ts";
import { Drain } from "./drain.ts";
import { ErrorLog } from "./error-log.ts";
import { eventsStage } from "./events-stage.ts";
import { ExcludedTasks } from "./excluded-tasks.ts";
import type { Exporter, ExporterDefinition } from "./exporter.ts";
import { Holding } from "./holding.ts";
import { HostConfig } from "./host-config.ts";
import { HostMetrics } from "./host-metrics.ts";
import type { Host } from "./host.ts";
import { idsStage } from "./ids-stage.ts";
import { openQueue, queueIsReady } from "./open-queue.ts";
import { Outage } from "./outage.ts";
import { RedisReturn } from "./redis-return.ts";
import { QueueGauges } from "./queue-gauges.ts";
import { eventsQueueName, processingQueueName } from "./queue-names.ts";
import { createSchedule } from "./schedule.ts";
import { processSolitude } from "./solitude.ts";
import { StageWorker } from "./stage-worker.ts";
import { EventFilter, FilterConfig } from "./task-filter.ts";

const ProcessorConfig = z.object({ ...BaseConfig.shape, ...HostConfig.shape, ...FilterConfig.shape });
type ProcessorConfig = z.output<typeof ProcessorConfig>;
type Context = RoleContext<ProcessorConfig>;

/** The role that runs this exporter; several may share a process. */
export function processorRole(definition: ExporterDefinition): Role {
  return {
    name: `${definition.name}-processor`,
    Config: z.object({ ...ProcessorConfig.shape, ...definition.Config.shape }),
    start: (context) => startProcessor(definition, context as unknown as Context),
  };
}

/** Runs the exporter as this process, until a signal; the `main.ts` of a processor calls nothing else. */
export async function runProcessor(definition: ExporterDefinition): Promise<void> {
  await runRole(processorRole(definition));
}

async function startProcessor(definition: ExporterDefinition, context: Context): Promise<void> {
  const connections = await connect(definition.name, context);
  await warnIfNotDurable(connections.producer, context.logger);
  const queues = openQueues(definition.name, connections.producer, context);
  const exporter = await startExporter(definition, queues, context);
  const used = exporter.process === undefined ? [queues.events] : [queues.events, queues.processing()];
  const { host, processing, drain, isSinkOut } = createHost(definition.name, exporter, connections.producer, context);
  await Promise.all([...used.map((queue) => queueIsReady(queue)), host.deadLetters.start()]);
  const workers = createWorkers({ host, processing }, queues, connections, context);
  context.lifecycle.defer(`${definition.name} workers`, async () => {
    drain.begin(isSinkOut() ? 0 : (context.config.SHUTDOWN_TIMEOUT_SECONDS * 1_000) / 2);
    await closeWorkers(workers, drain.overdue, context.logger);
    drain.finish();
  });
  for (const worker of workers) await worker.start();
  await watchQueues(used, connections.producer, context);
}

interface Connections {
  /** Waits for Redis for ever. */
  readonly worker: RedisConnection;
  /** Fails at once when Redis is away, so that a job can be given back meanwhile. */
  readonly producer: RedisConnection;
  /** Of the producer. */
  readonly redisReturn: RedisReturn;
}

async function connect(name: string, { config, logger, lifecycle, health }: Context): Promise<Connections> {
  const common = { ...redisTarget(config), startupTimeoutMs: config.STARTUP_TIMEOUT_SECONDS * 1_000, logger, lifecycle, health };
  const redisReturn = new RedisReturn();
  const { onConnected, onLost } = redisReturn;
  return {
    producer: await connectRedis({ ...common, use: "producer", name: `${name} Redis`, onConnected, onLost }),
    worker: await connectRedis({ ...common, use: "worker", name: `${name} queue` }),
    redisReturn,
  };
}

interface Queues {
  readonly events: Queue;
  /** Opened when first asked for: an exporter without a second stage has none. */
  readonly processing: () => Queue;
  /** Of the events' queue. */
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

const OUTAGE_MESSAGES = { began: "sink unavailable, batches are kept and tried again", ended: "sink available again" };

/** The stages have sinks of their own (Store and agent, say): that the one is served says nothing about the other. */
interface HostOfStages {
  readonly host: Host;
  /** The same for the second stage. */
  readonly processing: Host;
}

function createHost(
  name: string,
  exporter: Exporter,
  redis: RedisConnection,
  { config, logger, lifecycle, health, metrics }: Context,
): HostOfStages & { drain: Drain; isSinkOut: () => boolean } {
  const prefix = config.QUEUE_PREFIX;
  const deadLetters = new DeadLetters({ redis, prefix, logger, metrics });
  lifecycle.defer("dead letters", () => deadLetters.close());
  const drain = new Drain();
  const hostMetrics = new HostMetrics(name, metrics);
  const burials = new BurialLimit();
  const outages: { readonly isOn: boolean }[] = [];
  const errors = new ErrorLog(logger.child({ exporter: name }));
  const stageParts = (component: string): Pick<Host, "rules" | "holding"> => {
    const outage = new Outage(health.component(component), logger.child({ component }), OUTAGE_MESSAGES);
    const held = `${component}: held batches`;
    const holding = new Holding(health.component(held), logger.child({ component: held }));
    lifecycle.defer(held, () => holding.close());
    outages.push(outage, holding);
    const rules: Host["rules"] = {
      drain,
      maxTries: config.PROCESSOR_MAX_TRIES,
      burials,
      onUnavailable: (error) => outage.failed(error.message),
      onServed: () => outage.served(),
      onRetry: (reason) => hostMetrics.retried(reason),
      onError: (error) => errors.add(error),
      onSplit: () => hostMetrics.split(),
    };
    return { rules, holding };
  };
  const host: Host = {
    name,
    exporter,
    filter: new BatchFilter(new EventFilter(config), new ExcludedTasks({ redis, prefix, owner: name })),
    deadLetters,
    metrics: hostMetrics,
    ...stageParts(`${name} exporter`),
  };
  const processing = exporter.process === undefined ? host : { ...host, ...stageParts(`${name} processing`) };
  return { host, processing, drain, isSinkOut: () => outages.some(({ isOn }) => isOn) };
}

function createWorkers(
  { host, processing }: HostOfStages,
  queues: Queues,
  { worker: redis, redisReturn }: Connections,
  { config, logger, health }: Context,
): AnyStageWorker[] {
  const common = {
    host,
    redis,
    prefix: config.QUEUE_PREFIX,
    concurrency: config.PROCESSOR_CONCURRENCY,
    solitude: processSolitude,
    logger,
    health,
  };
  const { exporter } = host;
  const workers: AnyStageWorker[] = [new StageWorker({ ...common, stage: eventsStage(host), queue: queues.events })];
  if (exporter.process !== undefined) {
    const stage = idsStage(processing, exporter.process.bind(exporter), { batches: queues.begun, redisReturn });
    workers.push(new StageWorker({ ...common, host: processing, stage, queue: queues.processing() }));
  }
  return workers;
}

async function watchQueues(queues: readonly Queue[], redis: RedisConnection, { metrics, logger, lifecycle }: Context): Promise<void> {
  const gauges = new QueueGauges({ queues, redis, metrics, logger });
  lifecycle.defer("queue gauges", () => gauges.close());
  await gauges.start();
}
