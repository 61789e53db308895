/** One task and its tree. */
import { OUTCOMES, storableText } from "@celery-metrics-exporter/db";
import { z } from "zod";
import { maySeeData } from "../access/user.ts";
import { TaskDetail } from "../queries/columns.ts";
import { TaskEvent, TaskLink, findTask, readTaskEvents } from "../queries/find-task.ts";
import { TreeNode, readTree } from "../queries/tree.ts";
import { PREFIX, type Api, type ApiContext } from "./api.ts";
import { PROBLEMS, notFound } from "./problem.ts";

const params = z.object({ id: z.string().min(1).max(1_000).transform(storableText) });

const instant = z.iso.datetime().nullable();
const text = z.string().nullable();

const Attempt = z
  .object({
    number: z.number().int().describe("From 1, in the order of starts by the clocks of their workers."),
    worker: text,
    queue: text,
    received_at: instant.describe("Of a message that was delivered again, only known with `POSTGRES_HISTORY=all`."),
    started_at: instant,
    ended_at: instant,
    outcome: z
      .enum(OUTCOMES)
      .describe(
        "`retry`: the task is sent again. `replaced`: it called `self.replace(…)`. `revoked`: before it started, then without `started_at`, or terminated; `revoked_by` of the task says why. " +
          "`lost`: its end was never reported and its worker is gone, or another attempt ended since; perhaps the task raised `Ignore`, which no event reports. `running`: nothing of this is known. `waiting`: not started yet.",
      ),
    exception: text.describe("Only for `failure` and `retry`, like `traceback`. Null for a `viewer`."),
    traceback: text.describe("Null for a `viewer`."),
  })
  .meta({ id: "Attempt" });

const Events = z
  .object({
    items: z.array(TaskEvent).describe("In the order of their times, up to 1,000."),
    history: z
      .enum(["all", "unusual"])
      .nullable()
      .describe(
        "How much `POSTGRES_HISTORY` stored of this task, as far as its events show. `all`: every event. `unusual`: only what its row cannot show, such as retries. " +
          "Null: no event, because the history is `off`, is `unusual` and nothing unusual happened, or because `POSTGRES_HISTORY_DAYS` are over.",
      ),
    truncated: z.boolean().describe("Whether there are more than 1,000 events."),
  })
  .meta({ id: "TaskEvents" });

export const Task = TaskDetail.extend({
  attempts: z.array(Attempt),
  parent: TaskLink.nullable().describe("The task that sent it; null if it is not known."),
  children: z.array(TaskLink).describe("The tasks that it sent, up to 100."),
  more_children: z.boolean(),
}).meta({ id: "Task" });

export const Tree = z
  .object({
    root: z.string().describe("The id of the first task. Its row may be unknown."),
    nodes: z.array(TreeNode).describe("The tasks, earliest first. A `parent_id` may be unknown; following parents always ends."),
    truncated: z.boolean().describe("Whether there are more than 5,000 tasks."),
  })
  .meta({ id: "Tree" });

export function addTask(api: Api, context: ApiContext): void {
  api.get(
    `${PREFIX}/tasks/:id`,
    {
      config: { role: "viewer" },
      schema: { operationId: "getTask", summary: "Shows one task", params, response: { 200: Task, ...PROBLEMS } },
    },
    async ({ params: { id }, user }) => {
      const withData = maySeeData(user);
      const found = await context.recent.get(["task", withData, id], () => findTask(context.reader, id, withData));
      if (found === undefined) throw notFound("This task");
      const { task, ...around } = found;
      return { ...task, ...around, children: [...around.children], attempts: [...around.attempts] };
    },
  );
  api.get(
    `${PREFIX}/tasks/:id/events`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "listTaskEvents",
        summary: "Lists the stored events of a task",
        params,
        response: { 200: Events, ...PROBLEMS },
      },
    },
    async ({ params: { id }, user }) => {
      const withData = maySeeData(user);
      const events = await context.recent.get(["events", withData, id], () => readTaskEvents(context.reader, id, withData));
      if (events === undefined) throw notFound("This task");
      return events;
    },
  );
  api.get(
    `${PREFIX}/tasks/:id/tree`,
    {
      config: { role: "viewer" },
      schema: {
        operationId: "getTree",
        summary: "Shows the tree that contains a task, with the times of a waterfall",
        params,
        response: { 200: Tree, ...PROBLEMS },
      },
    },
    async ({ params: { id } }, reply) => {
      const tree = await context.recent.get(["tree", id], () => readTree(context.reader, id));
      if (tree === undefined) throw notFound("This task");
      // Thousands of nodes are not checked again: they have just the columns of the schema.
      reply.serializer(JSON.stringify);
      return tree;
    },
  );
}
