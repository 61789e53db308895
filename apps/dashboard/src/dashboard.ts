/** The dashboard role: bull-board over all our queues. */
import { defineRole, listen, openRedis, type Role } from "@celery-metrics-exporter/runtime";
import { registerBoard } from "./board.ts";
import { Config } from "./config.ts";
import { openQueues } from "./queues.ts";
import { createServer } from "./server.ts";

/** @param onOpen receives the address of the page, once it answers. */
export function dashboardRole(onOpen: (url: string) => void = () => {}): Role<typeof Config> {
  return defineRole({
    name: "dashboard",
    healthPort: 9804,
    Config,
    async start(context) {
      const { config, logger, lifecycle } = context;
      const redis = await openRedis(context, { use: "viewer", name: "dashboard-redis" });
      const queues = await openQueues({ redis, prefix: config.QUEUE_PREFIX, logger, lifecycle });
      const server = await createServer(config, logger);
      lifecycle.defer("dashboard port", () => server.close());
      await registerBoard(server, { queues, readOnly: config.DASHBOARD_READ_ONLY, showTaskData: config.DASHBOARD_SHOW_TASK_DATA });
      const address = { host: config.DASHBOARD_HOST, port: config.DASHBOARD_PORT, settings: "DASHBOARD_PORT or DASHBOARD_HOST" };
      const dashboardUrl = `${await listen(server, address)}/`;
      logger.info({ dashboardUrl, readOnly: config.DASHBOARD_READ_ONLY }, "listening");
      onOpen(dashboardUrl);
    },
  });
}

export const dashboard = dashboardRole();
