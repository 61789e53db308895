/** Refuses requests, regardless of their sender. */
import { isAddressedToUs, isChange, isFromOurPages, refusal } from "@celery-metrics-exporter/access";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Config } from "./config.ts";

/** If the user edits a job, bull-board would store the shown data, which is decoded and partly hidden, as the job's data. */
const WRITES_JOB_DATA = /\/(add|update-data)$/;

export function addAdmission(server: FastifyInstance, config: Config): void {
  server.addHook("onRequest", async (request) => refuse(request, config));
}

/** Throws if a request must not be answered. Decides by method, not by route, so that routes added by a bull-board upgrade are covered too. */
function refuse(request: FastifyRequest, config: Config): void {
  const changes = isChange(request);
  if (changes && config.DASHBOARD_READ_ONLY) throw refusal(405, "The dashboard is read-only (DASHBOARD_READ_ONLY).");
  if (changes && WRITES_JOB_DATA.test(request.routeOptions.url ?? ""))
    throw refusal(405, "The data of jobs cannot be edited: only a part of it is shown.");
  if (changes && !isFromOurPages(request)) throw refusal(403, "Only the dashboard's own pages may make changes.");
  if (config.DASHBOARD_PASSWORD === undefined && !isAddressedToUs(request, config.DASHBOARD_ALLOWED_HOSTS)) {
    throw refusal(403, "Requests for this host are not answered without credentials (see DASHBOARD_ALLOWED_HOSTS).");
  }
}
