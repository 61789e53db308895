/** What the navigation of the web page shows beside its entries, in one answer. */
import { z } from "zod";
import { maySeeData } from "../access/user.ts";
import { DataHealth } from "../queries/data-health.ts";
import { readQueues, type Queue } from "../queries/queues.ts";
import { readWorkers } from "../queries/workers.ts";
import { PREFIX, type Api, type ApiContext } from "./api.ts";
import { failuresOf, namesOf } from "./overview.ts";
import { PROBLEMS } from "./problem.ts";
import { dataHealthOf } from "./statistics.ts";

const WORKERS_HOURS = 24;
const QUEUE_MINUTES = 15;
export const Counts = z.object({
  failure_groups: z.number().int().describe("Groups of failures in the last 24 hours, as `/failures` lists them."),
  task_types: z.number().int().describe("Names of tasks, at most 1,000."),
  workers: z.number().int().describe("Workers that were heard in the last 24 hours."),
  workers_lost: z.number().int().describe("Of these, workers that fell silent without a word."),
  queues: z.number().int().describe("Queues that were observed in the last 15 minutes."),
  queues_growing: z.number().int().describe("Of these, queues that grow by a message a minute or more."),
  health: DataHealth,
});

/** Lengths go up and down. A queue grows if it was longer all the last third of the time than ever in the first, by a message a minute. */
function isGrowing({ lengths }: Queue): boolean {
  const known = lengths.filter((length) => length !== null);
  const third = Math.floor(known.length / 3);
  return third > 0 && Math.min(...known.slice(-third)) - Math.max(...known.slice(0, third)) >= third;
}

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
        const from = new Date(Math.floor(Date.now() / 60_000 - QUEUE_MINUTES) * 60_000);
        const [failures, { names }, workers, queues, health] = await Promise.all([
          failuresOf(context, user),
          namesOf(context),
          readWorkers(reader, { name: undefined, silentHours: WORKERS_HOURS }),
          readQueues(reader, { from, stepMinutes: 1, steps: QUEUE_MINUTES + 1 }),
          dataHealthOf(context),
        ]);
        return {
          failure_groups: failures.items.length,
          task_types: names.length,
          workers: workers.length,
          workers_lost: workers.filter(({ state }) => state === "lost").length,
          queues: queues.items.length,
          queues_growing: queues.items.filter(isGrowing).length,
          health,
        };
      }),
  );
}
