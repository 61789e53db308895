/** The dashboard role: bull-board over every queue of ours. */
import { UnavailableError, connectRedis, defineRole, toError } from "@celery-metrics-exporter/runtime";
import type { FastifyInstance } from "fastify";
import type { AddressInfo } from "node:net";
import { registerBoard } from "./board.ts";
import { Config } from "./config.ts";
import { openQueues } from "./queues.ts";
import { createServer } from "./server.ts";

export const dashboard = defineRole({
  name: "dashboard",
  Config,
  async start({ config, logger, health, lifecycle }) {
    const redis = await connectRedis({
      url: config.REDIS_URL,
      use: "viewer",
      name: "dashboard-redis",
      startupTimeoutMs: config.STARTUP_TIMEOUT_SECONDS * 1000,
      logger,
      lifecycle,
      health,
    });
    const queues = openQueues({ redis, prefix: config.QUEUE_PREFIX, logger, lifecycle });
    const server = await createServer(config);
    lifecycle.defer("dashboard port", () => server.close());
    await registerBoard(server, { queues, readOnly: config.DASHBOARD_READ_ONLY, showTaskData: config.DASHBOARD_SHOW_TASK_DATA });
    const port = await listen(server, config);
    const host = config.DASHBOARD_HOST.includes(":") ? `[${config.DASHBOARD_HOST}]` : config.DASHBOARD_HOST;
    logger.info({ dashboardUrl: `http://${host}:${port}/`, readOnly: config.DASHBOARD_READ_ONLY }, "dashboard open");
  },
});

async function listen(server: FastifyInstance, { DASHBOARD_HOST: host, DASHBOARD_PORT: port }: Config): Promise<number> {
  try {
    await server.listen({ host, port });
  } catch (thrown) {
    const cause = toError(thrown);
    const reason = (cause as NodeJS.ErrnoException).code === "EADDRINUSE" ? "another program listens there" : cause.message;
    const message = `The dashboard cannot listen on ${host}:${port}: ${reason}. Choose another DASHBOARD_PORT or DASHBOARD_HOST.`;
    throw new UnavailableError(message, { cause });
  }
  return (server.server.address() as AddressInfo).port;
}
