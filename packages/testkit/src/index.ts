/** Real servers, sinks and workers for tests. */
export { createDatabase, type TestDatabase } from "./databases.ts";
export { sharedPostgresUrl, sharedRabbitmqUrl, sharedRedisUrl } from "./shared-servers.ts";
export { createVhost, type TestVhost } from "./vhosts.ts";
export { PostgresServer, startPostgres } from "./services/postgres.mjs";
export { RabbitmqServer, startRabbitmq } from "./services/rabbitmq.mjs";
export { RedisServer, startRedis } from "./services/redis.mjs";
