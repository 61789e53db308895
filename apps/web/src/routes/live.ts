/** A list that stays up to date, by server-sent events. */
import { sql } from "drizzle-orm";
import { z } from "zod";
import { maySeeData } from "../access/user.ts";
import { LiveViews } from "../load/live-views.ts";
import { TASK, TaskItem, selectList } from "../queries/columns.ts";
import { TaskFilters, beginningOf, withArguments } from "../queries/filters.ts";
import { isSearch, type Row } from "../queries/list-tasks.ts";
import { withStuck } from "../queries/stuck.ts";
import { PREFIX, type Api, type ApiContext } from "./api.ts";
import { runList, toListOptions } from "./list.ts";
import { PROBLEMS, problemOf } from "./problem.ts";

const LiveQuery = withArguments(
  TaskFilters.extend({
    limit: z.coerce
      .number({ error: "must be a number" })
      .int("must be a whole number")
      .min(1, "must be at least 1")
      .max(100, "must be at most 100")
      .default(50)
      .describe("How many of the newest tasks are watched."),
  }),
);

const INDEXED_MS = 1_000;
/** A search reads many rows. */
const SEARCH_MS = 5_000;

export function addLive(api: Api, context: ApiContext): void {
  const views = new LiveViews();
  // Before the server waits for its connections, of which these would never end.
  api.addHook("preClose", () => views.stop());
  api.get(
    `${PREFIX}/live`,
    {
      config: { role: "viewer", streams: true },
      schema: {
        operationId: "watchTasks",
        summary: "Sends the newest tasks of a list, and then each change, as server-sent events",
        description:
          "The filters of `/tasks`. Each event `tasks` has `{ reset, items }`: with `reset` all tasks of the list, otherwise those that are new or have changed. " +
          "A task that was sent is followed until it has finished. The list is read once a second; a list that has to be searched, every five seconds. " +
          "An event `problem` has a problem document. With `Last-Event-ID`, only missed events are sent, if they are still known.",
        querystring: LiveQuery,
        response: {
          200: { description: "Events, until the client disconnects.", content: { "text/event-stream": { schema: z.string() } } },
          ...PROBLEMS,
        },
      },
    },
    async ({ query, user, headers }, reply) => {
      const { limit, ...filters } = query;
      const options = toListOptions(filters, user);
      const withData = maySeeData(user);
      const lastEventId = headers["last-event-id"];
      const events = views.open(
        {
          key: JSON.stringify([withData, query]),
          everyMs: isSearch(options.plan) ? SEARCH_MS : INDEXED_MS,
          list: async () => (await runList(context, { ...options, from: beginningOf(filters), limit, after: undefined })).items,
          byId: async (ids) =>
            withStuck(
              context.reader,
              await context.reader.read<Row>(
                sql`select ${await selectList(context.reader, TaskItem, withData)} from ${TASK} where task_id in ${ids}`,
              ),
            ),
          toProblem: problemOf,
        },
        typeof lastEventId === "string" ? lastEventId : undefined,
      );
      return reply
        .type("text/event-stream")
        .header("x-accel-buffering", "no")
        .send(events as unknown as string);
    },
  );
}
