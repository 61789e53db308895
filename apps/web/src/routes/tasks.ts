/** Lists of tasks. */
import { z } from "zod";
import { maySeeData } from "../access/user.ts";
import { TaskItem } from "../queries/columns.ts";
import { MAX_COUNT, countTasks } from "../queries/list-tasks.ts";
import { PREFIX, type Api, type ApiContext } from "./api.ts";
import { PageQuery, readPage, toListOptions } from "./list.ts";
import { PROBLEMS } from "./problem.ts";

const TaskPage = z
  .object({
    items: z.array(TaskItem),
    next: z.string().nullable().describe("The cursor of the next page; null at the end."),
    searched_to: z.iso
      .datetime()
      .nullable()
      .describe(
        "Tasks that are not older than this were all searched; null if all tasks were. Before the end of the range, the next page goes on.",
      ),
    count: z
      .object({ value: z.number().int(), more: z.boolean() })
      .nullable()
      .optional()
      .describe("With `count=true`. `more`: there are more than `value`. Null if counting would take too long."),
  })
  .meta({ id: "TaskPage" });

export function addTasks(api: Api, context: ApiContext): void {
  api.get(
    `${PREFIX}/tasks`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "listTasks",
        summary: "Lists tasks, newest first",
        description:
          "Filters also include `kwargs.<name>=<value>` and `args.<position>=<value>`, for arguments that are complete Python literals. " +
          "Filters by `status` (FAILURE, RETRY, REVOKED, REJECTED), `name`, `id`, `root` and `parent` use an index. For other filters the list is searched back in time for about 300 ms, and `searched_to` says how far.",
        querystring: PageQuery,
        response: { 200: TaskPage, ...PROBLEMS },
      },
    },
    async ({ query, user }) => {
      const { limit, cursor, count, ...filters } = query;
      return context.recent.get(["tasks", maySeeData(user), query], async () => {
        const page = await readPage(context, { filters, limit, cursor }, user);
        if (count === "false") return page;
        const counted = await context.searches.run(() => countTasks(context.reader, toListOptions(filters, user)));
        return { ...page, count: counted === undefined ? null : { value: Math.min(counted, MAX_COUNT), more: counted > MAX_COUNT } };
      });
    },
  );
}
