/** Real servers, sinks and workers, for tests and the demo. */
export { createDatabase, type TestDatabase } from "./servers/databases.ts";
export { sharedPostgresUrl, sharedRabbitmqTlsPort, sharedRabbitmqUrl, sharedRedisUrl } from "./servers/shared-servers.ts";
export { createVhost, type TestVhost } from "./servers/vhosts.ts";
export { countingNeedsRight } from "./servers/rabbitmq-version.ts";
export { certificate } from "./services/certificates.mjs";
export { findPostgres, PostgresServer, startPostgres } from "./services/postgres.mjs";
export { checkMetrics, PrometheusServer, promtool, startPrometheus } from "./services/prometheus.mjs";
export { addUser, RabbitmqServer, setPermissions, startRabbitmq } from "./services/rabbitmq.mjs";
export { RedisServer, startRedis } from "./services/redis.mjs";
export { RedisCluster, startRedisCluster, type RedisClusterOptions } from "./servers/redis-cluster.ts";
export { SentinelServer, startSentinel } from "./services/sentinel.mjs";
export { bundleProgram } from "./bundled-program.ts";
export { launchChromium } from "./chromium.ts";
export { SOAK, scaled } from "./scale.ts";
export {
  DogstatsdSyntaxError,
  type DogstatsdMessage,
  type DogstatsdMetric,
  type MetricType,
  parseDatagram,
  parseLine,
} from "./statsd/dogstatsd.ts";
export {
  listenForStatsd,
  type StatsdDatagram,
  type StatsdListener,
  type StatsdSink,
  type StatsdSinkOptions,
  startStatsdSink,
} from "./statsd/statsd-sink.ts";
export {
  connectPublisher,
  type Frame,
  type Publisher,
  publishToRabbitmq,
  publishToRedis,
  toFrames,
  toSingleFrames,
  type WireEvent,
} from "./celery/event-publisher.ts";
export { ChildProgram, SHORT_LIVED, startProgram, type Program, type RunningProgram } from "./child-program.ts";
export {
  celeryEnvironment,
  type CeleryWorker,
  type CeleryWorkerOptions,
  requireCeleryPython,
  startCeleryWorker,
  WORKER_IS_READY,
} from "./celery/celery-worker.ts";
export { CELERY_FOLDER, findCeleryPython } from "./services/celery.mjs";
export { DatagramThread } from "./services/datagram-thread.mjs";
export { removeFolder, temporaryFolder } from "./services/folders.mjs";
export { freePort } from "./services/ports.mjs";
export { findProgram } from "./services/programs.mjs";
export { TcpProxy } from "./network/tcp-proxy.ts";
export { MortalLink } from "./network/mortal-link.ts";
export { setPostgresReadOnly, setRedisFull } from "./servers/refusing-servers.ts";
export { randomBatches, seededRandom, shuffled } from "./seeded-random.ts";
export {
  driveShop,
  ENDINGS_QUEUES,
  sendEndings,
  sendPrioritized,
  type ShopDriverOptions,
  type ShopReport,
  type ShopTask,
} from "./celery/drivers.ts";
export { type CommandRecord, recordCommands } from "./servers/command-record.ts";
export {
  documentedCommands,
  documentedRabbitmqPermissions,
  documentedStatements,
  grantDocumented,
  type RabbitmqPermissions,
} from "./servers/documented-permissions.ts";
export { byTask, parseScrape, type Scrape } from "./scrape.ts";
