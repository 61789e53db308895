/** The servers of a run: private, with the settings that we recommend for production. */
import {
  startPostgres,
  startRabbitmq,
  startRedis,
  type PostgresServer,
  type RabbitmqServer,
  type RedisServer,
} from "@celery-metrics-exporter/testkit";

export interface Servers {
  readonly rabbitmq: RabbitmqServer;
  /** Celery's broker, if it is a Redis. */
  readonly brokerRedis: RedisServer;
  /** Redis for the exporter queues and the Store. */
  readonly redis: RedisServer;
  readonly postgres: PostgresServer;
  stop(): Promise<void>;
}

/** Makes PostgreSQL record when each transaction was committed, which gives the lag of every row. */
const POSTGRES_ARGS = ["-c", "track_commit_timestamp=on", "-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB"];

export async function startServers(): Promise<Servers> {
  const [rabbitmq, brokerRedis, redis, postgres] = await Promise.all([
    startRabbitmq(),
    startRedis(),
    startRedis({ args: ["--appendonly", "yes", "--maxmemory-policy", "noeviction"] }),
    startPostgres({ args: POSTGRES_ARGS }),
  ]);
  return {
    rabbitmq,
    brokerRedis,
    redis,
    postgres,
    stop: async () => {
      await Promise.all([rabbitmq.stop(), brokerRedis.stop(), redis.stop(), postgres.stop()]);
    },
  };
}
