/** What the navigation of the web page shows beside its entries, in one answer. */
import { z } from "zod";
import { maySeeData } from "../access/user.ts";
import { DataHealth } from "../queries/data-health.ts";
import { countGrowing } from "../queries/queue-flow.ts";
import { readWorkers } from "../queries/workers.ts";
import { PREFIX, type Api, type ApiContext } from "./api.ts";
import { failuresOf, namesOf } from "./overview.ts";
import { PROBLEMS } from "./problem.ts";
import { dataHealthOf } from "./statistics.ts";

const WORKERS_HOURS = 24;
export const Counts = z.object({
  failure_groups: z.number().int().describe("Groups of failures in the last 24 hours, as `/failures` lists them."),
  task_types: z.number().int().describe("Names of tasks, at most 1,000."),
  workers: z.number().int().describe("Workers that were heard in the last 24 hours."),
  workers_lost: z.number().int().describe("Of these, workers that fell silent without a word."),
  queues: z.number().int().describe("Queues that were observed in the last 15 minutes."),
  queues_growing: z.number().int().describe("Of these, queues that grow, as `/queues` says in `lately`."),
  health: DataHealth,
});

export function addCounts(api: Api, context: ApiContext): void {
  const { reader, lasting } = context;
  api.get(
    `${PREFIX}/counts`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "getCounts",
        summary: "Counts what needs a look: failures, lost workers, growing queues",
        description: "At most twenty seconds old. What `/failures`, `/names` and `/health-of-data` have answered lately is not read again.",
        response: { 200: Counts, ...PROBLEMS },
      },
    },
    ({ user }) =>
      lasting.get(["counts", maySeeData(user)], async () => {
        const [failures, { names }, workers, { queues, growing }, health] = await Promise.all([
          failuresOf(context, user),
          namesOf(context),
          readWorkers(reader, { name: undefined, silentHours: WORKERS_HOURS }),
          countGrowing(reader),
          dataHealthOf(context),
        ]);
        return {
          failure_groups: failures.groups,
          task_types: names.length,
          workers: workers.length,
          workers_lost: workers.filter(({ state }) => state === "lost").length,
          queues,
          queues_growing: growing,
          health,
        };
      }),
  );
}
